"""What a row of a table comes to."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from jaxderm import cost, rows, scoring, systems
from jaxderm.tables.plan import Plan, Row


@dataclasses.dataclass(frozen=True)
class Result:
  """What a row came to under one protocol.

  Attributes:
    scores: {'convention.score': (mean, deviation, low, high)} over members; the
      deviation is None of one member.
    members: How many there are.
    images: Test images of all members together, each counted once.
    parameters: Trainable ones.
    multiply_adds: Of an image.
    speed: Images per second in training, the median of what was logged.
    error: Why there is nothing, or None.
    note: What a reader of the numbers should know.
  """

  scores: Mapping[str, tuple[float, float | None, float, float]]
  members: int = 0
  images: int = 0
  parameters: int | None = None
  multiply_adds: int | None = None
  speed: float | None = None
  error: str | None = None
  note: str = ''


def measure(row: Row, paper: str, size: int) -> Result:
  """What a row of a table of sizes comes to: as the paper counts it."""
  system = systems.SYSTEMS[f'{paper}/{row.system}']
  network = systems.build(system.name)
  trainable, every = cost.parameters(network, size)
  return Result(
    {},
    parameters=every if system.printed_kind == 'all' else trainable,
    multiply_adds=cost.multiply_adds(network, size),
    note=(
      f'all variables, as printed; {trainable:,} are trained'
      if system.printed_kind == 'all'
      else system.note
    ),
  )


def together(
  plan: Plan,
  networks: Sequence[nn.Module],
  size: int,
  folders: Sequence[pathlib.Path],
  trained: Sequence[pathlib.Path],
) -> Result:
  """What the members of a row came to.

  Args:
    plan: Of the table.
    networks: Of the row, each that an answer takes.
    size: Side of their images, in pixels.
    folders: With `rows.csv` and `summary.json`, one for each member.
    trained: Folders of the runs.
  """
  kind = scoring.SCORINGS[networks[0].task]
  tables = [rows.read_rows(f / 'rows.csv', kind.needed) for f in folders]
  summaries = [
    json.loads((folder / 'summary.json').read_text()) for folder in folders
  ]
  return Result(
    scores=combine(plan, tables, summaries, kind.summarise),
    members=len(folders),
    images=len({line['image_id'] for table in tables for line in table}),
    parameters=sum(cost.parameters(n, size)[0] for n in networks),
    multiply_adds=sum(cost.multiply_adds(n, size) for n in networks),
    speed=None if len(networks) > 1 else _speed(trained),
  )


def combine(
  plan: Plan, tables: Sequence, summaries: Sequence, summarise: Callable
) -> dict[str, tuple]:
  """Mean, deviation and interval of each score over members.

  The interval is of the images of all members together, lesions drawn with all
  their images in all members: of folds it is that of all their test images, of
  seeds that of the mean over seeds.

  Args:
    plan: Its scores are wanted.
    tables: Rows of each member.
    summaries: Of each member.
    summarise: (rows, resamples=) to a summary, of the task.
  """
  joined = [
    line | {'image_id': f'{line["image_id"]}@{i}'}
    for i, table in enumerate(tables)
    for line in table
  ]
  resamples = summaries[0]['bootstrap']['resamples']
  intervals = summarise(joined, resamples=resamples)['intervals']
  found = {}
  for path in plan.scores.values():
    values = [_at(summary, path) for summary in summaries]
    if None in values:  # of a class that has no image
      found[path] = (None, None, None, None)
      continue
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    low, high = _at(intervals, path)
    found[path] = (float(np.mean(values)), deviation, low, high)
  return found


def _at(tree: Mapping, path: str) -> Any:
  """What is at 'a.b.c'."""
  for name in path.split('.'):
    tree = tree[name]
  return tree


def _speed(workdirs_: Sequence[pathlib.Path]) -> float | None:
  """Images per second in training, but for what was first compiled."""
  speeds = []
  for workdir in workdirs_:
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    events = [json.loads(line) for line in lines]
    told = [e['images_per_second'] for e in events if e['kind'] == 'train']
    speeds += told[1:] or told
  return float(np.median(speeds)) if speeds else None
