"""Whose code it is: ours or a user's, read from its file, or a library's.

A library is what lies among the installed packages, and is known by its version.
"""

import functools
import hashlib
import importlib.metadata
import pathlib
import sys


class NoVersionError(ValueError):
  """A library of which nothing says what it is."""


def file_of(module: str) -> str | None:
  return getattr(sys.modules.get(module), '__file__', None)


@functools.cache
def is_own(module: str) -> bool:
  """Whether it is this package, or a user's: no library, which has a version."""
  root = module.partition('.')[0]
  if root == __name__.partition('.')[0]:
    return True
  if root in sys.stdlib_module_names and root != '__main__':
    return False
  if root not in sys.modules:
    return False
  file = file_of(root)
  return not file or not {'site-packages', 'dist-packages'} & {
    *pathlib.Path(file).parts
  }


@functools.cache
def version(root: str) -> str:
  """Of a library; of Python's own it is Python's, which is told beforehand."""
  if not root or root in sys.stdlib_module_names:
    return ''
  if root.startswith('namedtuple_'):  # where Python makes their methods
    return ''
  try:
    return importlib.metadata.version(root)
  except importlib.metadata.PackageNotFoundError:
    told = getattr(sys.modules.get(root), '__version__', None)
  if told is None:
    raise NoVersionError(f'{root} is a library of no version')
  return told


def source(file: str | None) -> bytes:
  """Of a file as it is now: what decorators were told is in no code object."""
  if not file or not pathlib.Path(file).is_file():
    return b''
  about = pathlib.Path(file).stat()
  return _read(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(4096)
def _read(file: str, changed: int, size: int) -> bytes:
  del changed, size  # of a file that was read before
  return hashlib.sha256(pathlib.Path(file).read_bytes()).digest()
