"""One part of the data to `rows.csv`, `summary.json` and a report page.

What is measured and shown is the task's; see `scoring`.
"""

import datetime
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata

import jax
import numpy as np
from ml_collections import ConfigDict

import jaxderm
from jaxderm import figures, host, inference, scoring, sharding
from jaxderm.ensemble import Ensemble, Trained, load
from jaxderm.writer import say, write_json

# Files that are programs of ours, and how a person starts them.
_PROGRAMS = {
  'jaxderm/main.py': 'jaxderm.main',
  'jaxderm/tables/__main__.py': 'jaxderm.tables',
}
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')


def choose_part(member: Trained, split: str | None) -> str:
  """The part to evaluate on: the one asked for, else the test images if any.

  Raises:
    ValueError: It has no images.
  """
  data = member.data
  split = split or ('test' if len(data.parts['test']) else 'validation')
  if not len(data.parts[split]):
    raise ValueError(
      f'The {split} part of {data.index.name} is empty under '
      f'data.split={data.split.mode!r}; evaluate another --split.'
    )
  return split


def make_scoring(member: Trained) -> scoring.Scoring:
  """How a member's task is scored, as its config says."""
  config = member.made.config
  settings = config.evaluate
  size = config.data.size if settings.scored_at == 'network' else None
  make = scoring.SCORINGS[config.task]
  return make(member.data.index, settings.threshold, size)


def _measure(
  score: scoring.Scoring, ensemble: Ensemble, split: str, noisy: bool = True
) -> dict:
  """Columns of rows of the images of a part."""
  first = ensemble.members[0]
  examples, table = first.data.parts[split], []
  for i, found in ensemble(first.image_ids(split), noisy):
    truth = score.truth(examples, i)
    placed = [score.place(probability, truth) for probability in found]
    fused = inference.weighted_mean(placed, ensemble.weights)
    table.append([i, *score.measure(fused, truth)])
  table = np.array(table, np.float64).reshape(-1, 1 + len(score.columns))
  table = sharding.gather_uneven(table)
  table = table[np.argsort(table[:, 0])]
  return score.rows(table[:, 1:], examples.rows[table[:, 0].astype(int)])


def _to_choose_on(
  score: scoring.Scoring, ensemble: Ensemble, split: str, rows: dict
) -> dict | None:
  """Rows of the validation images, where something is chosen on them.

  None where members have other validation images, as folds do: what one of
  them learnt from is no use.
  """
  if not score.chooses:
    return None
  if split == 'validation':
    return rows
  parts = {tuple(sorted(m.image_ids('validation'))) for m in ensemble.members}
  if len(parts) > 1 or parts == {()}:
    return None
  return _measure(score, ensemble, 'validation', noisy=False)


def _command() -> str:
  program, *arguments = sys.argv
  for file, module in _PROGRAMS.items():
    if pathlib.PurePath(program).as_posix().endswith(file):
      return shlex.join(['python', '-m', module, *arguments])
  return shlex.join(sys.argv)  # a notebook or a script


def _about(member: Trained, split: str, facts: Mapping) -> dict:
  """What was evaluated on, how and where."""
  settings, device = member.made.config.evaluate, jax.devices()[0]
  return {
    'dataset': member.made.config.data.name,
    'data_hash': member.data.index.hash,
    'part': split,
    **facts,
    'noise': settings.noise,
    'noise_seed': settings.noise_seed,
    'device': f'{jax.device_count()} x {device.device_kind}',
    'host': f'{os.cpu_count()} cores, {host.processor()}',
    'versions': {
      'jaxderm': jaxderm.__version__,
      'python': platform.python_version(),
    }
    | {name: metadata.version(name) for name in _LIBRARIES},
    'command': _command(),
    'date': datetime.date.today().isoformat(),
  }


def report_on(
  ensemble: Ensemble,
  split: str,
  about: Mapping,
  folder: pathlib.Path,
  curves: bytes | None = None,
) -> dict:
  """Scores a part and writes `rows.csv`, `summary.json` and `report.html`.

  Args:
    ensemble: What is scored.
    split: Part of the data of its first member.
    about: What the ensemble is, for the summary.
    folder: Where they go.
    curves: Picture of the training, if there was one.

  Returns:
    The summary.
  """
  folder.mkdir(parents=True, exist_ok=True)
  first = ensemble.members[0]
  score = make_scoring(first)
  rows = _measure(score, ensemble, split)
  run = {**about, **_about(first, split, score.facts)}
  settings = first.made.config.evaluate
  rows, scores = score.finish(
    rows,
    _to_choose_on(score, ensemble, split, rows),
    resamples=settings.resamples,
    temperature=settings.temperature,
    smallest=settings.smallest_group,
  )
  summary = {'run': run, **scores}
  pictures = score.pictures(rows, first.data.parts[split], ensemble)
  if jax.process_index() == 0:
    score.write_rows(folder / 'rows.csv', rows)
    write_json(folder / 'summary.json', summary)
    score.write_report(folder / 'report.html', summary, curves, pictures)
    say(f'{split}: {summary["n_images"]} images')
    for line in score.headlines(summary):
      say(f'  {line}')
    say(f'report: {folder / "report.html"}')
  return summary


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
  member = load(config, workdir, checkpoint)
  say(f'{member.made.name}, step {member.step}')
  split = choose_part(member, split)
  return report_on(
    Ensemble([member], [1.0]),
    split,
    member.about(),
    pathlib.Path(out) if out else workdir,
    figures.curves(workdir / 'metrics.jsonl'),
  )
