"""Files of `numpy.savez`, read without pickles."""

import io
import math
import zipfile

import numpy as np
from numpy.lib import format as npy

from jaxderm.pretrained.limits import (
  WeightsError,
  check_dtype,
  members,
  read_member,
)

_HEADERS = {
  (1, 0): npy.read_array_header_1_0,
  (2, 0): npy.read_array_header_2_0,
}


def read_npz(archive: zipfile.ZipFile, stored: int) -> dict[str, np.ndarray]:
  """Arrays by the names that they were saved with.

  `numpy.load` allocates what a header claims. Here that must be exactly what
  the zip holds, which has been checked.

  Args:
    archive: The zip.
    stored: Bytes of the file.
  """
  return {
    name.removesuffix('.npy'): _array(archive, entry)
    for name, entry in members(archive, stored).items()
  }


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
  name = entry.filename
  file = io.BytesIO(read_member(archive, entry))
  version = npy.read_magic(file)
  if version not in _HEADERS:
    raise WeightsError(f'{name} has version {version} of the format')
  shape, fortran, dtype = _HEADERS[version](file)
  check_dtype(dtype, name)
  data = file.read()
  if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(
    data
  ):
    raise WeightsError(
      f'{name} has {len(data)} bytes; its shape is {shape}, of type {dtype}'
    )
  array = np.frombuffer(bytearray(data), dtype)
  array = array.reshape(shape, order='F' if fortran else 'C')
  return array.astype(dtype.newbyteorder('='), copy=False)
