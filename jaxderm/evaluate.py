"""One part of the data to `rows.csv`, `summary.json` and a report page.

Scores are of masks at each image's own size: probabilities are brought there
by bilinear interpolation and cut at the threshold. A score at the network's
own size would flatter it.
"""

import datetime
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

import jaxderm
from jaxderm import (
  boundary,
  experiment,
  figures,
  inference,
  metrics,
  report,
  sharding,
)
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import pipeline
from jaxderm.rows import write_rows
from jaxderm.writer import say, write_json

_COLUMNS = (
  'height',
  'width',
  'tp',
  'fp',
  'fn',
  'tn',
  'hausdorff',
  'hd95',
)
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


def at_own_size(probability: np.ndarray, height: int, width: int) -> np.ndarray:
  """A probability map [h, w, 1] at the size of its image, float32 [H, W]."""
  map_ = np.asarray(probability, np.float32)[..., 0]
  return cv2.resize(map_, (width, height), interpolation=cv2.INTER_LINEAR)


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
  """Examples to probability maps, with one compiled program for all.

  Attributes:
    size: Pixels of each side of a map.
  """

  def __init__(self, made: experiment.Experiment, variables, batch_size: int):
    """Takes the members' variables and how many images go together."""
    config = made.config
    self._made, self._variables = made, variables
    self._batch_size, self.size = batch_size, config.data.size
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
    """Yields (index, float32 [size, size, 1]) of this process's share."""
    batches = pipeline.evaluation_batches(examples, self._batch_size)
    for indices, batch in batches:
      maps = self._predict(
        self._variables, sharding.place(batch, self._made.mesh)
      )
      for index, map_ in zip(indices, sharding.own(maps), strict=True):
        if index >= 0:
          yield int(index), map_


def _score(
  probability: np.ndarray, mask: np.ndarray, threshold: float
) -> list[float]:
  """The columns of one image, in the order of `_COLUMNS`."""
  true = mask[..., 0] > 0
  predicted = at_own_size(probability, *true.shape) > threshold
  counts = metrics.count(predicted[None], true[None])
  distances = boundary.hausdorff(predicted, true)
  pixels = [counts.tp[0], counts.fp[0], counts.fn[0], counts.tn[0]]
  return [*true.shape, *pixels, *distances]


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


def _describe(made, data, split: str, step: int, checkpoint: str) -> dict:
  """What was evaluated, with what: enough to do it again."""
  config = made.config
  device = jax.devices()[0]
  return {
    'system': config.model.system,
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
    'scored_at': "each image's own size",
    'epochs': config.epochs,
    'batch_size': config.data.batch_size,
    'precision': config.precision,
    'views': list(config.evaluate.views),
    'threshold': config.evaluate.threshold,
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


def _pictures(
  mapper: Mapper, data: experiment.Data, part: str, rows, threshold: float
) -> list[dict]:
  """Pictures of the best, the middle and the worst images."""
  examples = data.parts[part]
  place = {data.index.image_id[r]: i for i, r in enumerate(examples.rows)}
  picks = report.pick_examples(rows)
  chosen = examples.subset([place[p.image_id] for p in picks])
  mine = list(mapper(chosen))
  order = sharding.gather_uneven(np.array([i for i, _ in mine], np.int64))
  side = mapper.size
  maps = np.array([m for _, m in mine], np.float32).reshape(-1, side, side, 1)
  maps = sharding.gather_uneven(maps)
  shown = []
  for i, map_ in sorted(zip(order, maps, strict=True), key=lambda x: x[0]):
    record = chosen.record(int(i))
    true = record['mask'][..., 0] > 0
    shown.append(
      {
        'title': picks[i].title,
        'caption': picks[i].caption,
        'image': record['image'],
        'truth': true,
        'prediction': at_own_size(map_, *true.shape) > threshold,
      }
    )
  return shown


def _rows(table: np.ndarray, examples: pipeline.Examples, index) -> dict:
  """Columns by name, in the order of the part."""
  table = table[np.argsort(table[:, 0])]
  records = examples.rows[table[:, 0].astype(int)]
  rows = {
    'image_id': np.asarray(index.image_id)[records],
    'lesion_id': np.asarray(index.lesion_id)[records],
  }
  for name, column in zip(_COLUMNS, table[:, 1:].T, strict=True):
    whole = name not in ('hausdorff', 'hd95')
    rows[name] = column.astype(np.int64) if whole else column
  return rows


def _tell(summary: dict, folder: pathlib.Path) -> None:
  run = summary['run']
  say(f'{run["part"]}: {summary["n_images"]} images, step {run["step"]}')
  for convention in ('per_image', 'pooled'):
    told = []
    for name in ('dice', 'jaccard'):
      low, high = summary['intervals'][convention][name]
      value = summary[convention][name]
      told.append(f'{name} {value:.4f} [{low:.4f}, {high:.4f}]')
    say(f'  {convention}: ' + ', '.join(told))
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
  made = experiment.make(config)
  data = experiment.open_data(config, workdir)
  split = split or ('test' if len(data.parts['test']) else 'validation')
  examples = data.parts[split]
  if not len(examples):
    raise ValueError(
      f'The {split} part of {config.data.name} is empty under '
      f'data.split={data.split.mode!r}; evaluate another --split.'
    )
  variables, step = load_member(made, workdir, checkpoint)
  threshold, size = config.evaluate.threshold, config.evaluate.batch_size
  mapper = Mapper(made, variables, size)
  table = [
    [i, *_score(map_, examples.record(i)['mask'], threshold)]
    for i, map_ in mapper(examples)
  ]
  table = np.array(table, np.float64).reshape(-1, 1 + len(_COLUMNS))
  rows = _rows(sharding.gather_uneven(table), examples, data.index)
  scores = metrics.summarise(rows, resamples=config.evaluate.resamples)
  run = _describe(made, data, split, step, checkpoint)
  summary = {'run': run, **scores}
  pictures = _pictures(mapper, data, split, rows, threshold)
  if jax.process_index() == 0:
    write_rows(folder / 'rows.csv', rows)
    write_json(folder / 'summary.json', summary)
    curves = figures.curves(workdir / 'metrics.jsonl')
    report.write_report(folder / 'report.html', summary, curves, pictures)
    _tell(summary, folder)
  return summary
