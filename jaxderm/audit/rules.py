"""What the numbers of a row owe each other, whatever was measured.

Each rule takes what a row prints of one group of columns, and tells only what
no values could satisfy that are rounded to the printed digits.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from jaxderm.audit.names import COUNTS, Column
from jaxderm.audit.printed import Printed, mean, shown
from jaxderm.identities import jaccard_of


@dataclasses.dataclass(frozen=True)
class Finding:
  """A row that cannot be true.

  Attributes:
    rule: Name of what it breaks.
    row: Number of the row in the table, from 0; where rows are scores and
      columns are systems, number of the column after the first.
    name: What the row is called.
    columns: Headings of the numbers that disagree.
    printed: Those numbers as printed.
    difference: Of the first from what it should be, as printed, in its unit.
    beyond: What is left of that after the kindest rounding (and, pooled, what
      runs that differ by the printed spread may add). 0 where the values only
      touch, as 0.91 and 0.90 at 0.905: rounding keeps their order.
    reason: A sentence.
  """

  rule: str
  row: int
  name: str
  columns: tuple[str, ...]
  printed: tuple[str, ...]
  difference: float
  beyond: float
  reason: str


@dataclasses.dataclass(frozen=True)
class Entry:
  """What one row prints of one group of columns.

  Attributes:
    row: As in Finding.
    name: As in Finding.
    printed: Scores as shares of 1, and counts, by role.
    columns: The column of each role.
    pooled: Dice and IoU are of counts pooled over images.
    one_class: Precision, recall and F1 are of one class on one set.
  """

  row: int
  name: str
  printed: Mapping[str, Printed]
  columns: Mapping[str, Column]
  pooled: bool = False
  one_class: bool = False

  def scores(self, *roles: str) -> list[Printed] | None:
    """The scores of these roles; None if one is missing or out of range."""
    found = [self.printed.get(role) for role in roles]
    return found if all(x and x.in_range for x in found) else None

  def finding(
    self,
    rule: str,
    roles: Sequence[str],
    difference: Fraction,
    beyond: Fraction,
    reason: str,
  ) -> Finding:
    unit = self.printed[roles[0]].unit
    return Finding(
      rule=rule,
      row=self.row,
      name=self.name,
      columns=tuple(self.columns[role].name for role in roles),
      printed=tuple(self.printed[role].text for role in roles),
      difference=float(difference / unit),
      beyond=float(beyond / unit),
      reason=reason,
    )


def out_of_range(entry: Entry) -> Iterator[Finding]:
  """Scores are from 0 to 1, or to 100 in percent."""
  for role, score in entry.printed.items():
    if role not in COUNTS and not score.in_range:
      over = score.value > 1
      yield entry.finding(
        'out_of_range',
        [role],
        score.value - (1 if over else 0),
        score.low - 1 if over else -score.high,
        f'{role} lies between 0 and {shown(Fraction(1), score)}.',
      )


def iou_above_dice(entry: Entry) -> Iterator[Finding]:
  """IoU is at most Dice on each image, so pooled and in means, too."""
  iou, dice = _iou_and_dice(entry)
  if iou and _above(iou, dice):
    yield entry.finding(
      'iou_above_dice',
      _roles(entry),
      iou.value - dice.value,
      iou.low - dice.high,
      'IoU is at most Dice, pooled or in a mean.',
    )


def pooled_identity(entry: Entry) -> Iterator[Finding]:
  """Pooled, IoU = D / (2 - D).

  The mean of runs lies above that by at most twice the variance of D: the
  second derivative, 4 / (2 - D)^3, is at most 4. So a printed spread counts.
  """
  iou, dice = _iou_and_dice(entry)
  if not iou or not entry.pooled or _above(iou, dice):
    return
  below = jaccard_of(dice.low) - iou.high
  above = iou.low - jaccard_of(dice.high) - 2 * dice.spread**2
  if max(below, above) > 0:
    expected = jaccard_of(dice.value)
    yield entry.finding(
      'pooled_identity',
      _roles(entry),
      iou.value - expected,
      max(below, above),
      f'Pooled, IoU is D / (2 - D) = {shown(expected, iou)}.',
    )


def iou_below_bound(entry: Entry) -> Iterator[Finding]:
  """D / (2 - D) is convex: the mean IoU is at least that of the mean Dice."""
  iou, dice = _iou_and_dice(entry)
  if not iou or entry.pooled:
    return
  if (below := jaccard_of(dice.low) - iou.high) > 0:
    least = jaccard_of(dice.value)
    yield entry.finding(
      'iou_below_bound',
      _roles(entry),
      iou.value - least,
      below,
      f'A mean IoU is at least D / (2 - D) = {shown(least, iou)}.',
    )


def f1_of_precision_and_recall(entry: Entry) -> Iterator[Finding]:
  """F1 of one class is the harmonic mean of its precision and recall.

  The mean F1 of classes is at most the middle of mean precision and recall,
  as each F1 is. It may lie below both: with precisions 1 and 0 and recalls 0
  and 1 it is 0.
  """
  roles = ('F1', 'Precision', 'Recall')
  if not (scores := entry.scores(*roles)):
    return
  f1, precision, recall = scores
  if entry.one_class:
    expected = _harmonic(precision.value, recall.value)
    low = _harmonic(precision.low, recall.low)
    high = _harmonic(precision.high, recall.high)
    rule = 'F1 of one class is 2PR / (P + R)'
  else:
    low, (_, expected, high) = Fraction(0), mean([precision, recall])
    rule = 'F1, or a mean of it, is at most (P + R) / 2'
  if (beyond := max(low - f1.high, f1.low - high)) > 0:
    reason = f'{rule} = {shown(expected, f1)}.'
    yield entry.finding('f1', roles, f1.value - expected, beyond, reason)


def balanced_accuracy(entry: Entry) -> Iterator[Finding]:
  """Balanced accuracy is the mean of sensitivity and specificity.

  That of several classes may be the mean of their sensitivities instead.
  """
  roles = ('Balanced accuracy', 'Recall', 'Specificity')
  if not (scores := entry.scores(*roles)):
    return
  balanced, recall, specificity = scores
  means = [mean([recall, specificity])]
  if not entry.one_class:
    means.append(mean([recall]))
  beyond = min(
    max(low - balanced.high, balanced.low - high) for low, _, high in means
  )
  if beyond > 0:
    expected = means[0][1]
    yield entry.finding(
      'balanced_accuracy',
      roles,
      balanced.value - expected,
      beyond,
      'Balanced accuracy is (sensitivity + specificity) / 2 = '
      f'{shown(expected, balanced)}.',
    )


def split_sum(entry: Entry) -> Iterator[Finding]:
  """Training, validation and test images are all images.

  Where one of the three is not printed, the others are at most all.
  """
  parts = [role for role in COUNTS[1:] if role in entry.printed]
  if 'Total' not in entry.printed or len(parts) < 2:
    return
  counts = [int(entry.printed[part].value) for part in parts]
  total = int(entry.printed['Total'].value)
  more = Fraction(sum(counts) - total)
  if more > 0 or (more < 0 and len(parts) == 3):
    added = ' + '.join(f'{n:,}' for n in counts)
    reason = f'{added} = {sum(counts):,}, and the total is {total:,}.'
    roles = ['Total', *parts]
    yield entry.finding('split_sum', roles, -more, abs(more), reason)


RULES = (
  out_of_range,
  iou_above_dice,
  pooled_identity,
  iou_below_bound,
  f1_of_precision_and_recall,
  balanced_accuracy,
  split_sum,
)


def _roles(entry: Entry) -> tuple[str, str]:
  """F1 of pixels is Dice."""
  return ('IoU', 'Dice' if 'Dice' in entry.printed else 'F1')


def _iou_and_dice(entry: Entry) -> Sequence[Printed | None]:
  return entry.scores(*_roles(entry)) or (None, None)


def _above(a: Printed, b: Printed) -> bool:
  return a.value > b.value and a.low >= b.high


def _harmonic(a: Fraction, b: Fraction) -> Fraction:
  return 2 * a * b / (a + b) if a + b > 0 else Fraction(0)
