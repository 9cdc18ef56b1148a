"""Trains and evaluates what a table needs and does not have yet.

A run's folder bears its system and a hash of its recipe, so tables that compare
the same thing share it, and a table that was stopped goes on where it was.
"""

import dataclasses
import hashlib
import json
import pathlib
import runpy
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxderm import (
  evaluate,
  fusion,
  recipe,
  systems,
  train,
  workdirs,
)
from jaxderm.tables import results
from jaxderm.tables.plan import Changes, Plan, Row
from jaxderm.tables.plans import protocol
from jaxderm.writer import say, write_json

_DONE = 'trained.json'  # written once a run has come to its end
_MEMBER_KEYS = ('seed', 'fold')


@dataclasses.dataclass(frozen=True)
class Setting:
  """How a table is made.

  Attributes:
    configs: Folder of the configs.
    out: Folder of runs and results.
    manual_dir: The publisher's files of the data.
    seeds: Of the members, where folds are not what differs.
    folds: Of the members of an honest protocol on a data set without a
      publisher's test images.
    changes: Keys of all configs that are not as the paper has them.
  """

  configs: pathlib.Path
  out: pathlib.Path
  manual_dir: str | None = None
  seeds: Sequence[int] = (0,)
  folds: Sequence[int] = (0,)
  changes: Changes = dataclasses.field(default_factory=dict)


def load_config(setting: Setting, name: str, system: str) -> ConfigDict:
  """The config of a file and a system.

  Raises:
    FileNotFoundError: There is no such file.
  """
  path = setting.configs / name
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such config; give --configs=FOLDER, the folder configs/ of '
      'a checkout of jaxderm.'
    )
  config = runpy.run_path(str(path))['get_config'](system)
  given = {'data.manual_dir': setting.manual_dir, **setting.changes}
  return recipe.change(config, given)


def _digest(content: Any) -> str:
  text = json.dumps(content, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def _folder(setting: Setting, config: ConfigDict) -> pathlib.Path:
  """Where the members of a recipe are."""
  kept = {
    key: value
    for key, value in recipe.flatten(config.to_dict()).items()
    if key not in _MEMBER_KEYS and not recipe.within(key, recipe.FREE_KEYS)
  }
  _, _, system = config.model.system.partition('/')
  name = f'{config.data.name}-{system}-{config.loss.name}-{_digest(kept)}'
  return setting.out / 'runs' / name


def _train(runs: Sequence[tuple[ConfigDict, pathlib.Path]]) -> None:
  """Trains those that have not come to their end."""
  left = [run for run in runs if not (run[1] / _DONE).exists()]
  for config, workdir in runs:
    if (config, workdir) not in left:
      workdirs.claim(config, workdir)  # is it of this config
  if not left:
    return
  train.train_together(left)
  for config, workdir in left:
    write_json(workdir / _DONE, {'epochs': config.epochs})
  jax.clear_caches()  # the next row has another network


def _evaluate(
  runs: Sequence[tuple[ConfigDict, pathlib.Path]], plan_row: Row
) -> list[pathlib.Path]:
  """Folders with rows.csv and summary.json, of each run or of their fusion."""
  name = f'evaluation-{_digest(runs[0][0].evaluate.to_dict())}'
  if plan_row.members or plan_row.ensemble:
    folder = runs[0][1].parent / f'fused-{_digest([str(w) for _, w in runs])}'
    folders = [folder / runs[0][1].name / name]
    if not (folders[0] / 'summary.json').exists():
      fusion.fuse(runs, folders[0])
    return folders
  folders = [workdir / name for _, workdir in runs]
  for (config, workdir), folder in zip(runs, folders, strict=True):
    if not (folder / 'summary.json').exists():
      evaluate.evaluate(config, workdir, out=str(folder))
  return folders


def _members(plan: Plan, row: Row, paper: str, data: str, name: str, setting):
  """The configs of a row's systems, and the members of each."""
  configs = []
  for system in row.systems:
    config = load_config(setting, row.config or plan.configs[data], system)
    config = recipe.change(config, protocol(name, paper, data))
    if name in plan.splits:
      config = recipe.change(config, {'data.split': plan.splits[name]})
    configs.append(recipe.change(config, row.changes))
  if row.ensemble:
    repeats = {'seeds': setting.seeds[:1], 'folds': setting.folds}
  elif plan.one_seed:
    repeats = {'seeds': setting.seeds[:1], 'folds': [configs[0].fold]}
  elif configs[0].data.split == 'grouped':
    repeats = {'folds': setting.folds}
  else:
    repeats = {'seeds': setting.seeds}
  return configs, [
    workdirs.members(config, _folder(setting, config), **repeats)
    for config in configs
  ]


def needed(
  plan: Plan, row: Row, paper: str, data: str, name: str, setting: Setting
) -> list[tuple[pathlib.Path, bool]]:
  """The folders of the runs of a row, and whether each is trained."""
  _, runs = _members(plan, row, paper, data, name, setting)
  return [
    (workdir, (workdir / _DONE).exists())
    for members in runs
    for _, workdir in members
  ]


def make(
  plan: Plan, row: Row, paper: str, data: str, name: str, setting: Setting
) -> results.Result:
  """A row under one protocol: trained, evaluated, put together.

  A run whose loss is no number any more is told, and the table goes on.
  """
  configs, runs = _members(plan, row, paper, data, name, setting)
  say(f'\n{row.printed}, {name} protocol: {runs[0][0][1].parent}')
  try:
    for members in runs:
      _train(members)
  except train.NotFiniteError as error:
    return results.Result({}, error=str(error).splitlines()[0])
  if row.members:
    parts = zip(*runs, strict=True)
    folders = [f for part in parts for f in _evaluate(part, row)]
  else:
    folders = _evaluate(runs[0], row)
  networks = [
    systems.build(c.model.system, **c.model.changes.to_dict()) for c in configs
  ]
  if row.ensemble:  # every fold's network answers
    networks *= len(runs[0])
  return results.together(
    plan,
    networks,
    configs[0].data.size,
    folders,
    [workdir for members in runs for _, workdir in members],
  )
