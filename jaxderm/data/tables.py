"""Tables that publishers ship: rows that say where they are wrong."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_MISSING = ('', 'unknown', 'na', 'n/a', 'nan', 'none')


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table.

  Attributes:
    values: Column to text, without surrounding blanks.
    file: The table.
    line: Counted from 1, the header included.
  """

  values: Mapping[str, str]
  file: Path
  line: int

  def __getitem__(self, column: str) -> str:
    return self.values[column]

  def text(self, column: str) -> str:
    """The text; '' where there is no such column or it says unknown."""
    value = self.values.get(column, '')
    return '' if value.lower() in _MISSING else value

  def fail(self, column: str, expected: str) -> NoReturn:
    """Raises ValueError that names file, line and column."""
    raise ValueError(
      f'{self.file}:{self.line}: {column} is {self.values[column]!r}, expected '
      f'{expected}. Correct that line.'
    )

  def age(self, column: str) -> float:
    """Years; NaN where missing."""
    text = self.text(column)
    if not text:
      return math.nan
    try:
      age = float(text)
    except ValueError:
      age = -1.0
    if not 0 <= age <= 120:
      self.fail(column, 'an age in years from 0 to 120, or nothing')
    return age

  def choice(self, column: str, names: Mapping[str, int]) -> int:
    """The number that the text stands for."""
    if self[column] not in names:
      self.fail(column, f'one of {", ".join(names)}')
    return names[self[column]]

  def flag(self, column: str) -> bool:
    """Whether it says 1 rather than 0."""
    try:
      number = float(self[column])
    except ValueError:
      number = math.nan
    if number not in (0, 1):
      self.fail(column, '0 or 1')
    return number == 1

  def one_hot(self, columns: Sequence[str]) -> str:
    """The one column that is 1."""
    on = [column for column in columns if self.flag(column)]
    if len(on) != 1:
      raise ValueError(
        f'{self.file}:{self.line}: {len(on)} of the columns '
        f'{", ".join(columns)} are 1, expected exactly one. Correct that line.'
      )
    return on[0]


def table(
  path: Path,
  columns: Sequence[str],
  key: str,
  *,
  header: bool = True,
) -> dict[str, Row]:
  """Rows of a comma- or tab-separated file, by id.

  Args:
    path: The file.
    columns: Those that must be there; all of them, if there is no header.
    key: The one with the id.
    header: Whether the first line names the columns.

  Raises:
    ValueError: A column is missing, a line is short or an id comes twice.
  """
  found: dict[str, Row] = {}
  with path.open(newline='', encoding='utf-8-sig', errors='replace') as file:
    tabs = '\t' in file.readline()
    file.seek(0)
    lines = csv.reader(file, delimiter='\t' if tabs else ',')
    names = [n.strip() for n in next(lines, [])] if header else list(columns)
    if missing := [c for c in columns if c not in names]:
      raise ValueError(
        f'{path}:1: has no column {", ".join(missing)}; its columns are '
        f'{", ".join(names) or "none"}. Name it so in the first line; if this '
        "is a publisher's file, use it as it was published."
      )
    for values in lines:
      if not any(values):
        continue
      if len(values) != len(names):
        raise ValueError(
          f'{path}:{lines.line_num}: has {len(values)} values, expected '
          f'{len(names)} ({", ".join(names)}). Correct that line.'
        )
      texts = dict(zip(names, map(str.strip, values), strict=True))
      row = Row(texts, path, lines.line_num)
      if row[key] in found:
        raise ValueError(
          f'{path}:{row.line}: {key} {row[key]} is in line '
          f'{found[row[key]].line} already. Remove one of them.'
        )
      found[row[key]] = row
  return found
