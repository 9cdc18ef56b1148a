"""What a run tells while it goes on: one JSON line per event, and a bar."""

import json
import math
import pathlib
import sys
from collections.abc import Callable, Mapping

import jax
from tqdm import tqdm


def say(message: str) -> None:
  """Prints a line, once per run however many hosts there are."""
  if jax.process_index() == 0:
    tqdm.write(message)
    sys.stdout.flush()


def exit_status(run: Callable[[], int], debug: bool = False) -> int:
  """What a command ends with: what `run` returns, or 2 after one message.

  Args:
    run: The command.
    debug: Whether an error is raised as it is, with its traceback.
  """
  try:
    return run()
  except (ValueError, OSError) as error:
    if debug:
      raise
    print(f'error: {error}', file=sys.stderr)
    return 2


def replace_text(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  draft = path.with_name(path.name + '.tmp')
  draft.write_text(text)
  draft.replace(path)


def write_json(path: pathlib.Path, content: Mapping) -> None:
  """Writes a file that people and programs can read."""
  replace_text(path, json.dumps(content, indent=2, sort_keys=True) + '\n')


def progress_bar(total: int, done: int) -> tqdm:
  """A bar over images, with images/s and the time left; none in a log file.

  Args:
    total: Images in the whole run, counted once per pass.
    done: Those before this start.
  """
  return tqdm(
    total=total,
    initial=done,
    unit=' images',
    disable=jax.process_index() != 0 or not sys.stderr.isatty(),
    dynamic_ncols=True,
    smoothing=0.1,
  )


class MetricWriter:
  """Appends to `metrics.jsonl`, and to TensorBoard where it is installed.

  Only process 0 writes.
  """

  def __init__(self, workdir: pathlib.Path, start: int):
    """Opens the files; lines past step `start` were of a killed run and go.

    Args:
      workdir: The run's folder.
      start: The step at which the run begins or goes on.
    """
    self._file = self._board = None
    if jax.process_index():
      return
    path = pathlib.Path(workdir) / 'metrics.jsonl'
    kept = [line for line in _lines(path) if json.loads(line)['step'] <= start]
    replace_text(path, ''.join(line + '\n' for line in kept))
    self._file = path.open('a', buffering=1)
    try:
      from tensorboardX import SummaryWriter
    except ImportError:
      return
    self._board = SummaryWriter(str(workdir), purge_step=start + 1)

  def write(
    self, step: int, epoch: float, kind: str, scalars: Mapping[str, float]
  ) -> None:
    """Writes one event; what is not finite is written as null.

    Args:
      step: Updates done.
      epoch: Passes over the training images.
      kind: 'train' or 'validation'.
      scalars: Numbers by name.
    """
    if self._file is None:
      return
    values = {
      k: float(v) if math.isfinite(float(v)) else None
      for k, v in scalars.items()
    }
    event = {'step': step, 'epoch': round(epoch, 4), 'kind': kind} | values
    self._file.write(json.dumps(event) + '\n')
    if self._board is not None:
      for name, value in values.items():
        if value is not None:
          self._board.add_scalar(f'{kind}/{name}', value, step)

  def close(self) -> None:
    """Writes out what is pending."""
    for file in (self._file, self._board):
      if file is not None:
        file.close()


def events(path: pathlib.Path, kind: str) -> list[dict]:
  """What a run has told of a kind, in its order; of no file, nothing.

  Args:
    path: `metrics.jsonl`.
    kind: 'train' or 'validation'.
  """
  told = [json.loads(line) for line in _lines(path)]
  return [event for event in told if event['kind'] == kind]


def _lines(path: pathlib.Path) -> list[str]:
  """Whole lines; a killed run may have left half of one."""
  if not path.exists():
    return []
  lines = path.read_text().splitlines()
  whole = []
  for line in lines:
    try:
      json.loads(line)
    except json.JSONDecodeError:
      continue
    whole.append(line)
  return whole
