"""Means that a table prints beside what they are means of."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction

from jaxderm.audit import names
from jaxderm.audit.printed import Printed, mean, shown
from jaxderm.audit.rules import Finding

Cells = Sequence[Printed | None]


@dataclasses.dataclass(frozen=True)
class Mean:
  """A printed mean and the numbers beside it.

  Attributes:
    row: As in Finding.
    name: As in Finding.
    column: Its heading.
    printed: The mean.
    parts: The numbers, in the same unit.
  """

  row: int
  name: str
  column: str
  printed: Printed
  parts: Sequence[Printed]

  @property
  def beyond(self) -> Fraction:
    """How far it is from any mean of the parts; not above 0 if it is one."""
    low, _, high = mean(self.parts)
    return max(low - self.printed.high, self.printed.low - high)


def class_means(means: Sequence[Mean], plain: bool = False) -> list[Finding]:
  """Which of the means are none of what stands beside them.

  A mean may be weighted, or of something that is not printed; so at least half
  of those in a row or column must be plain means before the others are told.

  Args:
    means: Those of one row or of one column.
    plain: They are called macro, so they are plain.
  """
  wrong = [each for each in means if each.beyond > 0]
  if not plain and 2 * len(wrong) > len(means):
    return []
  return [_finding(each) for each in wrong]


def _finding(each: Mean) -> Finding:
  _, expected, _ = mean(each.parts)
  unit = each.printed.unit
  return Finding(
    rule='class_mean',
    row=each.row,
    name=each.name,
    columns=(each.column,),
    printed=(each.printed.text,),
    difference=float((each.printed.value - expected) / unit),
    beyond=float(each.beyond / unit),
    reason=f'The {len(each.parts)} printed values have the mean '
    f'{shown(expected, each.printed)}.',
  )


def of_columns(
  column: str, numbers: Mapping[str, Cells], labels: Sequence[str]
) -> list[Mean]:
  """The means in a column of means, of the columns before it.

  Of which of them is not printed: of those of which most rows are a mean, and
  the most columns among these. So Epoch and Size do not count.

  Args:
    column: Its heading, the last of `numbers`.
    numbers: Headings and cells of the columns of numbers up to it, unscaled.
    labels: What the rows are called.
  """
  parts = [name for name in numbers if name != column]
  best, agreeing = [], 0
  for first in range(len(parts) - 1):
    means = []
    for row, label in enumerate(labels):
      cells = [numbers[name][row] for name in (*parts[first:], column)]
      if all(cells):
        percent = any(cell.percent or cell.value > 1 for cell in cells)
        *values, printed = [cell.share(percent) for cell in cells]
        means.append(Mean(row, label, column, printed, values))
    agree = sum(each.beyond <= 0 for each in means)
    if not best or agree > agreeing:
      best, agreeing = means, agree
  return best


def of_rows(
  row: int,
  cells: Sequence[Sequence[str]],
  numbers: Mapping[str, Cells],
  labels: Sequence[str],
) -> list[Mean]:
  """The means in a row of means, of the rows right above it.

  Rows that are themselves made of others, as 'weighted avg', are passed over;
  what else the row is called, as its data set, the others are called, too.

  Args:
    row: Its number.
    cells: What names each row, a cell for each column of names.
    numbers: Headings and cells of the columns of scores, as shares of 1.
    labels: What the rows are called.
  """
  others = [i for i, cell in enumerate(cells[row]) if not names.is_mean(cell)]
  above = []
  for i in reversed(range(row)):
    if any(names.is_summary(cell) for cell in cells[i]):
      if above:
        break
    elif any(cells[i][k] != cells[row][k] for k in others):
      break
    else:
      above.append(i)
  means = []
  for name, column in numbers.items():
    parts = [column[i] for i in above]
    if column[row] and len(parts) > 1 and all(parts):
      means.append(Mean(row, labels[row], name, column[row], parts))
  return means
