"""Trained members, and what they say of the same images."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxderm import experiment, inference, pair_heads, sharding
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import noise, pipeline


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
    like = made.plan_state(made.make_optimizer(1)[0])
    state, _ = checkpoints.restore(like.shapes, checkpoint)
  finally:
    checkpoints.close()
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  return variables, int(jax.device_get(state.step))


def with_one_head(
  made: experiment.Experiment, workdir: pathlib.Path, step: int
) -> tuple[experiment.Experiment, dict]:
  """An experiment whose network gives one answer, and where that is from.

  Of a pairwise network the head that `evaluate.head` says answers; others have
  one already, and nothing to tell.

  Raises:
    ValueError: The better one is asked for and not known.
  """
  if made.task.name != 'pairwise':
    return made, {}
  wanted = made.config.evaluate.head
  head, about = pair_heads.choose(wanted, workdir, step)
  network = made.network.clone(chosen=head)
  return dataclasses.replace(made, network=network), {'head': about}


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


@dataclasses.dataclass(frozen=True)
class Trained:
  """A member that has been trained, and its data.

  Attributes:
    workdir: Its folder.
    made: What its config names.
    data: Its data, split as it was trained.
    mapper: Examples to probabilities.
    checkpoint: Which state it is: 'best', 'latest' or a step.
    step: Updates that this state has seen.
    chosen: Which of its heads answers, where it has several.
  """

  workdir: pathlib.Path
  made: experiment.Experiment
  data: experiment.Data
  mapper: Mapper
  checkpoint: str
  step: int
  chosen: Mapping = dataclasses.field(default_factory=dict)

  @property
  def gives(self) -> str:
    """'masks' or 'classes': one head of a network for pairs gives classes."""
    return 'masks' if self.made.task.name == 'segmentation' else 'classes'

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the probabilities of an image."""
    if self.gives == 'masks':
      return (self.mapper.size, self.mapper.size, 1)
    return (len(self.data.index.labels),)

  def image_ids(self, part: str) -> list[str]:
    """Names of the images of a part of its data."""
    return self.data.index.image_id[self.data.parts[part].rows].tolist()

  def examples(
    self, image_ids: Sequence[str], noisy: bool = True
  ) -> pipeline.Examples:
    """Images as its network takes them, with noise where its config has any."""
    index, settings = self.data.index, self.made.config.evaluate
    chosen = self.data.parts['train'].with_rows(index.rows(image_ids))
    if not (noisy and settings.noise):
      return chosen
    return chosen.with_change(
      noise.make(index.image_id, settings.noise, settings.noise_seed)
    )

  def about(self) -> dict:
    """What it is: enough to train and use it again."""
    config, data = self.made.config, self.data
    return {
      'system': self.made.name,
      'split_mode': data.split.mode,
      'split_note': data.split.note,
      'fold': config.fold,
      'folds': config.data.folds,
      'seed': config.seed,
      'images': {part: len(x) for part, x in data.parts.items()},
      'size': config.data.size,
      'epochs': config.epochs,
      'batch_size': config.data.batch_size,
      'precision': config.precision,
      'views': list(config.evaluate.views),
      'checkpoint': self.checkpoint,
      'step': self.step,
      **self.chosen,
    }


def load(
  config: ConfigDict, workdir: pathlib.Path, checkpoint: str = 'best'
) -> Trained:
  """A run as it was trained, ready to be used.

  Raises:
    FileNotFoundError: No such run or checkpoint.
  """
  made = experiment.make(config, workdir)
  data = experiment.open_data(config, workdir, made.task.inputs)
  made = experiment.with_data(made, data)
  variables, step = load_member(made, workdir, checkpoint)
  made, chosen = with_one_head(made, workdir, step)
  mapper = Mapper(made, variables, config.evaluate.batch_size)
  return Trained(workdir, made, data, mapper, checkpoint, step, chosen)


class Ensemble:
  """Members that see the same images, each at its own size.

  Attributes:
    members: They agree in the data and in how they are evaluated.
    weights: One for each.
  """

  def __init__(self, members: Sequence[Trained], weights: Sequence[float]):
    """Takes the members and the weight of each in the mean."""
    self.members, self.weights = tuple(members), tuple(weights)

  def __call__(
    self, image_ids: Sequence[str], noisy: bool = True
  ) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Yields (index, probabilities of each member) of this process's share."""
    each = [m.mapper(m.examples(image_ids, noisy)) for m in self.members]
    for found in zip(*each, strict=True):
      yield found[0][0], tuple(probability for _, probability in found)

  def everywhere(
    self, image_ids: Sequence[str], noisy: bool = True
  ) -> list[tuple[np.ndarray, ...]]:
    """Of each image the probabilities of each member, on every process."""
    mine = list(self(image_ids, noisy))
    indices = np.array([i for i, _ in mine], np.int64)
    order = np.argsort(sharding.gather_uneven(indices))
    of_members = [
      sharding.gather_uneven(
        np.array([found[k] for _, found in mine], np.float32).reshape(
          -1, *member.shape
        )
      )[order]
      for k, member in enumerate(self.members)
    ]
    return list(zip(*of_members, strict=True))
