"""A table as it is written down: headings and cells."""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence

from jaxderm.audit import names


@dataclasses.dataclass(frozen=True)
class Table:
  """Headings and rows of cells.

  Attributes:
    names: Headings, all different.
    rows: Cells, as many in each row as there are headings.
    lines: The line of the file on which each row ends; none in memory.
    turned: It was printed with its scores in rows; `lines` are then those of
      the headings after the first.
  """

  names: Sequence[str]
  rows: Sequence[Sequence[str]]
  lines: Sequence[int] = ()
  turned: bool = False

  def __post_init__(self):
    twice = {name for name in self.names if list(self.names).count(name) > 1}
    if twice:
      raise ValueError(
        f'more than one column is called {", ".join(map(repr, sorted(twice)))}'
        '; give each a name of its own, as ISIC2018_Dice and PH2_Dice'
      )

  def column(self, name: str) -> list[str]:
    at = list(self.names).index(name)
    return [row[at] for row in self.rows]

  def place(self, row: int, name: str) -> str:
    """Where a cell was printed."""
    if self.turned:
      name, row = self.rows[row][0], list(self.names).index(name) - 1
    number = f'line {self.lines[row]}' if self.lines else f'row {row + 1}'
    return f'{number}, column {name!r}'

  def turn(self) -> 'Table':
    """Rows as columns; the first column has their headings."""
    corner, *heads = self.names
    return Table(
      names=[corner, *self.column(corner)],
      rows=[[head, *self.column(head)] for head in heads],
      lines=self.lines,
      turned=True,
    )


def from_columns(columns: Mapping[str, Sequence[str]]) -> Table:
  """A table in memory, {heading: cells}; None is an empty cell.

  Raises:
    ValueError: If columns differ in length.
  """
  if not columns:
    raise ValueError('there are no columns')
  if len({len(cells) for cells in columns.values()}) > 1:
    sizes = {name: len(cells) for name, cells in columns.items()}
    raise ValueError(f'columns differ in length: {sizes}')
  cells = [
    ['' if cell is None else str(cell).strip() for cell in column]
    for column in columns.values()
  ]
  return Table(list(columns), list(zip(*cells, strict=True)))


def read(path: str | os.PathLike) -> tuple[Table, list[str]]:
  """A table from a CSV file with one line of headings, and what it lacks.

  Commas, semicolons or tabs divide the cells, whatever the headings have most.

  Returns:
    The table of the rows that are whole, and a sentence for each that is not.

  Raises:
    OSError: If the file cannot be read.
    ValueError: If it is no table: empty, not UTF-8, headings not all different.
  """
  try:
    with open(path, encoding='utf-8-sig', newline='') as file:
      first = file.readline()
      file.seek(0)
      divider = max(',;\t', key=first.count)
      return _rows(csv.reader(file, delimiter=divider, strict=True))
  except UnicodeDecodeError as error:
    raise ValueError(f'not text in UTF-8 (byte {error.start})') from error


def _rows(lines) -> tuple[Table, list[str]]:
  rows, numbers, faults, heads = [], [], [], None
  try:
    for cells in lines:
      cells = [cell.strip() for cell in cells]
      if not any(cells):
        continue
      if heads is None:
        heads = [cell or f'column {i + 1}' for i, cell in enumerate(cells)]
      elif len(cells) != len(heads):
        faults.append(
          f'line {lines.line_num}: cells: {len(cells)}, headings: {len(heads)};'
          ' quote a cell that has a comma'
        )
      else:
        rows.append(cells)
        numbers.append(lines.line_num)
  except csv.Error as error:
    faults.append(f'line {lines.line_num}: {error}; nothing after it was read')
  if heads is None:
    raise ValueError('; '.join(faults) or 'empty: a line of headings is needed')
  return Table(heads, rows, numbers), faults


def is_on_its_side(table: Table, named: Sequence[str] = ()) -> bool:
  """Whether scores are in rows, and columns are systems.

  A table of losses has rows called Dice, too, which hold no Dice.

  Args:
    table: As printed.
    named: Columns that somebody named; they decide.
  """
  first = table.column(table.names[0])
  heads = [table.names[0], *first]
  if len(set(heads)) < len(heads) or 'loss' in names.words(table.names[0]):
    return False
  if named:
    return not set(named) & set(table.names) and set(named) <= set(first)
  if any(map(names.recognise, table.names)):
    return False
  return any(map(names.recognise, first))
