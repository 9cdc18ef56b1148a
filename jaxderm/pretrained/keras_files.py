"""Names of the weights in files of Keras, as a fresh session would give them.

Keras writes three layouts. The old `.h5` names each weight. `.weights.h5` has
numbers instead: `layers/conv2d_1/vars/0` is the first weight of the second
Conv2D, whose name stands beside it. `.keras` is a zip of such a file and of
`config.json`, which describes the layers.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxderm.pretrained.h5_files import Tree, read_h5
from jaxderm.pretrained.limits import (
  WeightsError,
  members,
  parse_json,
  read_member,
)

_CONV = (('kernel',), ('kernel', 'bias'))
_SEPARABLE = tuple(
  ('depthwise_kernel', 'pointwise_kernel', *bias) for bias in ((), ('bias',))
)
_NORM = (('gamma', 'beta'),)
_STATISTICS = ('moving_mean', 'moving_variance')
# Weights of each kind of layer in Keras' order, one row for each number of
# them. Where the number does not tell, `config.json` must.
_WEIGHTS = {
  'conv1d': _CONV,
  'conv2d': _CONV,
  'conv3d': _CONV,
  'conv2d_transpose': _CONV,
  'depthwise_conv1d': _CONV,
  'depthwise_conv2d': _CONV,
  'separable_conv1d': _SEPARABLE,
  'separable_conv2d': _SEPARABLE,
  'dense': _CONV,
  'batch_normalization': (
    ('gamma', 'beta', *_STATISTICS),
    ('beta', *_STATISTICS),  # InceptionResNetV2 does not scale
    _STATISTICS,
  ),
  'layer_normalization': _NORM,
  'group_normalization': _NORM,
  'normalization': (('mean', 'variance', 'count'),),
  'p_re_lu': (('alpha',),),
  'embedding': (('embeddings',),),
}
# Keras 1, which wrote the files of VGG16 and Xception.
_OLD_WEIGHTS = {
  'W': 'kernel',
  'b': 'bias',
  'gamma': 'gamma',
  'beta': 'beta',
  'depthwise_kernel': 'depthwise_kernel',
  'pointwise_kernel': 'pointwise_kernel',
  'running_mean': 'moving_mean',
  'running_std': 'moving_variance',  # it was the variance even then
}
_OLD_LAYERS = {
  'convolution2d': 'conv2d',
  'separableconvolution2d': 'separable_conv2d',
  'batchnormalization': 'batch_normalization',
}
# State of a training, not of its network.
_NO_WEIGHTS = {'optimizer', 'metrics', '_metrics', 'seed_generator'}
_H5 = 'model.weights.h5'


def read_keras_h5(source: Any, stored: int) -> dict[str, np.ndarray]:
  """Weights of an `.h5` or `.weights.h5` by 'layer/weight'.

  Args:
    source: The file, or its bytes.
    stored: Their number.
  """
  return renumber(_named(read_h5(source, stored), {}))


def read_keras_zip(
  archive: zipfile.ZipFile, stored: int
) -> dict[str, np.ndarray]:
  """Weights of a `.keras` by 'layer/weight'.

  Args:
    archive: The zip.
    stored: Bytes of the file.
  """
  found = members(archive, stored)
  if _H5 not in found:
    raise WeightsError(f'there is no {_H5} in it, only {sorted(found)}')
  config = parse_json(
    read_member(archive, found['config.json']), 'its config.json'
  )
  data = read_member(archive, found[_H5])
  layers = dict(_layers(config, ''))
  return renumber(_named(read_h5(io.BytesIO(data), len(data)), layers))


def _layers(model: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Where each layer's weights are in the file, and its configuration."""
  config = model.get('config', {})
  counts: Counter[str] = Counter()
  for layer in config.get('layers', ()):
    kind = _snake_case(layer['class_name'])
    number = counts[kind]
    counts[kind] += 1
    below = f'{path}layers/{kind}' + (f'_{number}' if number else '')
    yield below, layer['config']
    yield from _layers(layer, f'{below}/')


def _named(
  tree: Tree, layers: Mapping[str, Mapping[str, Any]]
) -> dict[str, np.ndarray]:
  """Arrays by 'layer/weight'.

  Args:
    tree: The file.
    layers: Configurations of its layers by path, where they are known.
  """
  names = (
    _old_names(tree) if tree.lists['weight_names'] else _new_names(tree, layers)
  )
  if not names:
    raise WeightsError(
      'it is an HDF5 file without weights of Keras: no group has an attribute '
      "`weight_names`, none is called 'vars'"
    )
  twice = [name for name, n in Counter(names.values()).items() if n > 1]
  if twice:
    raise WeightsError(
      f'two of its weights are called {twice[0]}; give the layers of the '
      'models in it names of their own and save it again'
    )
  return {name: tree.arrays[path] for path, name in names.items()}


def _old_names(tree: Tree) -> dict[str, str]:
  """Names in the old layout: what follows a layer's group is the weight."""
  whole = 'model_weights' in tree.lists['layer_names']
  root = 'model_weights/' if whole else ''
  layers = tree.lists['weight_names']
  names = {}
  found: Counter[str] = Counter()
  for path in tree.arrays:
    parts = path.split('/')
    groups = ('/'.join(parts[:i]) for i in range(len(parts) - 1, 0, -1))
    group = next((g for g in groups if g in layers), None)
    if group is not None and group.startswith(root):
      names[path] = _old_name(group.removeprefix(root), path[len(group) + 1 :])
      found[group] += 1
  # HDF5 guards its lists of groups by no sum; these are Keras' own.
  own = {
    group: number
    for group, number in layers.items()
    if group.startswith(root) and not group.endswith('top_level_model_weights')
  }
  if len(own) != tree.lists['layer_names'].get(root.rstrip('/')):
    raise WeightsError(f'its `layer_names` are not the {len(own)} that it has')
  for group, number in own.items():
    if found[group] != number:
      raise WeightsError(
        f'{group} lists {number} weights and has {found[group]}'
      )
  return names


def _old_name(group: str, weight: str) -> str:
  """Layer and weight, such as conv1 and conv1/conv1/kernel:0."""
  *scopes, last = weight.split('/')
  last = last.split(':')[0]
  scope = '/'.join(['', *scopes])
  # A model within a model is one group; its layers are the scopes.
  layer = group if not scopes or scope.endswith(f'/{group}') else scopes[-1]
  old = re.fullmatch(rf'{re.escape(layer)}_(\w+?)(_\d+)?', last)
  if old and old[1] in _OLD_WEIGHTS:
    last = _OLD_WEIGHTS[old[1]]
  # Keras 3 has no '/' in names, and wrote '_' for those that had.
  return f'{layer.replace("/", "_")}/{last}'


def _new_names(
  tree: Tree, layers: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
  """Names in the layout of Keras 3."""
  groups: dict[str, list[str]] = {}
  for path in tree.arrays:
    group, _, index = path.rpartition('/')
    if group.endswith('vars') and not _NO_WEIGHTS & set(group.split('/')):
      if not re.fullmatch(r'0|[1-9]\d{0,3}', index):
        raise WeightsError(f'{path} has no number; expected {group}/0, ...')
      groups.setdefault(group, []).append(index)
  names = {}
  for group, indices in groups.items():
    layer = group.removesuffix('vars').rstrip('/')
    # What the first versions of Keras 3 said instead of 'layers'.
    place = layer.replace('_layer_checkpoint_dependencies', 'layers')
    config = layers.get(place, {})
    name = tree.names.get(group) or config.get('name')
    if not isinstance(name, str):
      raise WeightsError(
        f'the layer at {layer} has no name: this Keras wrote none. Save the '
        "model whole, by model.save('name.keras')"
      )
    kind = re.sub(r'_\d+$', '', place.rpartition('/')[2])
    weights = _weights(kind, len(indices), config)
    for order, index in enumerate(sorted(indices, key=int)):
      if int(index) != order:
        raise WeightsError(f'{group}/{order} is missing')
      names[f'{group}/{index}'] = f'{name.replace("/", "_")}/{weights[order]}'
  return names


def _weights(kind: str, number: int, config: Mapping[str, Any]) -> list[str]:
  """What the weights of a layer are called; numbers, where nobody knows."""
  without = {'gamma'} if config.get('scale') is False else set()
  without |= {'beta'} if config.get('center') is False else set()
  for row in _WEIGHTS.get(kind, ()):
    names = [name for name in row if name not in without]
    if len(names) == number:
      return names
  return [str(i) for i in range(number)]


def renumber(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Gives layers that Keras named itself the numbers of a fresh session.

  Keras counts on through a session, so that the first Conv2D of a second
  network may be `conv2d_17`, and TensorFlow 1 began at `conv2d_1`.

  Args:
    tensors: By 'layer/weight'.

  Returns:
    The same, where the first of each kind has no number and the next is `_1`.
  """
  numbers: dict[str, set[int]] = {}
  for name in tensors:
    stem, number = _automatic(name.split('/')[0])
    numbers.setdefault(stem, set()).add(number)
  ranks = {
    (stem, number): f'_{rank}' if rank else ''
    for stem, found in numbers.items()
    if stem in _WEIGHTS
    for rank, number in enumerate(sorted(found))
  }
  renamed = {}
  for name, value in tensors.items():
    layer, weight = name.split('/', 1)
    stem, number = _automatic(layer)
    if stem in _WEIGHTS:
      layer = stem + ranks[stem, number]
    renamed[f'{layer}/{weight}'] = value
  if len(renamed) < len(tensors):
    raise WeightsError('two of its layers that Keras named are the same')
  return renamed


def _automatic(layer: str) -> tuple[str, int]:
  """Stem and number of a name such as conv2d_17; 0 where it has none."""
  match = re.fullmatch(r'(.+?)_([1-9]\d{0,8})', layer)
  stem, number = (match[1], int(match[2])) if match else (layer, 0)
  return _OLD_LAYERS.get(stem, stem), number


def _snake_case(name: str) -> str:
  """What Keras calls a layer of this class."""
  name = re.sub(r'\W+', '', name.rpartition('>')[2])
  name = re.sub(r'(.)([A-Z][a-z]+)', r'\1_\2', name)
  return re.sub(r'([a-z])([A-Z])', r'\1_\2', name).lower()
