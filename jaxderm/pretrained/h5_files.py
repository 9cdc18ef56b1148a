"""HDF5 files, read so that nothing but the file itself is opened."""

import math
import pathlib
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from jaxderm.pretrained.limits import (
  MAX_BYTES,
  WeightsError,
  check_dtype,
  check_number,
)

SIGNATURE = b'\x89HDF\r\n\x1a\n'
MAX_NAME = 1000  # characters; HDF5 lets many attributes share one long text


class Tree(NamedTuple):
  """A file, read.

  Attributes:
    arrays: Every data set by its path, without a '/' at the beginning.
    names: The attribute `name` of the groups that have it, by path.
    lists: Lengths of the lists `layer_names` and `weight_names`, by the path of
      the group that has them.
  """

  arrays: dict[str, np.ndarray]
  names: dict[str, str]
  lists: dict[str, dict[str, int]]


def read_h5(source: pathlib.Path | BinaryIO, stored: int) -> Tree:
  """Everything in a file.

  Keras compresses nothing, so what is compressed is refused: HDF5 cannot be
  told how far it may inflate. What is left cannot be larger than the file.

  Args:
    source: The file, or its bytes.
    stored: Their number.

  Raises:
    WeightsError: if it links to other files, holds what is not numbers, or
      claims more than it has.
  """
  try:
    import h5py
  except ImportError:
    raise WeightsError(
      'it is an HDF5 file, and h5py is not installed: pip install h5py'
    ) from None
  tree = Tree({}, {}, {'layer_names': {}, 'weight_names': {}})
  with h5py.File(source, 'r', locking=False) as file:
    datasets = _walk(h5py, file, tree)
    claimed = sum(_size(path, data) for path, data in datasets.items())
    if claimed > min(stored, MAX_BYTES):
      raise WeightsError(
        f'its arrays claim {claimed} bytes, more than the {stored} of the file '
        f'or the {MAX_BYTES} that are read'
      )
    for path, data in datasets.items():
      tree.arrays[path] = _array(path, data)
  return tree


def _walk(h5py: Any, file: Any, tree: Tree) -> dict[str, Any]:
  """Data sets by path, unread; fills in the names and lists of the groups."""
  datasets = {}
  seen = set()
  waiting = [('', file['/'])]
  while waiting:
    path, node = waiting.pop()
    address = h5py.h5o.get_info(node.id).addr
    if address in seen:  # a cycle would never end
      raise WeightsError(f'{path} is linked to from two places')
    seen.add(address)
    check_number(len(seen) + len(waiting))
    if isinstance(node, h5py.Dataset):
      datasets[path] = node
      continue
    if not isinstance(node, h5py.Group):
      raise WeightsError(f'{path} is a {type(node).__name__}')
    for kind, lengths in tree.lists.items():
      # Keras cuts what is too long into weight_names0, weight_names1, ...
      parts = [key for key in node.attrs if key.startswith(kind)]
      if parts:
        shapes = (node.attrs.get_id(key).shape for key in parts)
        lengths[path] = sum(math.prod(shape) for shape in shapes)
    if 'name' in node.attrs:
      tree.names[path] = _name(h5py, path, node.attrs)
    for key in node:
      below = f'{path}/{key}'.lstrip('/')
      if not isinstance(node.get(key, getlink=True), h5py.HardLink):
        raise WeightsError(f'{below} is a link, and no link is followed')
      waiting.append((below, node[key]))
  return datasets


def _name(h5py: Any, path: str, attributes: Any) -> str:
  attribute = attributes.get_id('name')
  if not h5py.check_string_dtype(attribute.dtype) or attribute.shape != ():
    raise WeightsError(f'the name of {path} is not a text')
  name = attributes['name']
  name = name.decode() if isinstance(name, bytes) else str(name)
  if len(name) > MAX_NAME:
    raise WeightsError(f'the name of {path} has {len(name)} characters')
  return name


def _size(path: str, data: Any) -> int:
  """Bytes of a data set that lies plainly in this file."""
  if data.external or data.is_virtual:
    raise WeightsError(f'{path} lies in another file, and none is opened')
  if data.id.get_create_plist().get_nfilters():
    raise WeightsError(
      f'{path} is compressed, which Keras never does; write it again by '
      '`h5repack -f NONE`'
    )
  if not _is_bfloat16(data):
    check_dtype(data.dtype, path)
  space = data.id.get_storage_size()
  # Chunks at the border are stored whole.
  if data.shape is None or space < data.nbytes:
    raise WeightsError(f'{path} claims more numbers than are stored')
  if data.chunks is None and space > data.nbytes:
    raise WeightsError(f'{path} claims fewer numbers than are stored')
  return data.nbytes


def _is_bfloat16(data: Any) -> bool:
  """Keras stores two bytes of no type, with this note beside them."""
  return data.dtype.kind == 'V' and data.dtype.itemsize == 2


def _array(path: str, data: Any) -> np.ndarray:
  value = np.asarray(data[()])
  if _is_bfloat16(data):
    return value.view(ml_dtypes.bfloat16)
  return value.astype(value.dtype.newbyteorder('='), copy=False)
