"""The safetensors format, read and written without its package.

A file is the length of a header (8 bytes, little-endian), the header in JSON,
and the numbers, one tensor after another:
https://github.com/huggingface/safetensors#format
"""

import json
import math
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxderm.pretrained.limits import (
  MAX_JSON,
  WeightsError,
  check_number,
  parse_json,
)

DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
  'U8': np.dtype('u1'),
  'BOOL': np.dtype('?'),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_safetensors(
  file: BinaryIO, stored: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Tensors and metadata of a file.

  Args:
    file: At its beginning.
    stored: Its bytes.

  Raises:
    WeightsError: if the header and the numbers do not fit together exactly.
  """
  (length,) = struct.unpack('<Q', file.read(8))
  if length > min(stored - 8, MAX_JSON):
    raise WeightsError(
      f'its header claims {length} bytes; {stored - 8} follow in the file, '
      f'and {MAX_JSON} are allowed'
    )
  header = parse_json(file.read(length), 'its header')
  metadata = header.pop('__metadata__', {})
  if not _texts(metadata):
    raise WeightsError('its metadata are not texts by name')
  check_number(len(header))
  places = {name: _place(name, entry) for name, entry in header.items()}
  order = sorted(places, key=lambda name: places[name][2:])
  end = 0
  for name in order:
    dtype, shape, begin, stop = places[name]
    if begin != end or stop - begin != math.prod(shape) * dtype.itemsize:
      raise WeightsError(
        f'{name} lies at bytes {begin} to {stop}; expected it at {end}, with '
        f'{math.prod(shape)} numbers of {dtype.itemsize} bytes'
      )
    end = stop
  if end != stored - 8 - length:
    raise WeightsError(
      f'its tensors need {end} bytes, and it has {stored - 8 - length}: '
      'truncated, or with something appended'
    )
  tensors = {name: _tensor(file, *places[name][:2]) for name in order}
  return {name: tensors[name] for name in header}, metadata


def _place(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
  """Type, shape, first byte and the byte after the last, of one tensor."""
  try:
    dtype, shape = entry['dtype'], entry['shape']
    begin, end = entry['data_offsets']
    numbers = [*shape, begin, end]
  except (KeyError, TypeError, ValueError):
    raise WeightsError(f'{name} has no dtype, shape or data_offsets') from None
  if not isinstance(dtype, str) or dtype not in DTYPES:
    raise WeightsError(f'{name} is {dtype!r}; read are {", ".join(DTYPES)}')
  if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
    raise WeightsError(f'{name} has the shape {shape} at {begin} to {end}')
  return DTYPES[dtype], tuple(shape), begin, end


def _tensor(
  file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
  count = math.prod(shape)
  if dtype == np.dtype(
    '?'
  ):  # a byte that is neither 0 nor 1 is no bool of NumPy
    return np.fromfile(file, np.uint8, count).reshape(shape) != 0
  data = np.fromfile(file, np.uint8, count * dtype.itemsize)
  return data.view(dtype).reshape(shape)


def write_safetensors(
  path: str | os.PathLike,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, str],
) -> None:
  """Writes a file whole or not at all.

  Args:
    path: Where.
    tensors: Arrays by name, of a type in `DTYPES`.
    metadata: Texts by name.

  Raises:
    ValueError: naming an array or text that the format cannot hold.
  """
  if not _texts(dict(metadata)):
    raise ValueError(f'metadata are texts by name, not {dict(metadata)}')
  arrays = {name: np.asarray(value) for name, value in tensors.items()}
  header: dict[str, Any] = {'__metadata__': dict(metadata)}
  end = 0
  # The widest first, so that each begins at a multiple of its width.
  order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
  for name in order:
    dtype = _NAMES.get(arrays[name].dtype.newbyteorder('<'))
    if dtype is None or name in header:
      raise ValueError(
        f'safetensors cannot hold {name!r} of type {arrays[name].dtype}; its '
        f'types are {", ".join(DTYPES)}'
      )
    begin, end = end, end + arrays[name].nbytes
    header[name] = {
      'dtype': dtype,
      'shape': list(arrays[name].shape),
      'data_offsets': [begin, end],
    }
  _replace(pathlib.Path(path), header, [arrays[name] for name in order])


def _replace(
  path: pathlib.Path, header: dict[str, Any], arrays: list[np.ndarray]
) -> None:
  text = _json_bytes(header)
  draft = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with draft.open('wb') as file:
      file.write(struct.pack('<Q', len(text)) + text)
      for array in arrays:
        file.write(array.astype(array.dtype.newbyteorder('<')).tobytes())
    os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)


def _json_bytes(header: dict[str, Any]) -> bytes:
  """The header, with spaces after it up to a multiple of 8 bytes."""
  text = json.dumps(header, separators=(',', ':')).encode()
  return text + b' ' * (-len(text) % 8)


def _texts(value: Any) -> bool:
  return isinstance(value, dict) and all(
    isinstance(text, str) for pair in value.items() for text in pair
  )
