"""A config made into objects: what training, evaluation and use start from."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxderm import (
  calibration,
  class_weights,
  control,
  fresh_state,
  inference,
  optim,
  pair_heads,
  pretrained,
  scoring,
  sharding,
  step,
  systems,
  task,
  transfer,
)
from jaxderm.data import dilation, metadata, noise, pipeline, prepare
from jaxderm.opening import Data, open_data
from jaxderm.writer import say

__all__ = ['Data', 'Experiment', 'make', 'open_data', 'with_data']


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
    statistics: What its metadata branch starts from, if it has one and the data
      are known.
  """

  config: ConfigDict
  network: nn.Module
  task: task.Task
  prepare: step.Prepare
  mesh: Mesh
  rules: control.Rules
  weights: pretrained.Weights | None
  statistics: Mapping | None = None

  @property
  def name(self) -> str:
    """The system, or the kind of network and its encoder."""
    model = self.config.model
    encoder = model.changes.get('encoder')
    return f'{model.system} ({encoder})' if encoder else model.system

  def example(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a prepared batch."""
    data = self.config.data
    shapes = {
      'image': (data.size, data.size, 3),
      'metadata': (metadata.columns(data.missing_age),),
    }
    return {
      name: jax.ShapeDtypeStruct((batch_size, *shapes[name]), jnp.float32)
      for name in self.task.inputs
    }

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

  def plan_state(
    self, tx: optax.GradientTransformation, encoder: dict | None = None
  ) -> fresh_state.Plan:
    """A fresh state for this config's seed, with an encoder's variables."""
    # Parameters do not depend on the batch size; one row per device will do.
    example = self.example(self.mesh.size)
    start = {k: {'encoder': tree} for k, tree in (encoder or {}).items()}
    if self.statistics is not None:
      stats = start.setdefault('batch_stats', {})
      stats['metadata'] = dict(self.statistics)
    return fresh_state.plan(
      self.network,
      self.task,
      tx,
      example,
      self.config.seed,
      self.mesh,
      start,
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
  optim.choose(task.TASKS, config.task, 'task')
  _check_settings(config)
  network = _build(config)
  encoder, source = network.encoder, config.model.encoder_weights
  weights = transfer.load(source, encoder, workdir)
  prepare_fn = prepare.make_prepare(
    config.data.colour,
    config.data.augment.to_dict(),
    transfer.normalisation(
      config.data.normalisation, encoder, weights, workdir
    ),
  )
  class_weights.asked(config.loss.to_dict())  # raises early
  made_task = _make_task(config, network)
  _check_inputs(config, network)
  return Experiment(
    config=config,
    network=network,
    task=made_task,
    prepare=prepare_fn,
    mesh=sharding.make_mesh(),
    rules=_rules(config, ('loss', *made_task.score_names)),
    weights=weights,
  )


def _build(config: ConfigDict) -> nn.Module:
  """The network.

  Raises:
    ValueError: There is none of that name, or it is for another task.
  """
  model = config.model
  row = systems.SYSTEMS.get(model.system)
  if row is not None and row.task != config.task:
    raise ValueError(
      f'{model.system} is a network for {row.task}, but task is '
      f'{config.task!r}. Change one of the two.'
    )
  network = systems.build(model.system, **model.changes.to_dict())
  if network.task != config.task:
    raise ValueError(
      f'model.system {model.system!r} is for {network.task}, but task '
      f'is {config.task!r}. Change one of the two.'
    )
  if model.norm_momentum is None:
    return network
  return network.clone(momentum=model.norm_momentum)


def _check_settings(config: ConfigDict) -> None:
  """Raises ValueError for a value that nothing else looks at before training."""
  optim.choose(step.PRECISIONS, config.precision, 'precision')
  if not config.optim.learning_rate > 0:
    raise ValueError(
      f'optim.learning_rate is {config.optim.learning_rate!r}; it must be '
      'above 0.'
    )
  settings = config.evaluate
  inference.check_views(settings.views)
  optim.choose(scoring.PLACES, settings.scored_at, 'evaluate.scored_at')
  optim.choose(pair_heads.CHOICES, settings.head, 'evaluate.head')
  noise.check(settings.noise)
  calibration.check(settings.temperature, config.task)


def _rules(config: ConfigDict, known: Sequence[str]) -> control.Rules:
  """What validation decides; `known` are the scores that may decide it."""
  monitor = config.monitor.to_dict()
  name = monitor.pop('name')
  optim.choose(known, name, 'monitor.name')
  optim.choose(
    known, monitor.pop('plateau_name') or name, 'monitor.plateau_name'
  )
  del monitor['every']
  # A learning rate in the config, as Keras has it; a share of the first here.
  monitor['plateau_floor'] /= config.optim.learning_rate
  return control.Rules(**monitor)


def _make_task(
  config: ConfigDict, network: nn.Module, weights: Mapping | None = None
) -> task.Task:
  """The config's task, with the inputs that the network is called with."""
  make_task = task.TASKS[config.task]
  loss = config.loss.to_dict() | (weights or {})
  made = make_task(loss, config.evaluate.threshold)
  inputs = getattr(network, 'inputs', ('image',))
  return dataclasses.replace(made, inputs=inputs)


def _check_inputs(config: ConfigDict, network: nn.Module) -> None:
  """Raises ValueError if `data` cannot give what the network is called with."""
  data = config.data
  optim.choose(pipeline.FITS, data.fit, 'data.fit')
  dilation.check(data.dilation, network.task)
  if data.fit == 'crop' and network.task == 'segmentation':
    raise ValueError(
      "data.fit is 'crop', but masks are of whole images: a network that "
      "segments needs data.fit='squeeze'."
    )
  columns = metadata.columns(data.missing_age)
  branch = getattr(network, 'metadata', None)
  width = getattr(branch, 'width', columns)
  if width != columns:
    raise ValueError(
      f'model.changes.metadata is {width}, but data.missing_age='
      f'{data.missing_age!r} makes {columns} columns of metadata. Make the '
      'first equal to that.'
    )


def with_data(made: Experiment, data: Data) -> Experiment:
  """The experiment for that data: its classes are checked and weighed.

  A constant of the loss that is a rule, such as 'balanced', becomes numbers
  (`class_weights`), from what an epoch shows.

  Raises:
    ValueError: The network has not as many classes as the data, an image has no
      label, or a class that is to be weighed has no training image.
  """
  if data.encoding is not None:
    made = dataclasses.replace(made, statistics=data.encoding.statistics())
  if made.task.name == 'segmentation':
    return made
  _check_labels(made.network.classes, data)
  classes = data.index.labels
  label = data.index.label[data.training.rows]
  counts = np.bincount(label, minlength=len(classes))
  loss = made.config.loss.to_dict()
  weights = class_weights.weigh(loss, classes, counts)
  absent = [k for k, n in zip(classes, counts, strict=True) if n == 0]
  if absent:
    say(f'warning: no training image is of {", ".join(absent)}')
  if not weights:
    return made
  weighed = _make_task(made.config, made.network, weights)
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
