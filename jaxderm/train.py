"""The loop: data, network, step, validation now and then, the best kept."""

import collections
import dataclasses
import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxderm import control, experiment, optim, sharding, transfer, workdirs
from jaxderm import step as step_lib
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import pipeline
from jaxderm.interrupts import EXIT_TERMINATED, Interrupts, Terminated
from jaxderm.writer import MetricWriter, progress_bar, say

# Steps that may be under way on the device before the host waits for one.
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
class _Run:
  """What the loop holds on to between steps."""

  config: ConfigDict
  experiment: experiment.Experiment
  data: experiment.Data
  checkpoints: Checkpoints
  writer: MetricWriter
  state: step_lib.TrainState
  progress: control.Progress
  eval_step: object
  schedule: optim.Schedule
  epoch_steps: int

  def check_finite(self) -> None:
    bad = int(jax.device_get(self.state.bad_step))
    if bad < 0:
      return
    kept = self.checkpoints.latest()
    raise NotFiniteError(
      f'The loss or its gradient is not finite at step {bad}. The run has '
      'stopped; '
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

  def evaluate(self, step: int) -> None:
    """Validates, decides, tells and saves."""
    self.check_finite()
    config, made = self.config, self.experiment
    scores = validate(
      self.eval_step,
      self.state,
      self.data.parts['validation'],
      config.evaluate.batch_size,
      made.task,
      made.mesh,
    )
    monitored = optim.choose(scores, config.monitor.name, 'monitor.name')
    before = self.progress
    self.progress = control.advance(before, made.rules, step, monitored)
    if self.progress.rate != before.rate:
      rate = jnp.full_like(self.state.rate, self.progress.rate)
      self.state = self.state.replace(
        rate=jax.device_put(rate, sharding.replicated(made.mesh))
      )
    epoch = step / self.epoch_steps
    self.writer.write(step, epoch, 'validation', scores)
    told = '  '.join(f'{k} {v:.4f}' for k, v in scores.items())
    mark = '  (best)' if self.progress.best_step == step else ''
    say(f'epoch {epoch:g}  validation  {told}{mark}')
    self.save()


class _Log:
  """Means of the training scalars since the last time they were told."""

  def __init__(self, run: _Run, total: int):
    self._run, self._total = run, total
    self._seconds = run.config.log_seconds
    self._waiting = collections.deque()
    self._reset()

  def _reset(self):
    self._kept, self._since = [], time.monotonic()

  def add(self, scalars) -> None:
    self._waiting.append(scalars)
    if len(self._waiting) > _AHEAD:
      self._take()

  def _take(self):
    self._kept.append(jax.device_get(self._waiting.popleft()))

  def tell(self, step: int, force: bool = False) -> None:
    """Writes the means if it is time, or if `force`."""
    if not force and time.monotonic() - self._since < self._seconds:
      return
    while self._waiting:
      self._take()
    if not self._kept:
      return
    run, images = self._run, len(self._kept) * self._run.config.data.batch_size
    rate = float(jax.device_get(run.state.rate))
    scalars = {
      name: float(np.mean([k[name] for k in self._kept]))
      for name in self._kept[0]
    }
    scalars['learning_rate'] = rate * float(run.schedule(step - 1))
    scalars['images_per_second'] = images / (time.monotonic() - self._since)
    run.writer.write(step, step / run.epoch_steps, 'train', scalars)
    if not force and not sys.stderr.isatty():  # where there is no bar
      left = (self._total - step) * run.config.data.batch_size
      minutes = left / scalars['images_per_second'] / 60
      say(
        f'step {step} of {self._total}  loss {scalars["loss"]:.4f}  '
        f'{scalars["images_per_second"]:.1f} images/s  {minutes:.1f} min left'
      )
    self._reset()
    run.check_finite()


def _prepare(config: ConfigDict, workdir: pathlib.Path) -> tuple[_Run, object]:
  """Everything that can fail before the first step, in the order of its cost."""
  sharding.check_batch_size(config.data.batch_size, config.optim.accumulate)
  sharding.check_batch_size(config.evaluate.batch_size)
  checkpoints = Checkpoints(workdir / 'checkpoints')
  started = checkpoints.latest() is not None
  made = experiment.make(config, workdir if started else None)
  data = experiment.open_data(config, workdir)
  made = experiment.with_data(made, data)
  for part in ('train', 'validation'):
    if not len(data.parts[part]):
      raise ValueError(
        f'The {part} part of {config.data.name} is empty under '
        f"data.split='{data.split.mode}'. It needs at least one image: add "
        'images, or change data.folds or data.validation.'
      )
  epoch_steps = max(1, len(data.parts['train']) // config.data.batch_size)
  tx, schedule = made.make_optimizer(epoch_steps * config.epochs)
  encoder = transfer.variables(
    made.weights, made.network.encoder, data.parts['train'], made.prepare
  )
  state = made.create_state(tx, encoder)
  workdirs.check_space(workdir, state)
  transfer.record(made.weights, workdir)
  workdirs.record(config, data.split, workdir)
  progress = control.Progress()
  if started:
    state, progress = checkpoints.restore(state)
  start = int(jax.device_get(state.step))
  parts = (made.network, made.task)
  common = {'precision': config.precision}
  train_step = step_lib.make_train_step(
    *parts,
    tx,
    made.prepare,
    made.mesh,
    accumulate=config.optim.accumulate,
    **common,
  )
  run = _Run(
    config=config,
    experiment=made,
    data=data,
    checkpoints=checkpoints,
    writer=MetricWriter(workdir, start),
    state=state,
    progress=progress,
    eval_step=step_lib.make_eval_step(
      *parts, made.prepare, made.mesh, **common
    ),
    schedule=schedule,
    epoch_steps=epoch_steps,
  )
  return run, train_step


def _announce(run: _Run, start: int, total: int) -> None:
  config, data = run.config, run.data
  parameters = sum(x.size for x in jax.tree.leaves(run.state.params))
  sizes = ', '.join(f'{len(v)} {k}' for k, v in data.parts.items())
  device = jax.devices()[0].device_kind
  say('\n'.join(data.notes))
  say(
    f'{run.experiment.name} ({parameters:,} parameters) on '
    f'{config.data.name} ({sizes} images) at {config.data.size} pixels, '
    f'batch {config.data.batch_size}, {config.precision}, '
    f'{jax.device_count()} x {device}'
  )
  if start:
    say(f'going on at step {start} of {total}')


def train(config: ConfigDict, workdir: str | os.PathLike) -> None:
  """Trains a run to its end, from wherever it was left.

  Args:
    config: Of the run.
    workdir: Its folder; see DESIGN section 3 for what it holds in the end.

  Raises:
    NotFiniteError: The loss is no number any more.
    Terminated: SIGTERM or Ctrl-C came, and the state is saved.
    ValueError, OSError: Something that the message names is not as needed.
  """
  workdir = pathlib.Path(workdir).absolute()
  workdirs.claim(config, workdir)
  with workdirs.alone(workdir):
    run, train_step = _prepare(config, workdir)
    try:
      with Interrupts() as interrupts:
        _loop(run, train_step, interrupts)
    finally:
      run.checkpoints.close()
      run.writer.close()


def _loop(run: _Run, train_step, interrupts: Interrupts) -> None:
  config, mesh = run.config, run.experiment.mesh
  start = int(jax.device_get(run.state.step))
  total = run.epoch_steps * config.epochs
  between = run.epoch_steps * config.monitor.every
  _announce(run, start, total)
  batches = pipeline.training_batches(
    run.data.parts['train'],
    seed=config.seed,
    batch_size=config.data.batch_size,
    start=start,
    threads=config.data.threads,
  )
  log = _Log(run, total)
  size = config.data.batch_size
  with progress_bar(total * size, start * size) as bar:
    for step in range(start + 1, total + 1):
      if run.progress.stopped:
        say(f'no gain for {config.monitor.stop_patience} evaluations: stopped')
        break
      if interrupts.asked(step):
        run.save()
        run.checkpoints.wait()
        say(f'stopped at step {step - 1} and saved; the same command goes on')
        raise Terminated(EXIT_TERMINATED)
      batch = sharding.place(next(batches), mesh)
      run.state, scalars = train_step(run.state, batch)
      log.add(scalars)
      bar.update(size)
      due = step % between == 0 or step == total
      log.tell(step, force=due)
      if due:
        run.evaluate(step)
