"""Arrays of a file into the variables of an encoder, or not at all."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxderm.pretrained.table import (
  Adapter,
  Table,
  norms,
  ours,
  places,
  source,
  theirs,
)


class Fit(NamedTuple):
  """What came of it.

  Attributes:
    variables: Like the template, NumPy arrays in its types; None where there
      are problems.
    dropped: Tensors of layers that the encoder does not build.
    adapted: One line for each tensor that was given another shape.
    problems: One line for each tensor that is missing, left over or misshapen.
    found: How many variables of the whole network the file has, of whatever
      shape.
  """

  variables: Any
  dropped: tuple[str, ...]
  adapted: tuple[str, ...]
  problems: tuple[str, ...]
  found: int


def fit(
  template: Any, whole: Any, tensors: Mapping[str, np.ndarray], table: Table
) -> Fit:
  """Fills the variables of an encoder.

  Args:
    template: {'params', 'batch_stats'} of the encoder up to its last tap, as
      `jax.eval_shape` gives them.
    whole: The same of the encoder with all its layers: a tensor that is for
      one of them is dropped, any other is left over.
    tensors: Of the file.
    table: How the file calls them.
  """
  if table.repair is not None:
    tensors = table.repair(tensors)
  needed, every = places(template), places(whole)
  normalised = norms(every)
  filled: dict = {}
  dropped, adapted, problems = [], [], []
  used = set()
  for place, leaf in every.items():
    norm = place[1:-1] in normalised
    names, constant = source(table, place, norm, leaf.shape)
    name = next((n for n in names if n in tensors), None)
    used.add(name)
    if name is None:
      if constant is not None:
        filled[place] = np.full(leaf.shape, constant, leaf.dtype)
      elif place in needed:
        wanted = ' or '.join(names) or '/'.join(place)
        problems.append(f'missing: {wanted} {list(leaf.shape)}')
      continue
    if place not in needed:
      dropped.append(name)
      continue
    value = ours(tensors[name], table.style, leaf.shape)
    fitting = _adapt(value, leaf.shape, table.adapters.get('/'.join(place[1:])))
    if fitting is not None:
      adapted.append(
        f'{name} {list(tensors[name].shape)} to {list(leaf.shape)}'
      )
      value = fitting
    if value.shape != leaf.shape:
      problems.append(
        f'shape of {name}: {list(value.shape)} in our order, expected '
        f'{list(leaf.shape)}'
      )
    filled[place] = value.astype(leaf.dtype)
  over = [n for n in tensors if n not in used and table.counts(n)]
  problems += [f'left over: {n} {list(tensors[n].shape)}' for n in over]
  variables = None
  if not problems:
    leaves = [filled[place] for place in needed]
    variables = jax.tree.unflatten(jax.tree.structure(template), leaves)
  return Fit(
    variables,
    tuple(dropped),
    tuple(adapted),
    tuple(problems),
    len(used - {None}),
  )


def _adapt(
  value: np.ndarray, shape: tuple[int, ...], adapter: Adapter | None
) -> np.ndarray | None:
  """The array in the shape wanted; None if it has it, or cannot have it."""
  if value.shape == shape or adapter is None:
    return None
  return adapter(value, shape)


def rename(
  variables: Any, shapes: Mapping[str, Collection[int]], table: Table
) -> dict[str, np.ndarray]:
  """Our variables by the names and in the shapes of another library.

  Args:
    variables: Of an encoder.
    shapes: The other network's tensors by name.
    table: How it calls them.

  Raises:
    KeyError: naming a variable that the other network does not have, and that
      is not the constant which the table has in its place.
  """
  found = places(variables)
  normalised = norms(found)
  renamed = {}
  for place, value in found.items():
    norm = place[1:-1] in normalised
    names, constant = source(table, place, norm, value.shape)
    if constant is not None and np.allclose(value, constant):
      continue
    name = next((n for n in names if n in shapes), None)
    if name is None:
      raise KeyError(f'{"/".join(place)}: none of {names} is there')
    renamed[name] = theirs(np.asarray(value), table.style, shapes[name])
  return renamed
