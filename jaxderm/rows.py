"""What is kept of each image: ids, and counts of pixels or probabilities."""

import csv
import io
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

COUNTS = ('tp', 'fp', 'fn', 'tn')
_TEXT = ('image_id', 'lesion_id')
_NAMES = (*_TEXT, 'label')  # text, even where it looks like numbers
_WHOLE = re.compile(r'-?\d+')

Rows = Sequence[Mapping] | Mapping[str, Sequence]


def columns(
  rows: Rows, needed: Sequence[str] = COUNTS
) -> dict[str, np.ndarray]:
  """Rows as columns [N], checked.

  Args:
    rows: One for each image, or columns.
    needed: What must be there beside the ids: counts of pixels, or the label.

  Raises:
    ValueError: If there are no rows, they differ in their columns, a column is
      missing, a count negative, a name empty, or an image is there twice.
  """
  if isinstance(rows, Mapping):
    table = {k: np.asarray(v) for k, v in rows.items()}
  else:
    names = list(rows[0]) if len(rows) else []
    if any(set(row) != set(names) for row in rows):
      raise ValueError('Rows differ in their columns; give all the same.')
    table = {k: np.asarray([row[k] for row in rows]) for k in names}
  lacking = [k for k in (*_TEXT, *needed) if k not in table]
  if lacking or len({len(v) for v in table.values()}) != 1:
    sizes = {k: len(v) for k, v in table.items()}
    raise ValueError(f'Columns lack {lacking} or differ in length: {sizes}.')
  if not len(table['image_id']):
    raise ValueError('There are no rows: no image was scored.')
  for k in (k for k in needed if k not in _NAMES):
    if not np.issubdtype(table[k].dtype, np.integer) or table[k].min() < 0:
      raise ValueError(f'Column {k!r} must hold whole numbers from 0 on.')
    table[k] = table[k].astype(np.int64)
  for k in (k for k in _NAMES if k in table):
    table[k] = table[k].astype(str)
    if (table[k] == '').any():
      raise ValueError(f'Column {k!r} has an empty cell; name every image.')
  ids, times = np.unique(table['image_id'], return_counts=True)
  if times.max() > 1:
    raise ValueError(f'Image {ids[times.argmax()]} has more than one row.')
  return table


def write_rows(
  path: str | pathlib.Path, rows: Rows, needed: Sequence[str] = COUNTS
) -> None:
  """Writes rows as CSV, whole or not at all, so that nothing is lost.

  Other columns than the ids and counts are kept as they come: whole numbers,
  numbers (to the last bit) or text.

  Args:
    path: The file; its folder must be there.
    rows: See `columns`.
    needed: See `columns`.

  Raises:
    ValueError: If the rows are not as `columns` wants them, or a column would
      be read back as something else, such as text that looks like a number.
  """
  table = {k: v.tolist() for k, v in columns(rows, needed).items()}
  for name, cells in table.items():
    # Python 3.11 writes them without quotes, and then reads two lines.
    if any('\r' in cell for cell in cells if isinstance(cell, str)):
      raise ValueError(f'{path}: column {name!r} has a carriage return.')
  file = io.StringIO(newline='')
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(table)
  writer.writerows(zip(*table.values(), strict=True))
  again = _parse(file.getvalue())
  for name, cells in table.items():
    # By repr: NaN is not equal to itself, and 1 is to 1.0.
    if list(map(repr, cells)) != list(map(repr, again.get(name, []))):
      raise ValueError(
        f'{path}: column {name!r} would not be read back as it is. Cells of a '
        'column must be all whole numbers, all floats, or all text that does '
        f'not look like numbers; got {cells[:3]}.'
      )
  path = pathlib.Path(path)
  draft = path.with_name(path.name + '.tmp')
  draft.write_bytes(file.getvalue().encode())
  draft.replace(path)


def read_rows(
  path: str | pathlib.Path, needed: Sequence[str] = COUNTS
) -> list[dict]:
  """Reads what `write_rows` wrote.

  Args:
    path: The file.
    needed: See `columns`.

  Returns:
    One dict for each image, with str, int and float.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If a line is broken or a column is missing.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file; evaluate the run first.')
  try:
    table = _parse(path.read_bytes().decode())
    columns(table, needed)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return [
    dict(zip(table, cells, strict=True))
    for cells in zip(*table.values(), strict=True)
  ]


def _parse(text: str) -> dict[str, list]:
  lines = list(csv.reader(io.StringIO(text, newline='')))
  header = lines[0] if lines else []
  for number, line in enumerate(lines[1:], 1):
    if len(line) != len(header):
      raise ValueError(
        f'row {number} has {len(line)} cells; the header has {len(header)}.'
      )
  cells = zip(*lines[1:], strict=True) if lines[1:] else [()] * len(header)
  return {k: _typed(k, v) for k, v in zip(header, cells, strict=True)}


def _typed(name: str, cells: Sequence[str]) -> list:
  """Cells as int if all are, else as float if all are, else as text."""
  if name in _NAMES:
    return list(cells)
  if all(map(_WHOLE.fullmatch, cells)):
    return [int(cell) for cell in cells]
  try:
    return [float(cell) for cell in cells]
  except ValueError:
    return list(cells)
