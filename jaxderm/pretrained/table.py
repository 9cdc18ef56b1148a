"""How other libraries call our layers, and how they lay out their arrays."""

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

Place = tuple[str, ...]  # collection, layers and name: 'params', ..., 'kernel'
Template = str | tuple[str, ...]
Tensors = Mapping[str, np.ndarray]
Constant = float | tuple[float, ...]
# An array in our order of axes, and the shape wanted; None if it cannot be.
Adapter = Callable[[np.ndarray, tuple[int, ...]], np.ndarray | None]

# What a variable of a layer with batch normalisation is called.
_NORM = {
  'keras': ('gamma', 'beta', 'moving_mean', 'moving_variance'),
  'torch': ('weight', 'bias', 'running_mean', 'running_var'),
}
_NORM_PLACES = (
  ('params', 'scale'),
  ('params', 'bias'),
  ('batch_stats', 'mean'),
  ('batch_stats', 'var'),
)
# Of a folded normalisation only the bias is in the file, as its convolution's.
# These make the layer x + bias, epsilon being added to `var`.
_FOLDED = {'scale': 1.0, 'mean': 0.0, 'var': 1.0}
# A number in a name: '{i}', '{i-1}', '{3*i+1:02}'.
_FIELD = r'\{(?:(\d+)\*)?(\w)([+-]\d+)?(?::0(\d+))?\}'
_ANY_FIELD = r'\{[^}]*\}'
# What torch counts and no network needs.
_COUNTERS = ('num_batches_tracked',)


class Table(NamedTuple):
  """What one library calls the layers of a family.

  A row is a layer of ours and its name there. Numbers are braces: the row
  'conv{i}_block{j}_{k}_bn': 'layer{i-1}.{j-1}.bn{k}' makes conv3_block1_2_bn
  layer2.0.bn2; '{3*i+1:02}' multiplies, adds and pads with zeros; '{j:a}' in a
  name of ours is a letter, a being 0. The first row that fits counts. Where a
  row gives several names, the file decides; with a '/' it is about one variable
  of a layer. Layers without a row keep their name.

  Attributes:
    library: 'keras', 'torchvision', 'timm', ...
    layers: The rows.
    normalisation: What these weights expect of the input (data/colour.py).
    origin: What the encoder must be built with; None if it has no choice.
    style: Whose names of weights and order of axes: 'keras', 'torch', or
      'jaxderm', which has neither rows nor an order of its own.
    folded: Epsilon of the normalisations, where they are folded into the
      convolutions; else None.
    identical: Whether a layer without a row keeps its name. If not, it is not
      in these files.
    ignored: Endings of names in these files that no network needs.
    constants: Variables of ours that these files do not have, by 'layer/name'.
    repair: What makes of a file's tensors those that the network needs.
    adapters: What makes of a variable of another shape one that fits, by
      'layer/name' of ours.
  """

  library: str
  layers: Mapping[str, Template]
  normalisation: str
  origin: str | None
  style: str = 'torch'
  folded: float | None = None
  identical: bool = False
  ignored: tuple[str, ...] = ()
  constants: Mapping[str, Constant] = {}
  repair: Callable[[Tensors], Tensors] | None = None
  adapters: Mapping[str, Adapter] = {}

  def names(self, layer: str, variable: str) -> Iterator[tuple[str, bool]]:
    """What a variable of ours may be called; whether the row was about it."""
    for path, own in ((f'{layer}/{variable}', True), (layer, False)):
      for ours, theirs in self.layers.items():
        values = _match(ours, path)
        if values is not None:
          for template in (theirs,) if isinstance(theirs, str) else theirs:
            yield _fill(template, values), own
          return
    if self.identical:
      yield layer, False

  def resembles(self, names: Collection[str]) -> bool:
    """Whether a file with these names may be one of these, told by the names."""
    if self.style == 'keras':
      return all('/' in name for name in names if self.counts(name))
    counted = [name for name in names if self.counts(name)]
    rows = [
      template
      for value in self.layers.values()
      for template in ((value,) if isinstance(value, str) else value)
    ]
    texts = [map(re.escape, re.split(_ANY_FIELD, row)) for row in rows]
    known = re.compile('|'.join(r'\d+'.join(parts) for parts in texts))
    found = [
      name
      for name in counted
      if known.fullmatch(name) or known.fullmatch(name.rpartition('.')[0])
    ]
    return 2 * len(found) > len(counted)

  def counts(self, name: str) -> bool:
    """Whether a tensor of a file is part of its network."""
    return not name.endswith((*_COUNTERS, *self.ignored))


class Source(NamedTuple):
  """Where a variable of ours comes from."""

  names: tuple[str, ...]  # that it may have in a file
  constant: Constant | None = None  # its value, where it is in none


def source(
  table: Table, place: Place, norm: bool, shape: tuple[int, ...]
) -> Source:
  """Finds what a variable is called in files of a table.

  Args:
    table: Of the family and library.
    place: Of the variable in our tree.
    norm: Whether it is of a layer with batch normalisation.
    shape: Of the variable.
  """
  collection, *layers, name = place
  if table.style == 'jaxderm':
    return Source(('/'.join(place),))
  if (path := '/'.join((*layers, name))) in table.constants:
    return Source((), table.constants[path])
  if norm and table.folded is not None and name in _FOLDED:
    constant = _FOLDED[name]
    return Source((), constant - table.folded if name == 'var' else constant)
  if norm:
    weight = _NORM[table.style][_NORM_PLACES.index((collection, name))]
  else:
    renamed = table.style == 'torch' and name in ('kernel', 'scale')
    weight = 'weight' if renamed else name
  endings = [weight]
  if weight == 'kernel' and shape[2:3] == (1,):
    endings.append('depthwise_kernel')  # as it was before Keras 3
  joint = '/' if table.style == 'keras' else '.'
  names = [
    theirs if whole else theirs + joint + ending
    for theirs, whole in table.names('/'.join(layers), name)
    for ending in endings
  ]
  return Source(tuple(names))


def ours(value: np.ndarray, style: str, shape: tuple[int, ...]) -> np.ndarray:
  """An array of a file in our order of axes.

  torch has [D, C, k, l] and [D, C], Keras [k, l, C, 1] for a depthwise kernel.
  A matrix is a convolution as large as its image, with the image's axes in
  front where Keras flattened it and behind where torch did.

  Args:
    value: As in the file.
    style: 'keras' or 'torch'.
    shape: Of the variable; if `value` cannot come to it, the shape that it
      has instead shows what is wrong.
  """
  fits = value.size == np.prod(shape, dtype=int)
  if style == 'torch':
    if fits and (value.ndim, len(shape)) == (2, 4):
      value = value.reshape([shape[axis] for axis in (3, 2, 0, 1)])
    value = value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim))
  elif style == 'keras' and value.ndim == 4 and shape[2:3] == (1,):
    value = value.transpose(0, 1, 3, 2)
  return value.reshape(shape) if fits and value.ndim != len(shape) else value


def theirs(value: np.ndarray, style: str, shape: tuple[int, ...]) -> np.ndarray:
  """The inverse of `ours`: `value` in the shape that it has in a file."""
  if style == 'torch':
    value = value.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim))
  elif value.ndim == 4 and value.shape[2] == 1:
    value = value.transpose(0, 1, 3, 2)
  return value.reshape(shape)


def places(variables) -> dict[Place, jax.ShapeDtypeStruct]:
  """The leaves of a tree of variables by their places."""
  leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
  return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def norms(found: Collection[Place]) -> set[Place]:
  """Layers with batch normalisation."""
  return {
    place[1:-1] for place in found if place[0] + place[-1] == 'batch_statsvar'
  }


def _match(template: str, name: str) -> dict[str, int] | None:
  found = _pattern(template).fullmatch(name)
  return found and {key: _number(n) for key, n in found.groupdict().items()}


@functools.cache
def _pattern(template: str) -> re.Pattern:
  pattern = re.escape(template)
  pattern = re.sub(r'\\\{(\w)\\\}', r'(?P<\1>\\d+)', pattern)
  return re.compile(re.sub(r'\\\{(\w):a\\\}', r'(?P<\1>[a-z])', pattern))


def _number(text: str) -> int:
  return int(text) if text.isdigit() else ord(text) - ord('a')


def _fill(template: str, values: Mapping[str, int]) -> str:
  def number(found: re.Match) -> str:
    times, key, plus, width = found.groups()
    value = int(times or 1) * values[key] + int(plus or 0)
    return f'{value:0{width}}' if width else str(value)

  return re.sub(_FIELD, number, template)
