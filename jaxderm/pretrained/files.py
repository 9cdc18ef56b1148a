"""Any file of weights into named arrays, or one clear error.

What a file is, its first bytes say; its ending does not matter. Nothing in it
is executed, no other file is opened for it, and nothing is allocated before it
is known to fit.
"""

import hashlib
import os
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from jaxderm.pretrained import h5_files, torch_files
from jaxderm.pretrained.keras_files import read_keras_h5, read_keras_zip
from jaxderm.pretrained.limits import MAX_BYTES, WeightsError, members
from jaxderm.pretrained.npz_files import read_npz
from jaxderm.pretrained.safetensors_files import (
  read_safetensors,
  write_safetensors,
)

__all__ = ['File', 'WeightsError', 'read', 'write_safetensors']

# What the endings promise, for errors.
_ENDINGS = {
  '.h5': 'HDF5',
  '.hdf5': 'HDF5',
  '.keras': 'a zip of Keras',
  '.npz': 'a zip of NumPy',
  '.pt': 'torch',
  '.pth': 'torch',
  '.safetensors': 'safetensors',
}


class File(NamedTuple):
  """A file of weights, read.

  Attributes:
    path: Where it lies.
    kind: Whose names the tensors bear: 'keras', 'torch', 'npz' or 'jaxderm'.
    tensors: Every weight by name.
    metadata: Of a safetensors header.
    sha256: Of the whole file, hexadecimal.
  """

  path: pathlib.Path
  kind: str
  tensors: dict[str, np.ndarray]
  metadata: dict[str, str]
  sha256: str


def read(path: str | os.PathLike) -> File:
  """Reads a file of Keras, torch, NumPy or jaxderm.

  Args:
    path: A `.h5`, `.weights.h5`, `.keras`, `.safetensors`, `.pth`, `.pt` or
      `.npz`, whatever its name.

  Raises:
    FileNotFoundError: if there is no such file.
    WeightsError: if it is not such a file, damaged, or unsafe to read.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'{path}: there is no such file of weights')
  found = None
  try:
    found = _content(path)
    kind, tensors, metadata = _read(path, found)
    if not tensors:
      raise WeightsError('there are no weights in it')
    with path.open('rb') as file:
      sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
  except WeightsError as error:
    raise WeightsError(f'{path}: {error}{_ending(path, found)}') from None
  except Exception as error:  # libraries have a dozen types for 'damaged'
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    raise WeightsError(
      f'{path}: damaged or truncated, or not what it seems ({reason}); fetch '
      f'or save it again{_ending(path, found)}'
    ) from error
  return File(path, kind, tensors, metadata, sha256)


def _content(path: pathlib.Path) -> str:
  """What a file is: a value of `_ENDINGS`."""
  if not path.is_file():
    raise WeightsError('it is no file')
  if path.stat().st_size > MAX_BYTES:
    raise WeightsError(f'it has over {MAX_BYTES} bytes')
  with path.open('rb') as file:
    start = file.read(64)
  if start.startswith(h5_files.SIGNATURE):
    return 'HDF5'
  if start.startswith((b'PK\x03\x04', b'PK\x05\x06')):
    return _zip_content(path)
  if start.startswith(torch_files.LEGACY):
    return 'torch before 1.6'
  if start[8:9] == b'{':
    return 'safetensors'
  if start[:1] == b'\x80':
    raise WeightsError(
      'it is a pickle, which could run any code, and not one of torch; save '
      'the arrays by numpy.savez or as .safetensors'
    )
  raise WeightsError(
    'it is empty'
    if not start
    else f'it begins with {start[:12]!r}, as no file of Keras, torch, '
    'safetensors or NumPy does'
  )


def _zip_content(path: pathlib.Path) -> str:
  with zipfile.ZipFile(path) as archive:
    names = list(members(archive, path.stat().st_size))
  if 'config.json' in names:
    return 'a zip of Keras'
  if any(name.endswith('data.pkl') for name in names):
    return 'torch'
  if names and all(name.endswith('.npy') for name in names):
    return 'a zip of NumPy'
  raise WeightsError(
    f'it is a zip of {len(names)} entries, {", ".join(names[:3])}, but not of '
    'Keras (config.json), torch (data.pkl) or NumPy (only .npy)'
  )


def _read(
  path: pathlib.Path, found: str
) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
  """Kind, tensors and metadata."""
  stored = path.stat().st_size
  if found == 'HDF5':
    return 'keras', read_keras_h5(path, stored), {}
  if found == 'a zip of Keras':
    with zipfile.ZipFile(path) as archive:
      return 'keras', read_keras_zip(archive, stored), {}
  if found == 'a zip of NumPy':
    with zipfile.ZipFile(path) as archive:
      return 'npz', read_npz(archive, stored), {}
  with path.open('rb') as file:
    if found == 'safetensors':
      tensors, metadata = read_safetensors(file, stored)
      kind = 'jaxderm' if 'jaxderm' in metadata else 'torch'
      return kind, tensors, metadata
    if found == 'torch':
      with zipfile.ZipFile(path) as archive:
        torch_files.check_archive(archive, stored)
    return 'torch', torch_files.read_torch(file, stored), {}


def _ending(path: pathlib.Path, found: str | None) -> str:
  """A sentence about a name that promises something else, or nothing."""
  promised = _ENDINGS.get(path.suffix)
  if promised is None or found is None or found.startswith(promised):
    return ''
  return f'. It is called {path.suffix}, and its content is {found}'
