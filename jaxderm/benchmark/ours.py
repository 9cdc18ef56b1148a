"""Our side: a workload as a training step, an inference step and its costs."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxderm import cost, fresh_state, inference, optim, sharding, step, systems
from jaxderm.benchmark.timing import Run
from jaxderm.benchmark.workloads import Workload
from jaxderm.data import prepare
from jaxderm.task import TASKS, Task

Batch = dict[str, np.ndarray]

LEARNING_RATE = 1e-4
# Both sides compute the same losses, whatever a paper trained with.
LOSSES = {
  'segmentation': 'bce_dice',
  'classification': 'cross_entropy',
  'pairwise': 'cross_entropy',  # of its heads; its discriminator has no other
}


@dataclasses.dataclass(frozen=True)
class Ours:
  """A workload made into objects.

  Attributes:
    precision: 'float32' or 'bfloat16'.
  """

  network: nn.Module
  task: Task
  prepare: step.Prepare
  mesh: Mesh
  tx: optax.GradientTransformation
  precision: str

  def plan_state(self, batch: Batch, seed: int = 0) -> fresh_state.Plan:
    # Parameters do not depend on the batch; one row per device will do.
    size = batch['image'].shape[1]
    example = cost.example(self.network, size, self.mesh.size)
    return fresh_state.plan(
      self.network, self.task, self.tx, example, seed, self.mesh
    )

  def update(self) -> step.Update:
    """One step, as yet without a program: no augmentation, Adam."""
    return step.make_update(
      self.network,
      self.task,
      self.tx,
      self.prepare,
      precision=self.precision,
      remat=None,
    )

  def predict_step(self):
    """The jitted (variables, batch) to probabilities."""
    return inference.make_predict(
      self.network,
      self.task,
      self.prepare,
      self.mesh,
      precision=self.precision,
    )


def make(workload: Workload, precision: str) -> Ours:
  """Builds a workload's network and what trains it.

  Raises:
    ValueError: There is no such system, or no loss for its task yet.
  """
  network = systems.build(workload.system, **workload.changes)
  loss = optim.choose(LOSSES, network.task, 'task of the benchmark')
  schedule = optim.make_schedule('constant', LEARNING_RATE, 1)
  inputs = cost.example(network, workload.size)
  return Ours(
    network=network,
    task=dataclasses.replace(
      TASKS[network.task]({'name': loss}), inputs=tuple(inputs)
    ),
    prepare=prepare.make_prepare('none', {}, network.encoder.normalisation),
    mesh=sharding.make_mesh(),
    tx=optim.make_optimizer('adam', schedule=schedule),
    precision=precision,
  )


def random_batch(size: int, images: int, classes: int) -> Batch:
  """Noise to learn from, the same on every call.

  Args:
    size: Pixels of each side.
    images: In the batch.
    classes: Labels are 0 to `classes` - 1.
  """
  rng = np.random.default_rng(0)
  shape = (images, size, size)
  return {
    'image': rng.integers(0, 256, (*shape, 3), np.uint8),
    'mask': rng.integers(0, 2, (*shape, 1), np.uint8),
    'label': rng.integers(0, classes, images, np.int32),
    'valid': np.ones(images, np.float32),
  }


def random_metadata(network: nn.Module, images: int) -> Batch:
  """What a network is called with beside the image, by name: noise."""
  shapes = cost.example(network, 1, images)
  rng = np.random.default_rng(0)
  return {
    name: rng.random(shape.shape, np.float32)
    for name, shape in shapes.items()
    if name != 'image'
  }


class Training:
  """Compiled training steps, run in blocks.

  Attributes:
    compiled: The program; its costs can be asked.
  """

  def __init__(self, made: Ours, batch: Batch):
    """Compiles; nothing is run yet."""
    self._mesh = made.mesh
    self._batch = sharding.place(batch, made.mesh)
    plan = made.plan_state(batch)
    program = step.jit_update(made.update(), made.mesh)
    (self.state,), self.compiled = fresh_state.make_beside(
      [plan], program.lower(plan.shapes, self._batch)
    )
    self._scalars: dict[str, Any] = {}

  def __call__(self, steps: int) -> None:
    """Steps on one batch that stays on the device."""
    for _ in range(steps):
      self.state, self._scalars = self.compiled(self.state, self._batch)
    jax.block_until_ready((self.state, self._scalars))

  def on(self, batches: Iterator[Batch]) -> Run:
    """Steps on batches from the host, placed as the training loop does."""

    def run(steps: int) -> None:
      for _ in range(steps):
        batch = sharding.place(next(batches), self._mesh)
        self.state, self._scalars = self.compiled(self.state, batch)
      jax.block_until_ready((self.state, self._scalars))

    return run

  def check(self) -> None:
    """Raises ValueError if the last loss is no number."""
    loss = float(self._scalars['loss'])
    if not np.isfinite(loss):
      raise ValueError(f'our training loss is {loss} after the timed steps')


class Inference:
  """Compiled inference by a member whose BatchNorm is folded, in blocks."""

  def __init__(self, made: Ours, state: step.TrainState, batch: Batch):
    self._batch = sharding.place(batch, made.mesh)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    example = cost.example(made.network, batch['image'].shape[1])
    # As evaluation does, once for all batches.
    self._member = inference.fold(made.network, made.task, variables, example)
    self._compiled = (
      made.predict_step().lower(self._member, self._batch).compile()
    )

  def __call__(self, steps: int) -> None:
    for _ in range(steps):
      self.probability = self._compiled(self._member, self._batch)
    self.probability.block_until_ready()


def check_probability(
  probability: np.ndarray, batch: Batch, task: str, classes: int, whose: str
) -> None:
  """Raises ValueError unless outputs have the right shape and are finite.

  Args:
    probability: [B, H, W, 1] of segmentation, [B, classes] of classification,
      [B, 2, classes] of the two heads of a pairwise network.
    batch: What they were computed from.
    task: Its name.
    classes: Of the labels.
    whose: For the message.
  """
  count = len(batch['image'])
  right = {
    'segmentation': batch['mask'].shape,
    'classification': (count, classes),
    'pairwise': (count, 2, classes),
  }[task]
  if probability.shape != right:
    raise ValueError(
      f'{whose} output has the shape {probability.shape}, expected {right}'
    )
  if not np.isfinite(probability).all():
    raise ValueError(f'{whose} output is not finite')
