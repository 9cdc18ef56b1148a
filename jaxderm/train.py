"""The loop: data, network, steps, validation now and then, the best kept."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from jaxderm import (
  class_weights,
  control,
  dispatch,
  experiment,
  fresh_state,
  sharding,
  transfer,
  workdirs,
)
from jaxderm import step as step_lib
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import pipeline, resident
from jaxderm.interrupts import EXIT_TERMINATED, Interrupts, Terminated
from jaxderm.member import Log, Member, NotFiniteError
from jaxderm.writer import MetricWriter, progress_bar, say

__all__ = ['NotFiniteError', 'train', 'train_together']


def _open(config: ConfigDict, workdir: pathlib.Path, name: str) -> Member:
  """All of a member that can fail before its first step, cheapest first."""
  sharding.check_batch_size(config.data.batch_size, config.optim.accumulate)
  sharding.check_batch_size(config.evaluate.batch_size)
  checkpoints = Checkpoints(workdir / 'checkpoints')
  started = checkpoints.latest() is not None
  made = experiment.make(config, workdir if started else None)
  data = experiment.open_data(config, workdir, made.task.inputs)
  made = experiment.with_data(made, data)
  for part in ('train', 'validation'):
    if not len(data.parts[part]):
      raise ValueError(
        f'The {part} part of {config.data.name} is empty under '
        f"data.split='{data.split.mode}'. It needs at least one image: add "
        'images, or change data.folds or data.validation.'
      )
  member = Member(name, config, made, data, checkpoints)
  member.tx, member.schedule = made.make_optimizer(member.total)
  encoder = transfer.variables(
    made.weights, made.network.encoder, data.parts['train'], made.prepare
  )
  member.plan = made.plan_state(member.tx, encoder)
  workdirs.check_space(workdir, member.plan.shapes)
  transfer.record(made.weights, workdir)
  if data.encoding is not None and jax.process_index() == 0:
    data.encoding.write(workdir)
  workdirs.record(config, data.split, workdir)
  member.progress = control.Progress()
  if started:
    member.state, member.progress = checkpoints.restore(member.plan.shapes)
    member.step = int(jax.device_get(member.state.step))
  member.writer = MetricWriter(workdir, member.step)
  return member


def _share_program(members: Sequence[Member]) -> list[list[Member]]:
  """Members whose steps are one program; the others wait for their turn.

  Folds of different sizes have epochs of different lengths, and so other
  schedules; classes that are weighed by their share have a loss of their own.
  """
  groups = {}
  for member in members:
    weighed = class_weights.asked(member.config.loss.to_dict())
    fold = member.config.fold if weighed else None
    groups.setdefault((member.epoch_steps, fold), []).append(member)
  return list(groups.values())


def _keep_on_device(members: Sequence[Member]):
  """The members' training images, resident: (examples, columns) or None."""
  config, mesh = members[0].config, members[0].experiment.mesh
  examples = resident.union([m.data.training for m in members])
  wanted = config.data.resident
  if wanted is None:
    # A CPU gains nothing: what the host decodes lies in its memory already.
    wanted = jax.default_backend() != 'cpu' and resident.fits(examples)
  dispatch.steps_per_dispatch(config.dispatch, wanted)  # raises early
  if not wanted:
    return None
  return examples, resident.load(examples, mesh, config.data.threads)


def _make_advance(members: Sequence[Member], kept) -> dispatch.Advance:
  """Gives members of one program a state and what their steps see.

  Returns:
    That program.
  """
  first = members[0]
  config, made = first.config, first.experiment
  parts, precision = (made.network, made.task), {'precision': config.precision}
  update = step_lib.make_update(
    *parts,
    first.tx,
    made.prepare,
    accumulate=config.optim.accumulate,
    remat=config.model.remat,
    **precision,
  )
  eval_step = step_lib.make_eval_step(
    *parts, made.prepare, made.mesh, **precision
  )
  for member in members:
    member.eval_step = eval_step
    examples = member.data.training
    drawn = {
      'seed': member.config.seed,
      'batch_size': config.data.batch_size,
    }
    if kept is None:
      batches = pipeline.training_batches(
        examples, start=member.step, threads=config.data.threads, **drawn
      )
      member.feed = dispatch.batch_feed(batches, made.mesh)
    else:
      order = pipeline.order(len(examples), **drawn)
      member.feed = dispatch.row_feed(
        order, resident.positions(examples, kept[0])
      )
  return _begin(members, update, kept)


def _begin(
  members: Sequence[Member], update: step_lib.Update, kept
) -> dispatch.Advance:
  """The program of members' steps; those that are new get a state."""
  first = members[0]
  mesh, batch_size = first.experiment.mesh, first.config.data.batch_size
  new = [m for m in members if m.state is None]
  if kept is None:
    batch = sharding.placed(first.data.training[0], batch_size, mesh)
    program = step_lib.jit_update(update, mesh)
    states, program = fresh_state.make_beside(
      [m.plan for m in new], program.lower(first.plan.shapes, batch)
    )
    advance = dispatch.make_streamed(program)
  else:
    states = [m.plan.make() for m in new]
    advance = dispatch.make_resident(update, kept[1], mesh)
  for member, state in zip(new, states, strict=True):
    member.state = state
  return advance


def _announce(members: Sequence[Member], is_resident: bool) -> None:
  for member in members:
    config, data = member.config, member.data
    parameters = sum(x.size for x in jax.tree.leaves(member.plan.shapes.params))
    sizes = ', '.join(f'{len(v)} {k}' for k, v in data.parts.items())
    device = jax.devices()[0].device_kind
    say('\n'.join(data.notes))
    member.say(
      f'{member.experiment.name} ({parameters:,} parameters) on '
      f'{config.data.name} ({sizes} images) at {config.data.size} pixels, '
      f'batch {config.data.batch_size}, {config.precision}, '
      f'{jax.device_count()} x {device}'
    )
    if member.step:
      member.say(f'going on at step {member.step} of {member.total}')
  most = dispatch.steps_per_dispatch(members[0].config.dispatch, is_resident)
  if most > 1:
    say(f'images on the device, {most} steps at a time')


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
  train_together([(config, workdir)])


def train_together(
  runs: Sequence[tuple[ConfigDict, str | os.PathLike]],
) -> None:
  """Trains several runs, of one recipe, that differ in seed and fold alone.

  Each leaves in its folder what it would leave if it were trained alone, to
  rounding. Training images are decoded once for all.

  Args:
    runs: Config and folder of each (`workdirs.members`).

  Raises:
    As `train`. A run whose loss is no number does not stop the others.
  """
  runs = [(c, pathlib.Path(w).absolute()) for c, w in runs]
  members = []
  with contextlib.ExitStack() as stack:
    for config, workdir in runs:
      workdirs.claim(config, workdir)
      stack.enter_context(workdirs.alone(workdir))
    for config, workdir in runs:
      member = _open(config, workdir, workdir.name if len(runs) > 1 else '')
      stack.callback(member.close)
      members.append(member)
    kept = _keep_on_device(members)
    _announce(members, kept is not None)
    with Interrupts() as interrupts:
      for group in _share_program(members):
        if not all(m.over for m in group):
          _loop(group, _make_advance(group, kept), kept is not None, interrupts)
        _tell_stopped(group)
  failed = [m.failed for m in members if m.failed]
  if failed:
    raise NotFiniteError('\n'.join(map(str, failed)))


def _stop(members: Sequence[Member]) -> None:
  """Saves all members; the same command goes on from there."""
  for member in members:
    member.save()
  for member in members:
    member.checkpoints.wait()
    member.say(
      f'stopped at step {member.step} and saved; the same command goes on'
    )
  raise Terminated(EXIT_TERMINATED)


def _after(member: Member, log: Log) -> None:
  """Logs, and evaluates where an evaluation is due."""
  due = member.step % member.between == 0 or member.step == member.total
  try:
    log.tell(force=due)
    if due:
      member.evaluate()
  except NotFiniteError as error:
    member.failed = error


def _loop(
  members: Sequence[Member],
  advance: dispatch.Advance,
  is_resident: bool,
  interrupts: Interrupts,
) -> None:
  config = members[0].config
  most = dispatch.steps_per_dispatch(config.dispatch, is_resident)
  logs = {id(m): Log(m) for m in members}
  size = config.data.batch_size
  total, done = (sum(getattr(m, k) for m in members) for k in ('total', 'step'))
  with progress_bar(total * size, done * size) as bar:
    for dispatched in itertools.count(1):
      going = [m for m in members if not m.over]
      if not going:
        break
      # Hosts agree by this count, which must not leap as the steps do.
      if interrupts.asked(dispatched):
        _stop(going)
      # Members that were killed between two saves wait for the one behind.
      step = min(m.step for m in going)
      now = [m for m in going if m.step == step]
      end = dispatch.end(step, now[0].between, now[0].total, most)
      states, scalars = advance(
        [m.state for m in now], [m.feed for m in now], step, end - step
      )
      for member, state, told in zip(now, states, scalars, strict=True):
        member.state, member.step = state, end
        logs[id(member)].add(told)
        bar.update((end - step) * size)
      for member in now:
        _after(member, logs[id(member)])


def _tell_stopped(members: Sequence[Member]) -> None:
  for member in members:
    if member.progress.stopped and member.step < member.total:
      patience = member.config.monitor.stop_patience
      member.say(f'no gain for {patience} evaluations: stopped')
