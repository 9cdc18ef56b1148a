"""Weights of other libraries into variables of ours.

Each library has one function from the place of a variable in our tree to the
name it has there and the order of its axes. A family whose modules bear the
library's names needs nothing more.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

# What a variable of ours is called in Keras, by its collection and its name in
# a layer with batch normalisation; other layers have the same names as ours.
KERAS_NORM = {
  ('params', 'scale'): 'gamma',
  ('params', 'bias'): 'beta',
  ('batch_stats', 'mean'): 'moving_mean',
  ('batch_stats', 'var'): 'moving_variance',
}


class Source(NamedTuple):
  """Where a variable comes from, and the order of axes that makes it ours."""

  name: str
  axes: tuple[int, ...] | None = None


def from_keras(
  variables: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Fills the variables of an encoder whose modules bear Keras' names.

  Args:
    variables: {'params', 'batch_stats'} of the encoder: arrays, or their
      shapes as `jax.eval_shape` gives them.
    weights: Arrays by 'layer/weight', as `weight.path` has them.

  Returns:
    A tree like `variables`, of NumPy arrays in its types.

  Raises:
    ValueError: naming every weight that is missing, left over or misshapen.
  """
  places = jax.tree_util.tree_flatten_with_path(variables)[0]
  keys = [tuple(entry.key for entry in path) for path, _ in places]
  norms = {
    key[1:-1] for key in keys if (key[0], key[-1]) == ('batch_stats', 'var')
  }
  filled: dict[tuple[str, ...], np.ndarray] = {}
  problems: list[str] = []
  used = set()
  for key, (_, leaf) in zip(keys, places, strict=True):
    source = _keras_source(key, leaf.shape, key[1:-1] in norms)
    if source.name not in weights:
      problems.append(f'missing: {source.name} {leaf.shape}')
      continue
    used.add(source.name)
    value = np.asarray(weights[source.name])
    if source.axes is not None and value.ndim == len(source.axes):
      value = value.transpose(source.axes)
    if value.shape != leaf.shape:
      problems.append(
        f'shape of {source.name}: {value.shape}, expected {leaf.shape}'
      )
      continue
    filled[key] = value.astype(leaf.dtype)
  problems += [f'left over: {name}' for name in weights if name not in used]
  if problems:
    raise ValueError(
      f'{len(problems)} Keras weights do not fit:\n' + '\n'.join(problems)
    )
  leaves = [filled[key] for key in keys]
  return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def _keras_source(
  key: tuple[str, ...], shape: tuple[int, ...], norm: bool
) -> Source:
  collection, *layers, name = key
  layer = '/'.join(layers)
  if norm:
    return Source(f'{layer}/{KERAS_NORM[collection, name]}')
  if name == 'kernel' and shape[0] > 1 and shape[2:3] == (1,):
    return Source(f'{layer}/kernel', (0, 1, 3, 2))  # depthwise: [k, k, C, 1]
  return Source(f'{layer}/{name}')
