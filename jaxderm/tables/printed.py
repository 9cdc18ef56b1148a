"""What a paper prints in a table, and which of it cannot be true."""

import csv
import dataclasses
import importlib.resources
from collections.abc import Mapping, Sequence

from jaxderm import audit
from jaxderm.tables.plan import Plan, Row


@dataclasses.dataclass(frozen=True)
class Line:
  """A printed line.

  Attributes:
    cells: {heading: text}.
    reasons: Why it cannot be true: headings of the numbers, and a sentence.
  """

  cells: Mapping[str, str]
  reasons: Sequence[tuple[tuple[str, ...], str]] = ()

  def score(self, row: Row, heading: str) -> str:
    """What is printed of a row under a heading; '' if nothing is."""
    return self.cells.get(row.columns.get(heading, heading), '')

  def doubts(self, row: Row, headings: Sequence[str]) -> str:
    """Why those numbers of a row cannot be true; '' if they can."""
    used = {row.columns.get(heading, heading) for heading in headings}
    return '; '.join(why for names, why in self.reasons if used & set(names))


def read(paper: str, table: str) -> dict[str, list[str]]:
  """The columns of a printed table, {heading: cells}."""
  folder = importlib.resources.files('jaxderm.tables') / 'printed'
  text = (folder / f'{paper}_table{table}.csv').read_text()
  heading, *lines = csv.reader(text.splitlines())
  columns = zip(*lines, strict=True)
  return dict(zip(heading, map(list, columns), strict=True))


def lines(paper: str, table: str, plan: Plan, data: str) -> dict[str, Line]:
  """The printed lines of a plan by what the paper calls them.

  A line's name is its first cells up to the first number, joined by ' / ',
  without that of the data set. A year is part of it where the first cell alone
  names several lines.
  """
  columns = read(paper, table)
  headings = list(columns)
  first = columns[headings[0]]
  named = 1
  if headings[1] == 'Year' and len(set(first)) < len(first):
    named = 2
  while not any(cell[:1].isdigit() for cell in columns[headings[named]]):
    named += 1
  reasons: dict[int, list] = {}
  for finding in audit.findings(columns):
    told = (tuple(finding.columns), finding.reason)
    reasons.setdefault(finding.row, []).append(told)
  section = plan.section.get(data)
  found = {}
  for i, cells in enumerate(zip(*columns.values(), strict=True)):
    names = list(cells[:named])
    if section is not None and names.pop(0) != section:
      continue
    line = Line(dict(zip(headings, cells, strict=True)), reasons.get(i, ()))
    found[' / '.join(names)] = line
  return found
