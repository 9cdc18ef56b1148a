"""Runs measurements one after the other, each in a fresh process."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from jaxderm.benchmark import table
from jaxderm.benchmark.measure import Job
from jaxderm.writer import write_json

# Of a measuring process, unless the caller's environment says otherwise.
_ENVIRONMENT = {
  # Two frameworks share one GPU: ours must not take three quarters of it.
  'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  # OpenMP's threads shall spin from one operation to the next, and sleep while
  # ours runs in the same process. Where they always sleep, theirs is the slower
  # one (MobileNetV2, 96 pixels, batch 4: 38 images/s instead of 79); where
  # they always spin, ours is (68 instead of 95).
  'OMP_WAIT_POLICY': 'PASSIVE',
  'GOMP_SPINCOUNT': '1000000',
}


class JobError(ValueError):
  """A measurement that did not end well."""


def run(job: Job, timeout: float | None = None) -> dict[str, Any]:
  """The result of a job.

  Raises:
    JobError: It failed or took longer than `timeout` seconds; says how.
  """
  with tempfile.TemporaryDirectory() as folder:
    given = pathlib.Path(folder, 'job.json')
    made = pathlib.Path(folder, 'result.json')
    job.write(given)
    command = [sys.executable, '-m', 'jaxderm.benchmark.measure']
    environment = _ENVIRONMENT | os.environ
    try:
      done = subprocess.run(
        [*command, str(given), str(made)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
      )
    except subprocess.TimeoutExpired:
      raise JobError(f'not done within {timeout:.0f} s') from None
    if done.returncode or not made.exists():
      said = done.stderr.strip().splitlines() or ['it said nothing']
      if done.returncode == -signal.SIGKILL:
        said = ['killed, most likely for want of memory: try a smaller --batch']
      raise JobError(f'exit status {done.returncode}: {said[-1]}')
    return table.read_json(made)


def _describe(job: Job) -> dict[str, Any]:
  """What is to be measured, before anything is."""
  return {
    'name': job.workload.name,
    'size': job.workload.size,
    'batch': job.workload.batch,
    'precision': job.precision,
    'peer': job.peer,
  }


def measure(job: Job, *, starts: bool, timeout: float | None) -> dict[str, Any]:
  """Everything about one workload; what failed is in 'error'.

  With `starts`, a first process meets an empty cache and fills it, and the
  measuring process is the second start. Without, the measuring process has
  no cache, and its start is the cold one.
  """
  begin = time.monotonic()
  result = _describe(job)

  def left() -> float | None:
    return None if timeout is None else timeout - (time.monotonic() - begin)

  with tempfile.TemporaryDirectory() as cache:
    try:
      if starts:
        job = dataclasses.replace(job, cache=cache)
        cold = run(dataclasses.replace(job, kind='first_step'), left())
        result |= run(job, left())
        result['first_step_cached'] = result.pop('first_step')
        result['first_step_cold'] = cold['first_step']
      else:
        result |= run(job, left())
        result['first_step_cold'] = result.pop('first_step')
    except JobError as error:
      result['error'] = str(error)
  return result | {'took': time.monotonic() - begin}


def run_all(
  jobs: Sequence[Job],
  out: pathlib.Path,
  *,
  starts: bool,
  budget: float | None,
  again: bool,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Measures what `out`/benchmark.json does not hold yet, and writes it there.

  Args:
    jobs: In order of importance.
    out: Folder of the results.
    starts: See `measure`.
    budget: Seconds for everything; what does not fit is named in 'left_out'.
    again: Whether to measure anew what is there.
    say: Told of each result.
  """
  begin = time.monotonic()
  path = out / 'benchmark.json'
  out.mkdir(parents=True, exist_ok=True)
  results = table.read_json(path) if path.exists() else {}
  rows = {table.key(row): row for row in results.get('rows', [])}
  limits = run(dataclasses.replace(jobs[0], kind='device'))
  left_out = []
  for job in jobs:
    images = job.workload.batch_for(limits['platform'], fill=job.fill)
    work = dataclasses.replace(job.workload, batch=images)
    job = dataclasses.replace(job, workload=work, fill=False)
    described = _describe(job) | {'device': limits}
    wanted = table.key(described)
    if not again and wanted in rows and 'error' not in rows[wanted]:
      continue
    left = None if budget is None else budget - (time.monotonic() - begin)
    if left is None or left > 0:
      row = described | measure(job, starts=starts, timeout=left)
    if left is not None and time.monotonic() - begin >= budget:
      left_out.append(work.name)  # not begun, or cut off
      continue
    rows[wanted] = row
    say(table.line(row))
    write_json(path, {'rows': list(rows.values()), 'left_out': left_out})
  content = {'rows': list(rows.values()), 'left_out': left_out}
  write_json(path, content)
  return content
