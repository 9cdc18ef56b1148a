"""What a file of weights may not do to the computer that reads it.

A file says how large its contents are before they are read. Nothing is
allocated on its word alone: what is stored plainly must fit into the file, and
what is compressed must be of a size that weights can have.
"""

import json
import struct
import zipfile
from typing import Any

import numpy as np

MAX_BYTES = 8 * 2**30  # twenty times NASNetLarge, our largest encoder
# Weights hardly compress: what shrinks to a hundredth is zeros. The smallest
# networks may, since their headers outweigh them.
MAX_RATIO = 100
SMALL = 64 * 2**20  # bytes that nobody minds
MAX_ENTRIES = 100_000
MAX_JSON = 16 * 2**20  # NASNetLarge's config.json has 1.5 MB


class WeightsError(ValueError):
  """A file that cannot be read as weights, or must not be."""


def check_size(declared: int, stored: int) -> None:
  """Refuses contents that are too large, or too large for their file.

  Args:
    declared: Bytes that the contents claim to have.
    stored: Bytes of the file.

  Raises:
    WeightsError: saying which limit was passed.
  """
  if declared > MAX_BYTES:
    raise WeightsError(
      f'its contents claim {declared} bytes, and more than {MAX_BYTES} are '
      'not read'
    )
  if declared > SMALL and declared > MAX_RATIO * stored:
    raise WeightsError(
      f'its contents claim {declared} bytes, over {MAX_RATIO} times the '
      f'{stored} of the file, as a decompression bomb does'
    )


def check_number(entries: int) -> None:
  """Refuses files with more entries than any network has weights."""
  if entries > MAX_ENTRIES:
    raise WeightsError(f'it has over {MAX_ENTRIES} entries')


def members(
  archive: zipfile.ZipFile, stored: int
) -> dict[str, zipfile.ZipInfo]:
  """Entries of a zip by name, of which none has been read yet.

  Args:
    archive: The zip.
    stored: Bytes of the file.
  """
  entries = archive.infolist()
  check_number(len(entries))
  promised = _promised(archive)
  if promised not in (len(entries), 0xFFFF):  # which means: it does not fit
    raise WeightsError(f'its zip lists {len(entries)} of {promised} entries')
  check_size(sum(entry.file_size for entry in entries), stored)
  found = {entry.filename: entry for entry in entries}
  plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy and Keras do
  if any(entry.compress_type not in plain for entry in entries):
    raise WeightsError('its zip is compressed in an unusual way')
  if len(found) < len(entries):
    raise WeightsError('two entries of the zip have one name')
  return found


def _promised(archive: zipfile.ZipFile) -> int:
  """The number of entries in the last record of a zip.

  Python does not look at it, and passes over entries when one byte of its
  directory is wrong.
  """
  archive.fp.seek(0, 2)
  archive.fp.seek(max(0, archive.fp.tell() - 22 - 0xFFFF))
  tail = archive.fp.read()
  return struct.unpack_from('<H', tail, tail.rindex(b'PK\x05\x06') + 10)[0]


def read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
  """One entry; no more of it is inflated than it declares."""
  with archive.open(entry) as file:  # without a size, read() inflates 2 GiB
    data = file.read(entry.file_size)
  if len(data) < entry.file_size:
    raise WeightsError(f'{entry.filename} ends after {len(data)} bytes')
  return data


def parse_json(text: bytes, what: str) -> dict[str, Any]:
  """An object of JSON whose keys are told apart.

  Args:
    text: UTF-8.
    what: Its name in errors.
  """
  if len(text) > MAX_JSON:
    raise WeightsError(f'{what} has over {MAX_JSON} bytes')
  try:
    value = json.loads(text.decode(), object_pairs_hook=_distinct)
  except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
    raise WeightsError(f'{what} is not JSON: {error}') from error
  if not isinstance(value, dict):
    raise WeightsError(f'{what} is a {type(value).__name__}, not an object')
  return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise WeightsError(f'its JSON has the key {twice!r} twice')
  return found


def check_dtype(dtype: np.dtype, name: str) -> None:
  """Refuses everything but numbers: objects, text, records."""
  if dtype.kind not in 'biuf' or dtype.subdtype is not None:
    raise WeightsError(f'{name} is of type {dtype}, and weights are numbers')
