"""A table as Markdown and as CSV: the printed line, then ours."""

import csv
import io
from collections.abc import Mapping, Sequence

from jaxderm.tables.plan import Plan, Row
from jaxderm.tables.printed import Line
from jaxderm.tables.results import Result

_SIZES = ('parameters', 'multiply_adds', 'images_per_second')


def records(
  plan: Plan,
  printed: Mapping[str, Line],
  results: Sequence[tuple[Row, Mapping[str, Result]]],
) -> list[dict]:
  """One record for each line: what is printed, then each protocol's result."""
  told = []
  for row, by_protocol in results:
    line = printed[row.printed]
    record = _empty(plan, row, 'printed')
    for heading in plan.scores:
      record[heading] = line.score(row, heading)
    record['note'] = line.doubts(row, list(plan.scores))
    if plan.sizes:
      record['parameters'] = int(line.cells[plan.sizes])
    told.append(record)
    told += [_ours(plan, row, p, r) for p, r in by_protocol.items()]
  return told


def _empty(plan: Plan, row: Row, kind: str) -> dict:
  loss = row.changes.get('loss')
  name = row.printed + (f' ({loss["name"]})' if row.columns and loss else '')
  record = {'system': name, 'protocol': kind}
  for heading in plan.scores:
    for key in _columns(heading):
      record[key] = ''
  empty = ('members', 'test images', *_SIZES, 'note')
  return record | dict.fromkeys(empty, '')


def _columns(heading: str) -> tuple[str, ...]:
  return heading, f'{heading} sd', f'{heading} low', f'{heading} high'


def _ours(plan: Plan, row: Row, protocol: str, result: Result) -> dict:
  record = _empty(plan, row, protocol)
  if result.error is not None:
    return record | {'note': result.error}
  for heading, path in plan.scores.items():
    values = result.scores[path]
    for key, value in zip(_columns(heading), values, strict=True):
      record[key] = '' if value is None else f'{plan.scale * value:.4g}'
  return record | {
    'members': result.members or '',
    'test images': result.images or '',
    'parameters': result.parameters,
    'multiply_adds': result.multiply_adds,
    'images_per_second': '' if result.speed is None else f'{result.speed:.1f}',
    'note': result.note,
  }


def to_csv(table: Sequence[Mapping]) -> str:
  """The records with all their columns."""
  file = io.StringIO(newline='')
  writer = csv.DictWriter(file, list(table[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(table)
  return file.getvalue()


def to_markdown(plan: Plan, table: Sequence[Mapping]) -> str:
  """The records, each score with its deviation and its interval."""
  head = ['system', 'protocol', *plan.scores, 'members', 'test images']
  head += ['parameters', 'multiply-adds', 'images/s', 'note']
  lines = [head, ['---'] * len(head)]
  for record in table:
    scores = [_score(record, heading) for heading in plan.scores]
    sizes = [_grouped(record[key]) for key in _SIZES]
    counts = [str(record['members']), str(record['test images'])]
    names = [record['system'], record['protocol']]
    lines.append([*names, *scores, *counts, *sizes, str(record['note'])])
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _score(record: Mapping, heading: str) -> str:
  value, deviation, low, high = (record[key] for key in _columns(heading))
  if value and deviation:
    value = f'{value} ± {deviation}'
  return f'{value} [{low}, {high}]' if low else value


def _grouped(value) -> str:
  return f'{value:,}' if isinstance(value, int) else str(value)
