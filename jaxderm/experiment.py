"""A config made into objects: what training, evaluation and use start from."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxderm import (
  control,
  inference,
  optim,
  pretrained,
  scoring,
  sharding,
  step,
  systems,
  task,
  transfer,
)
from jaxderm.data import build, folds, leaks, noise, pipeline, prepare
from jaxderm.data import index as index_lib
from jaxderm.data.split import Split
from jaxderm.writer import say

PARTS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A network, its task and its devices; no data yet.

  Attributes:
    config: Where it came from.
    network: The network.
    task: What it is asked to do.
    prepare: Pixels as stored to what the network expects, with augmentation.
    mesh: The devices.
    rules: What validation decides.
    weights: What its encoder starts from; None once the run has started.
  """

  config: ConfigDict
  network: nn.Module
  task: task.Task
  prepare: step.Prepare
  mesh: Mesh
  rules: control.Rules
  weights: pretrained.Weights | None

  @property
  def name(self) -> str:
    """The system, or the kind of network and its encoder."""
    model = self.config.model
    encoder = model.changes.get('encoder')
    return f'{model.system} ({encoder})' if encoder else model.system

  def example(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a prepared batch."""
    size = self.config.data.size
    shape = (batch_size, size, size)
    return {'image': jax.ShapeDtypeStruct((*shape, 3), jnp.float32)}

  def make_optimizer(
    self, steps: int
  ) -> tuple[optax.GradientTransformation, optim.Schedule]:
    """The optimiser for a run of `steps` steps, and its schedule."""
    settings = self.config.optim.to_dict()
    settings.pop('accumulate')
    schedule = optim.make_schedule(
      learning_rate=settings.pop('learning_rate'),
      steps=steps,
      **settings.pop('schedule'),
    )
    return optim.make_optimizer(schedule=schedule, **settings), schedule

  def create_state(
    self, tx: optax.GradientTransformation, encoder: dict | None = None
  ) -> step.TrainState:
    """A fresh state for this config's seed, with an encoder's variables."""
    # Parameters do not depend on the batch size; one row per device will do.
    example = self.example(self.mesh.size)
    return step.create_state(
      self.network,
      self.task,
      tx,
      example,
      self.config.seed,
      self.mesh,
      encoder,
    )


def use_compilation_cache(path: str) -> None:
  """Keeps compiled programs on disk, for the next start of the same one."""
  if path:
    jax.config.update('jax_compilation_cache_dir', os.path.expanduser(path))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def make(config: ConfigDict, workdir: pathlib.Path | None = None) -> Experiment:
  """Builds what a config names.

  Args:
    config: Of the run.
    workdir: Of a run that has started; None reads what it is to start from.

  Raises:
    ValueError: A name, a key or a value that does not fit; says which are
      right.
    FileNotFoundError: There is no such file of weights.
  """
  use_compilation_cache(config.compilation_cache)
  name, settings = config.task, config.evaluate
  make_task = optim.choose(task.TASKS, name, 'task')
  row = systems.SYSTEMS.get(config.model.system)
  if row is not None and row.task != name:
    raise ValueError(
      f'{config.model.system} is a network for {row.task}, but task is '
      f'{name!r}. Change one of the two.'
    )
  optim.choose(step.PRECISIONS, config.precision, 'precision')
  if not config.optim.learning_rate > 0:
    raise ValueError(
      f'optim.learning_rate is {config.optim.learning_rate!r}; it must be '
      'above 0.'
    )
  network = systems.build(config.model.system, **config.model.changes.to_dict())
  if network.task != name:
    raise ValueError(
      f'model.system {config.model.system!r} is for {network.task}, but task '
      f'is {name!r}. Change one of the two.'
    )
  if config.model.norm_momentum is not None:
    network = network.clone(momentum=config.model.norm_momentum)
  encoder, model = network.encoder, config.model
  weights = transfer.load(model.encoder_weights, encoder, workdir)
  prepare_fn = prepare.make_prepare(
    config.data.colour,
    config.data.augment.to_dict(),
    transfer.normalisation(
      config.data.normalisation, encoder, weights, workdir
    ),
  )
  made_task = make_task(config.loss.to_dict(), settings.threshold)
  inference.check_views(settings.views)
  optim.choose(scoring.PLACES, settings.scored_at, 'evaluate.scored_at')
  noise.check(settings.noise)
  monitor = config.monitor.to_dict()
  known = ('loss', *made_task.score_names)
  optim.choose(known, config.monitor.name, 'monitor.name')
  monitor.pop('name'), monitor.pop('every')
  # A learning rate in the config, as Keras has it; a share of the first here.
  monitor['plateau_floor'] /= config.optim.learning_rate
  return Experiment(
    config=config,
    network=network,
    task=made_task,
    prepare=prepare_fn,
    mesh=sharding.make_mesh(),
    rules=control.Rules(**monitor),
    weights=weights,
  )


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set, split.

  Attributes:
    dataset: As built.
    index: A column for each fact about its records.
    split: Which images are for what.
    parts: Examples of 'train', 'validation' and 'test'.
    notes: What a person should read about them.
  """

  dataset: build.Dataset
  index: index_lib.Index
  split: Split
  parts: dict[str, pipeline.Examples]
  notes: tuple[str, ...]


def with_data(made: Experiment, data: Data) -> Experiment:
  """The experiment for that data: its classes are checked and weighed.

  A constant of the loss that is 'balanced' becomes N / (C N_c), of N training
  images of which N_c are of class c of C (SPEC 3.6).

  Raises:
    ValueError: The network has not as many classes as the data, an image has no
      label, or a class that is to be weighed has no training image.
  """
  if made.task.name != 'classification':
    return made
  _check_labels(made.network.classes, data)
  classes = data.index.labels
  label = data.index.label[data.parts['train'].rows]
  counts = np.bincount(label, minlength=len(classes))
  absent = [k for k, n in zip(classes, counts, strict=True) if n == 0]
  loss = made.config.loss.to_dict()
  balanced = [k for k, v in loss.items() if v == 'balanced']
  if absent and balanced:
    raise ValueError(
      f"loss.{balanced[0]}='balanced' needs training images of every class; "
      f'there is none of {", ".join(absent)}. Give the weights as numbers.'
    )
  if absent:
    say(f'warning: no training image is of {", ".join(absent)}')
  if not balanced:
    return made
  weights = tuple((len(label) / (len(classes) * counts)).tolist())
  make_task = task.TASKS[made.task.name]
  weighed = make_task(loss | dict.fromkeys(balanced, weights))
  return dataclasses.replace(made, task=weighed)


def _check_labels(classes: int, data: Data) -> None:
  """Raises ValueError unless every image has a label that the network knows."""
  index = data.index
  if classes != len(index.labels):
    raise ValueError(
      f'The network has {classes} classes (model.changes.classes), but '
      f'{index.name} has {len(index.labels)}: '
      f'{", ".join(index.labels) or "no labels"}. Make them equal.'
    )
  for part, examples in data.parts.items():
    bare = examples.rows[index.label[examples.rows] < 0]
    if len(bare):
      raise ValueError(
        f'{len(bare)} of {len(examples)} {part} images of {index.name} have no '
        f'label, first {", ".join(index.image_id[bare[:3]])}. Classification '
        'needs one of each: label them or leave them out.'
      )


class _Chain:
  """Several random-access sources, one after the other."""

  def __init__(self, sources: Sequence[Sequence]):
    self._sources = list(sources)
    self._ends = np.cumsum([len(s) for s in self._sources])

  def __getitem__(self, i: int):
    which = int(np.searchsorted(self._ends, i, side='right'))
    start = self._ends[which - 1] if which else 0
    return self._sources[which][int(i - start)]


def open_data(config: ConfigDict, workdir: pathlib.Path) -> Data:
  """Opens (or builds) a data set and splits it.

  Args:
    config: Of the run.
    workdir: The run's folder; its `split.json` is read if it is there.

  Raises:
    leaks.LeakError: Two parts share a picture, a lesion or a file, and no
      paper's mode was named.
    ValueError, FileNotFoundError: Data that is not as it should be.
  """
  data = config.data
  dataset = build.open_or_build(
    data.name,
    manual_dir=data.manual_dir,
    data_dir=data.data_dir,
    **data.options.to_dict(),
  )
  index = index_lib.from_columns(
    dataset.name, dataset.labels, dataset.columns_by_split()
  )
  split = _split(config, index, workdir / 'split.json')
  found, told = leaks.check(index, split)
  about = f'fold {split.fold} of {split.folds}' if split.folds > 1 else ''
  notes = (dataset.report(), f'split {split.mode} {about} {split.note}', told)
  if found:
    say(f'warning: {told}')
  # In the order of the index.
  stored = [p for p in index_lib.OFFICIAL if p in dataset.sources]
  records = _Chain([dataset.sources[part] for part in stored])
  parts = {
    part: pipeline.Examples(
      records, index.rows(getattr(split, part)), data.size
    )
    for part in PARTS
  }
  return Data(dataset, index, split, parts, notes)


def _split(config: ConfigDict, index, path: pathlib.Path) -> Split:
  data = config.data
  if path.exists():
    return Split.read(path, index)
  if data.split_file:
    return Split.read(data.split_file, index)
  return folds.make(
    index,
    mode=data.split,
    seed=data.split_seed,
    folds=data.folds,
    fold=config.fold,
    validation=data.validation,
  )
