"""Which rows of a table of results cannot be true.

  python -m jaxderm.audit FILE.csv

Every printed number stands for all that are rounded to its digits. A finding is
a row that no such numbers could satisfy, so it is wrong whatever was measured.
"""

from collections.abc import Mapping, Sequence

from jaxderm.audit.means import class_means
from jaxderm.audit.reading import Hints, Reading, read
from jaxderm.audit.rules import RULES, Finding
from jaxderm.audit.table import Table, from_columns
from jaxderm.audit.table import read as read_csv

__all__ = [
  'Finding',
  'Hints',
  'Reading',
  'Table',
  'check',
  'findings',
  'read',
  'read_csv',
]


def findings(
  columns: Mapping[str, Sequence[str]],
  *,
  named: Mapping[str, str] | None = None,
  averaging: str | None = None,
  one_class: bool = False,
) -> list[Finding]:
  """What cannot be true in a table in memory.

  Args:
    columns: {heading: cells} as printed: '0.90' is not '0.9'. Scores may be in
      columns or in rows.
    named: {role: heading}, as {'Dice': 'overlap'}, for headings that are not
      recognised.
    averaging: 'pooled' or 'per_image' for all Dice and IoU; None to go by the
      stars of the headings.
    one_class: Precision, recall and F1 of a row are of one class on one set.

  Returns:
    Findings, by rows.

  Raises:
    ValueError: If text stands where a number belongs, columns differ in
      length, or `named` has a role or a heading that there is not.
  """
  hints = Hints(dict(named or {}), averaging, one_class)
  reading = read(from_columns(columns), hints)
  if reading.faults:
    raise ValueError('; '.join(reading.faults))
  return check(reading)


def check(reading: Reading) -> list[Finding]:
  """What cannot be true in what was read, by rows."""
  found = [
    finding
    for entry in reading.entries
    for rule in RULES
    for finding in rule(entry)
  ]
  for means, plain in reading.means:
    found += class_means(means, plain)
  return sorted(found, key=lambda finding: finding.row)
