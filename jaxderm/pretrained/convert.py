"""A publisher's weights into a file of our own."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxderm.cost import feature_maps
from jaxderm.models import encoders
from jaxderm.pretrained import files, names
from jaxderm.pretrained.files import File, WeightsError
from jaxderm.pretrained.load import fit_encoder
from jaxderm.pretrained.table import Table, places, source


class Found(NamedTuple):
  """An encoder that a file fits."""

  name: str
  table: Table
  variables: Any


def convert(
  path: str | os.PathLike,
  out: str | os.PathLike,
  name: str | None = None,
  origin: str | None = None,
) -> str:
  """Writes a publisher's weights as a file of ours.

  The file holds what it was made from (name, SHA-256), and the normalisation
  of the input that its weights expect.

  Args:
    path: As `load` takes it.
    out: A `.safetensors` file to be written.
    name: Of the encoder; found from the file if None.
    origin: The same, where a file fits more than one.

  Returns:
    What was done, for a person.

  Raises:
    FileNotFoundError: There is no such file.
    WeightsError: as `load`; or no encoder, or more than one, fits the file.
    ValueError: `out` has another ending, or no encoder has this name.
  """
  out = pathlib.Path(out)
  if out.suffix != '.safetensors':
    raise ValueError(f'{out}: the file to be written must end in .safetensors')
  if name is not None and name not in encoders.__all__:
    raise ValueError(
      f'no encoder is called {name!r}; there are: {", ".join(encoders.__all__)}'
    )
  file = files.read(path)
  if file.kind == 'jaxderm':
    raise WeightsError(f'{file.path}: it is a file of jaxderm already')
  found = identify(file, [name] if name else encoders.__all__, origin)
  leaves = places(found.variables)
  table = found.table
  files.write_safetensors(
    out,
    {'/'.join(place): np.asarray(leaf) for place, leaf in leaves.items()},
    {
      'jaxderm': '1',
      'encoder': found.name,
      'origin': table.origin or '',
      'normalisation': table.normalisation,
      'folded': str(table.folded is not None),
      'library': table.library,
      'source': file.path.name,
      'source_sha256': file.sha256,
    },
  )
  choice = f" with origin='{table.origin}'" if table.origin else ''
  return (
    f'{out}: {len(leaves)} tensors of {found.name}{choice}, from '
    f'{file.path.name} ({table.library}, sha256 {file.sha256}); the input is '
    f'normalised as {table.normalisation!r}'
  )


def identify(
  file: File, members: Sequence[str], origin: str | None = None
) -> Found:
  """The one encoder that a file fits.

  Raises:
    WeightsError: None does, or several do.
  """
  found: list[Found] = []
  counts: dict[tuple[type, int], int] = {}
  for name in members:
    encoder = getattr(encoders, name)()
    for i, table in enumerate(names.of(encoder)):
      if origin not in (None, table.origin):
        continue
      if not table.resembles(file.tensors):
        continue
      # The first member of a family tells whether its layers are called so.
      family = type(encoder), i
      if counts.get(family, len(file.tensors)) < len(file.tensors) / 4:
        continue
      variables, counts[family] = _fit_all(file, encoder, table)
      if variables is not None:
        found.append(Found(name, table, variables))
  if len(found) == 1:
    return found[0]
  if len(members) == 1 and not found:
    load_error = f'it is not {members[0]}; `load` tells what does not fit'
    raise WeightsError(f'{file.path}: {load_error}')
  which = ', '.join(
    f'{f.name} of {f.table.library} (origin {f.table.origin})' for f in found
  )
  raise WeightsError(
    f'{file.path}: {which or "no encoder"} fits it; there must be one. Name it '
    'with --encoder and --origin.'
  )


def _fit_all(
  file: File, encoder: nn.Module, table: Table
) -> tuple[Any | None, int]:
  """Variables with the classifier if the file has one, and how many it has."""
  if table.origin is not None and hasattr(encoder, 'origin'):
    encoder = encoder.clone(origin=table.origin)
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  maps = list(feature_maps(encoder, image))
  whole = encoder.clone(taps=(maps[-1],))
  classes = _classes(file, whole, table, image)
  if classes is not None:
    whole = whole.clone(classes=classes)
  elif maps[-1] == 'predictions':
    whole = encoder.clone(taps=(maps[-2],))
  fitted = fit_encoder(file, whole, table)
  return fitted.variables, fitted.found


def _classes(
  file: File, encoder: nn.Module, table: Table, image: Any
) -> int | None:
  """Classes of the file's classifier; None if it has none."""
  if encoder.taps != ('predictions',):
    return None
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), image)
  for place, leaf in places(shapes).items():
    if place[-1] == 'bias' and leaf.shape == (encoder.classes,):
      for name in source(table, place, False, leaf.shape).names:
        if name in file.tensors:
          return file.tensors[name].size
  return None
