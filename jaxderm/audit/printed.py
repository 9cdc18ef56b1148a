"""Numbers as a table prints them, and all that they can stand for."""

import dataclasses
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

_MISSING = {'', '-', '--', '–', '—', '/', 'n/a', 'na', 'nan', 'none', 'null'}
_DIGITS = r'[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,2})?'
_CELL = re.compile(
  rf'(?P<number>{_DIGITS})\s*(?P<percent>%?)\s*'
  rf'(?:(?:±|\+/-|\+-|\\pm)\s*(?P<spread>{_DIGITS})\s*%?|[(\[].*)?'
)
_COUNT = re.compile(r'[1-9]\d{0,2}(?:,\d{3})+|\d+')


@dataclasses.dataclass(frozen=True)
class Printed:
  """A number in a cell, exact.

  Attributes:
    text: The cell as printed.
    value: The number. Of a score, as a share of 1.
    low: The least value that is rounded to these digits.
    high: The greatest.
    spread: The greatest deviation that is rounded to what follows a ±, or 0.
    unit: What 1 is as printed: 1/100 for percent.
    percent: A '%' is printed beside it.
  """

  text: str
  value: Fraction
  low: Fraction
  high: Fraction
  spread: Fraction = Fraction(0)
  unit: Fraction = Fraction(1)
  percent: bool = False

  @property
  def in_range(self) -> bool:
    """Whether a share of 1 may be rounded to it."""
    return self.low <= 1 and self.high >= 0

  def share(self, percent: bool) -> 'Printed':
    """The same as a share of 1, printed as such or in percent."""
    unit = Fraction(1, 100) if percent else Fraction(1)
    low, high = self.low * unit, self.high * unit
    if low <= 1 and high >= 0:  # rounding leads nowhere outside
      low, high = max(low, Fraction(0)), min(high, Fraction(1))
    return dataclasses.replace(
      self,
      value=self.value * unit,
      low=low,
      high=high,
      spread=self.spread * unit,
      unit=unit,
    )


def parse(text: str) -> Printed | None:
  """A printed score: 0.90, 84.32, 76.4%, 91.6 ± 0.1, 0.93 (0.91 to 0.95).

  0.90 stands for all from 0.895 to 0.905, and 0.9 for 0.85 to 0.95.

  Returns:
    The number, or None for an empty cell and signs for nothing, as '-'.

  Raises:
    ValueError: If it is something else.
  """
  plain = text.replace('−', '-').replace('$', '').lower().strip().strip('*†‡ ')
  if plain in _MISSING:
    return None
  cell = _CELL.fullmatch(plain)
  if cell is None:
    raise ValueError(f'{text!r} is not a number')
  value, half = _digits(cell['number'])
  spread = sum(_digits(cell['spread'] or '0'))
  return Printed(
    text=text.strip(),
    value=value,
    low=value - half,
    high=value + half,
    spread=spread if cell['spread'] else Fraction(0),
    percent=bool(cell['percent']),
  )


def count(text: str) -> Printed | None:
  """A printed count, exact: 2594 or 2,594; None as in `parse`, or if a share.

  Raises:
    ValueError: If it is no whole number.
  """
  plain = text.strip().lower()
  if plain in _MISSING or plain.endswith('%'):
    return None
  if not _COUNT.fullmatch(plain):
    raise ValueError(f'{text!r} is not a count, as 2594 or 2,594')
  value = Fraction(plain.replace(',', ''))
  return Printed(text.strip(), value, value, value)


def _digits(text: str) -> tuple[Fraction, Fraction]:
  """The value, and half of what its last digit counts."""
  number = Decimal(text)
  half = Fraction(10) ** number.as_tuple().exponent / 2
  return Fraction(number), half


def mean(parts: Sequence[Printed]) -> tuple[Fraction, Fraction, Fraction]:
  """The least mean, that of the digits, and the greatest."""
  n = len(parts)
  return (
    sum(part.low for part in parts) / n,
    sum(part.value for part in parts) / n,
    sum(part.high for part in parts) / n,
  )


def shown(value: Fraction, like: Printed) -> str:
  """A share of 1, in the unit of a printed number."""
  return f'{float(value / like.unit):.4g}'
