"""A member in training: what it holds, how it is validated, saved and logged."""

import collections
import dataclasses
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxderm import (
  control,
  dispatch,
  experiment,
  fresh_state,
  optim,
  sharding,
)
from jaxderm import step as step_lib
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import pipeline
from jaxderm.writer import MetricWriter, say

# Dispatches that may be under way on the device before the host waits for one.
_AHEAD = 4


class NotFiniteError(ValueError):
  """A loss or a gradient that is no number."""


def validate(eval_step, state, examples, batch_size, task, mesh):
  """Scores of one part of the data at the network's own size.

  Returns:
    Scalars by name: the mean loss over images, and the task's scores.
  """
  collected = collections.defaultdict(list)
  for indices, batch in pipeline.evaluation_batches(examples, batch_size):
    columns = eval_step(
      state.params, state.batch_stats, sharding.place(batch, mesh)
    )
    for name, column in columns.items():
      collected[name].append(sharding.own(column)[indices >= 0])
  columns = {
    k: sharding.gather_uneven(np.concatenate(v)) for k, v in collected.items()
  }
  # In float64, so that the number of hosts cannot show in the mean.
  loss = float(np.mean(columns.pop('loss'), dtype=np.float64))
  return {'loss': loss} | task.scores(columns)


@dataclasses.dataclass
class Member:
  """One trained set of variables, a seed and a fold, and the folder it is in.

  Attributes:
    name: Of the folder, where members are trained together; else ''.
    config: Of the run.
    experiment: What the config names.
    data: Its data, split.
    checkpoints: Its states on disk.
    tx: Its optimiser.
    schedule: Learning rate at a step.
    plan: What `state` is like, and how a new one is made.
    state: What is trained.
    progress: What validation has said.
    step: Updates done, as the host counts them.
    writer: Of `metrics.jsonl`.
    eval_step: The program that validates.
    feed: What its steps see (dispatch.py).
    failed: Why it cannot go on.
  """

  name: str
  config: ConfigDict
  experiment: experiment.Experiment
  data: experiment.Data
  checkpoints: Checkpoints
  # What it takes its time to make, in this order.
  tx: optax.GradientTransformation = None
  schedule: optim.Schedule = None
  plan: fresh_state.Plan = None
  state: step_lib.TrainState = None
  progress: control.Progress = None
  step: int = 0
  writer: MetricWriter = None
  eval_step: Callable = None
  feed: dispatch.Feed = None
  failed: NotFiniteError | None = None

  @property
  def epoch_steps(self) -> int:
    """Steps in a pass over the training images, repeated as they are."""
    images = len(self.data.training)
    return max(1, images // self.config.data.batch_size)

  @property
  def total(self) -> int:
    """Steps in the whole run."""
    return self.epoch_steps * self.config.epochs

  @property
  def between(self) -> int:
    """Steps from one evaluation to the next."""
    return self.epoch_steps * self.config.monitor.every

  @property
  def over(self) -> bool:
    """Whether it has come to its end, or cannot go on."""
    at_end = self.progress.stopped or self.step >= self.total
    return at_end or self.failed is not None

  def say(self, message: str) -> None:
    """Prints a line, with whose it is where there are several."""
    say(f'{self.name}: {message}' if self.name else message)

  def close(self) -> None:
    """Waits for what is being written, and lets go."""
    self.checkpoints.close()
    self.writer.close()

  def check_finite(self) -> None:
    bad = int(jax.device_get(self.state.bad_step))
    if bad < 0:
      return
    kept = self.checkpoints.latest()
    raise NotFiniteError(
      f'{self.name + ": " if self.name else ""}The loss or its gradient is not '
      f'finite at step {bad}. The run has stopped; '
      + (
        f'the checkpoint of step {kept} is the last good one. '
        if kept is not None
        else 'there was no checkpoint yet. '
      )
      + 'Try a lower optim.learning_rate, optim.clip=1.0 or '
      'precision=float32.'
    )

  def save(self) -> None:
    self.check_finite()
    self.checkpoints.save(self.state, self.progress)

  def evaluate(self) -> None:
    """Validates, decides, tells and saves."""
    self.check_finite()
    config, made, step = self.config, self.experiment, self.step
    scores = validate(
      self.eval_step,
      self.state,
      self.data.parts['validation'],
      config.evaluate.batch_size,
      made.task,
      made.mesh,
    )
    monitored = optim.choose(scores, config.monitor.name, 'monitor.name')
    plateau = config.monitor.plateau_name or config.monitor.name
    plateau = optim.choose(scores, plateau, 'monitor.plateau_name')
    before = self.progress
    self.progress = control.advance(
      before, made.rules, step, monitored, plateau
    )
    if self.progress.rate != before.rate:
      rate = jnp.full_like(self.state.rate, self.progress.rate)
      self.state = self.state.replace(
        rate=jax.device_put(rate, sharding.replicated(made.mesh))
      )
    epoch = step / self.epoch_steps
    self.writer.write(step, epoch, 'validation', scores)
    told = '  '.join(f'{k} {v:.4f}' for k, v in scores.items())
    mark = '  (best)' if self.progress.best_step == step else ''
    self.say(f'epoch {epoch:g}  validation  {told}{mark}')
    self.save()


class Log:
  """Means of the training scalars since the last time they were told."""

  def __init__(self, member: Member):
    self._member = member
    self._waiting = collections.deque()
    self._reset()

  def _reset(self):
    self._kept, self._since = [], time.monotonic()

  def add(self, scalars: dispatch.Scalars) -> None:
    """Takes the scalars [steps] of a dispatch, which may be under way."""
    self._waiting.append(scalars)
    if len(self._waiting) > _AHEAD:
      self._take()

  def _take(self):
    self._kept.append(jax.device_get(self._waiting.popleft()))

  def tell(self, force: bool = False) -> None:
    """Writes the means if it is time, or if `force`."""
    run, seconds = self._member, time.monotonic() - self._since
    if not force and seconds < run.config.log_seconds:
      return
    while self._waiting:
      self._take()
    if not self._kept:
      return
    columns = {
      k: np.concatenate([kept[k] for kept in self._kept]) for k in self._kept[0]
    }
    scalars = {k: float(np.mean(v)) for k, v in columns.items()}
    rate = float(jax.device_get(run.state.rate))
    size = run.config.data.batch_size
    speed = len(columns['loss']) * size / (time.monotonic() - self._since)
    scalars['learning_rate'] = rate * float(run.schedule(run.step - 1))
    scalars['images_per_second'] = speed
    run.writer.write(run.step, run.step / run.epoch_steps, 'train', scalars)
    if not force and not sys.stderr.isatty():  # where there is no bar
      minutes = (run.total - run.step) * size / speed / 60
      run.say(
        f'step {run.step} of {run.total}  loss {scalars["loss"]:.4f}  '
        f'{speed:.1f} images/s  {minutes:.1f} min left'
      )
    self._reset()
    run.check_finite()
