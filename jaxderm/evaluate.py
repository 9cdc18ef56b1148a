"""One part of the data to `rows.csv`, `summary.json` and a report page.

What is measured and shown is the task's; see `scoring`.
"""

import datetime
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

import jax
import numpy as np
from ml_collections import ConfigDict

import jaxderm
from jaxderm import experiment, figures, inference, scoring, sharding
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import pipeline
from jaxderm.scoring import at_own_size  # noqa: F401  (maps that are used)
from jaxderm.writer import say, write_json

_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


def load_member(
  made: experiment.Experiment, workdir: pathlib.Path, checkpoint: str
) -> tuple[dict, int]:
  """The variables of a checkpoint and its step.

  Args:
    made: The experiment of that run.
    workdir: The run's folder.
    checkpoint: 'best', 'latest' or a step.
  """
  checkpoints = Checkpoints(workdir / 'checkpoints')
  try:
    # The schedule's length does not show in the state.
    like = made.create_state(made.make_optimizer(1)[0])
    state, _ = checkpoints.restore(like, checkpoint)
  finally:
    checkpoints.close()
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  return variables, int(jax.device_get(state.step))


class Mapper:
  """Examples to probabilities, with one compiled program for all.

  Attributes:
    size: Pixels of each side of a map, where probabilities are maps.
  """

  def __init__(self, made: experiment.Experiment, variables, batch_size: int):
    """Takes the members' variables and how many images go together."""
    config = made.config
    self._made, self._batch_size = made, batch_size
    self.size = config.data.size
    self._member = inference.fold(
      made.network, made.task, variables, made.example(batch_size)
    )
    self._predict = inference.make_predict(
      made.network,
      made.task,
      made.prepare,
      made.mesh,
      views=config.evaluate.views,
      precision=config.precision,
    )

  def __call__(
    self, examples: pipeline.Examples
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, probabilities) of this process's share.

    Probabilities are float32, a map [size, size, 1] or [C] of classes.
    """
    batches = pipeline.evaluation_batches(examples, self._batch_size)
    for indices, batch in batches:
      maps = self._predict(self._member, sharding.place(batch, self._made.mesh))
      for index, map_ in zip(indices, sharding.own(maps), strict=True):
        if index >= 0:
          yield int(index), map_


def _command() -> str:
  program, *arguments = sys.argv
  if program.endswith(os.path.join('jaxderm', 'main.py')):
    return shlex.join(['python', '-m', 'jaxderm.main', *arguments])
  return shlex.join(sys.argv)  # a notebook or a script


def _host() -> str:
  """What the processor calls itself, and how many cores it has."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
  return f'{os.cpu_count()} cores, {(names or [platform.machine()])[0]}'


def _describe(
  made, data, facts: Mapping, split: str, step: int, checkpoint: str
) -> dict:
  """What was evaluated, with what: enough to do it again."""
  config = made.config
  device = jax.devices()[0]
  return {
    'system': made.name,
    'dataset': config.data.name,
    'data_hash': data.index.hash,
    'split_mode': data.split.mode,
    'split_note': data.split.note,
    'fold': config.fold,
    'folds': config.data.folds,
    'seed': config.seed,
    'part': split,
    'images': {part: len(x) for part, x in data.parts.items()},
    'size': config.data.size,
    **facts,
    'epochs': config.epochs,
    'batch_size': config.data.batch_size,
    'precision': config.precision,
    'views': list(config.evaluate.views),
    'checkpoint': checkpoint,
    'step': step,
    'device': f'{jax.device_count()} x {device.device_kind}',
    'host': _host(),
    'versions': {
      'jaxderm': jaxderm.__version__,
      'python': platform.python_version(),
    }
    | {name: metadata.version(name) for name in _LIBRARIES},
    'command': _command(),
    'date': datetime.date.today().isoformat(),
  }


def _tell(summary: dict, lines: list[str], folder: pathlib.Path) -> None:
  run = summary['run']
  say(f'{run["part"]}: {summary["n_images"]} images, step {run["step"]}')
  for line in lines:
    say(f'  {line}')
  say(f'report: {folder / "report.html"}')


def evaluate(
  config: ConfigDict,
  workdir: pathlib.Path,
  split: str | None = None,
  checkpoint: str = 'best',
  out: str | None = None,
) -> dict:
  """Evaluates a checkpoint of a run on one part of its data.

  Args:
    config: Of the run.
    workdir: The run's folder.
    split: 'train', 'validation' or 'test'; if None, 'test' where there are
      test images and else 'validation'.
    checkpoint: 'best', 'latest' or a step.
    out: Where `rows.csv`, `summary.json` and `report.html` go; the workdir if
      None.

  Returns:
    The summary.

  Raises:
    FileNotFoundError: No such run or checkpoint.
    ValueError: The part has no images.
  """
  folder = pathlib.Path(out) if out else workdir
  folder.mkdir(parents=True, exist_ok=True)
  made = experiment.make(config, workdir)
  data = experiment.open_data(config, workdir)
  split = split or ('test' if len(data.parts['test']) else 'validation')
  examples = data.parts[split]
  if not len(examples):
    raise ValueError(
      f'The {split} part of {config.data.name} is empty under '
      f'data.split={data.split.mode!r}; evaluate another --split.'
    )
  made = experiment.with_data(made, data)
  variables, step = load_member(made, workdir, checkpoint)
  settings = config.evaluate
  score = scoring.SCORINGS[config.task](data.index, settings.threshold)
  mapper = Mapper(made, variables, settings.batch_size)
  table = [[i, *score.measure(p, examples, i)] for i, p in mapper(examples)]
  table = np.array(table, np.float64).reshape(-1, 1 + len(score.columns))
  table = sharding.gather_uneven(table)
  table = table[np.argsort(table[:, 0])]
  rows = score.rows(table[:, 1:], examples.rows[table[:, 0].astype(int)])
  run = _describe(made, data, score.facts, split, step, checkpoint)
  summary = {'run': run, **score.summarise(rows, settings.resamples)}
  pictures = score.pictures(rows, examples, mapper)
  if jax.process_index() == 0:
    score.write_rows(folder / 'rows.csv', rows)
    write_json(folder / 'summary.json', summary)
    curves = figures.curves(workdir / 'metrics.jsonl')
    score.write_report(folder / 'report.html', summary, curves, pictures)
    _tell(summary, score.headlines(summary), folder)
  return summary
