"""From the cells of a table to numbers that can be compared."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from jaxderm.audit import means, names, printed
from jaxderm.audit.names import Column
from jaxderm.audit.printed import Printed
from jaxderm.audit.rules import Entry
from jaxderm.audit.table import Table, is_on_its_side

Grid = dict[str, list[Printed | None]]
Groups = dict[tuple, dict[str, Column]]


@dataclasses.dataclass(frozen=True)
class Hints:
  """What a table does not say of itself.

  Attributes:
    named: {role: heading}, for headings that are not recognised.
    averaging: 'pooled' or 'per_image' for all of the table; None to go by the
      stars of its headings.
    one_class: Precision, recall and F1 of a row are of one class on one set.
  """

  named: Mapping[str, str] = dataclasses.field(default_factory=dict)
  averaging: str | None = None
  one_class: bool = False


@dataclasses.dataclass
class Reading:
  """What a table says.

  Attributes:
    table: The table, scores in columns.
    entries: Rows, for each group of columns.
    means: Lists of printed means, and whether they are called macro.
    compared: What is compared, in words.
    faults: What could not be read, and where.
  """

  table: Table
  entries: list[Entry]
  means: list[tuple[list[means.Mean], bool]]
  compared: list[str]
  faults: list[str]


def read(table: Table, hints: Hints) -> Reading:
  """Reads numbers and finds what belongs together.

  Raises:
    ValueError: If `hints` name a role or a column that there is not.
  """
  if is_on_its_side(table, list(hints.named.values())):
    table = table.turn()
  groups = _groups(table, hints)
  faults = []
  counts, scores = {}, {}
  for columns in groups.values():
    for role, column in columns.items():
      if role in names.COUNTS:
        counts[column.name] = _parse(table, column.name, printed.count, faults)
      else:
        scores[column.name] = _scores(table, column.name, faults)
  labels = _labels(table, groups)
  named = [table.column(label) for label in labels]
  cells = list(zip(*named, strict=True)) if labels else [()] * len(table.rows)
  scores = _as_shares(_without_deviations(scores, cells))
  entries = []
  for columns in groups.values():
    entries += _entries(columns, {**scores, **counts}, labels, cells, hints)
  return Reading(
    table=table,
    entries=entries,
    means=_means(table, scores, cells),
    compared=_compared(groups, hints),
    faults=faults,
  )


def _groups(table: Table, hints: Hints) -> Groups:
  """Columns that are compared with each other, by role."""
  named = {}
  for word, heading in hints.named.items():
    known = names.recognise(word)
    if known is None:
      roles = ', '.join((*names.SCORES, *names.COUNTS))
      raise ValueError(f'{word!r} is no score or count; they are: {roles}')
    if heading not in table.names:
      there = ', '.join(table.names)
      raise ValueError(f'there is no column {heading!r}; there are: {there}')
    named[known.role] = heading
  stars = any('*' in heading for heading in named.values())
  groups: Groups = {}
  for role, heading in named.items():
    group = () if role in names.COUNTS else (False, False)
    column = Column(heading, role, group, pooled=stars)
    groups.setdefault(group, {})[role] = column
  for column in filter(None, map(names.recognise, table.names)):
    if column.role not in named and column.name not in named.values():
      group = column.group
      while column.role in groups.setdefault(group, {}):
        group = (*group, 'again')  # Recall, and Sensitivity beside it
      groups[group][column.role] = column
  return {  # a column called Test may hold anything
    group: columns
    for group, columns in groups.items()
    if {'Total', 'Train'} <= set(columns) or set(columns) - set(names.COUNTS)
  }


def _parse(
  table: Table,
  name: str,
  parse: Callable[[str], Printed | None],
  faults: list[str],
) -> list[Printed | None]:
  """The numbers of a column; what is none is told in `faults`."""
  numbers = []
  for row, cell in enumerate(table.column(name)):
    try:
      numbers.append(parse(cell))
    except ValueError as error:
      numbers.append(None)
      faults.append(f'{table.place(row, name)}: {error}')
  return numbers


def _scores(table: Table, name: str, faults: list[str]) -> list[Printed | None]:
  """Scores, each with the deviation that a column beside it prints."""
  scores = _parse(table, name, printed.parse, faults)
  beside = names.spread_of(name, table.names)
  if beside is None:
    return scores
  spreads = _parse(table, beside, printed.parse, faults)
  return [
    dataclasses.replace(score, spread=spread.high)
    if score and spread
    else score
    for score, spread in zip(scores, spreads, strict=True)
  ]


def _as_shares(scores: Grid) -> Grid:
  """Scores as shares of 1, in percent or not as their column and row are.

  What is above 1 in a column and a row of shares stays, and is out of range; so
  is 0.93 in percent among percents.
  """

  def typical(numbers) -> Fraction:
    values = [n.value for n in numbers if n and not n.percent]
    return statistics.median_low(values) if values else Fraction(0)

  across = [typical(row) for row in zip(*scores.values(), strict=True)]
  shares = {}
  for name, column in scores.items():
    down = typical(column)
    shares[name] = [
      score
      and score.share(
        score.percent
        or (max if score.value > 1 else min)(down, across[row]) > 1
      )
      for row, score in enumerate(column)
    ]
  return shares


def _labels(table: Table, groups: Groups) -> list[str]:
  """The columns that name the rows: the first, and text before the scores."""
  read = {column.name for group in groups.values() for column in group.values()}
  labels = []
  for name in table.names:
    if name in read:
      break
    if not labels or _numbers(table, name) is None:
      labels.append(name)
  return labels


def _numbers(table: Table, name: str) -> list[Printed | None] | None:
  """A column of scores of any name; None if there is text in it."""
  faults = []
  numbers = _parse(table, name, printed.parse, faults)
  return numbers if any(numbers) and not faults else None


def _without_deviations(numbers: Grid, cells: Sequence[Sequence[str]]) -> Grid:
  """Rows of deviations hold no scores."""
  kept = [not any(map(names.is_deviation, cell)) for cell in cells]
  return {
    name: [n if keep else None for n, keep in zip(column, kept, strict=True)]
    for name, column in numbers.items()
  }


def _entries(
  columns: Mapping[str, Column],
  numbers: Grid,
  labels: Sequence[str],
  cells: Sequence[Sequence[str]],
  hints: Hints,
) -> list[Entry]:
  of_classes = {'class', 'classes', 'category', 'diagnosis'}
  one_class = hints.one_class or any(
    of_classes & set(names.words(label)) for label in labels
  )
  entries = []
  for row, cell in enumerate(cells):
    found = {r: numbers[c.name][row] for r, c in columns.items()}
    found = {role: number for role, number in found.items() if number}
    joined = any(map(names.is_summary, cell))
    averaged = joined or any(c.averaged for c in columns.values())
    spread = any(number.spread for number in found.values())
    entries.append(
      Entry(
        row=row,
        name=_name(row, cell),
        printed=found,
        columns=columns,
        pooled=_pooled(columns, hints) and not any(map(names.is_mean, cell)),
        one_class=one_class and not averaged and not spread,
      )
    )
  return entries


def _means(
  table: Table, scores: Grid, cells: Sequence[Sequence[str]]
) -> list[tuple[list[means.Mean], bool]]:
  labels = [_name(row, cell) for row, cell in enumerate(cells)]
  found = []
  for at, name in enumerate(table.names):
    if names.is_mean(name):
      block: Grid = {}
      for other in reversed(table.names[: at + 1]):
        if (numbers := _numbers(table, other)) is None:
          break
        block = {other: numbers, **block}
      block = _without_deviations(block, cells)
      if name in block:
        plain = 'macro' in names.words(name)
        found.append((means.of_columns(name, block, labels), plain))
  for row, cell in enumerate(cells):
    if any(map(names.is_mean, cell)):
      plain = 'macro' in names.words(labels[row])
      found.append((means.of_rows(row, cells, scores, labels), plain))
  return found


def _pooled(columns: Mapping[str, Column], hints: Hints) -> bool:
  if hints.averaging:
    return hints.averaging == 'pooled'
  return any(column.pooled for column in columns.values())


def _compared(groups: Groups, hints: Hints) -> list[str]:
  """What is compared, and the Dice and IoU that have no partner."""
  told = []
  for columns in groups.values():
    heads = {role: column.name for role, column in columns.items()}
    dice = heads.get('Dice', heads.get('F1'))
    if 'IoU' in heads and dice:
      pooled = ' (pooled)' * _pooled(columns, hints)
      told.append(f'{heads["IoU"]} with {dice}{pooled}')
    elif lone := heads.get('IoU', heads.get('Dice')):
      told.append(f'{lone} with nothing of its kind (see --columns)')
  return told


def _name(row: int, cell: Sequence[str]) -> str:
  return ' / '.join(filter(None, cell)) or f'row {row + 1}'
