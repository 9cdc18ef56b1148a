"""Saving and restoring runs; the only file that knows orbax."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxderm.control import Progress


def _as_saved(state: Any) -> dict[str, Any]:
  """A plain dict of the state's fields: readable without our classes."""
  return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}


def _manager(directory: pathlib.Path, writing: bool) -> ocp.CheckpointManager:
  policy = preservation_policy.AnyPreservationPolicy(
    [
      preservation_policy.LatestN(1),
      # The metric is the step of those that were the best when saved, so that
      # ties and values that are no number cannot confuse the order.
      preservation_policy.BestN(
        get_metric_fn=lambda m: m['improved'], reverse=False, n=1
      ),
    ]
  )
  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      preservation_policy=policy,
      create=writing,
      cleanup_tmp_directories=writing,
    ),
    item_handlers={
      'state': ocp.StandardCheckpointHandler(),
      'progress': ocp.JsonCheckpointHandler(),
    },
  )


class Checkpoints:
  """The latest and the best state of a run.

  Saving is atomic and in the background: a run that is killed in the middle of
  it leaves the checkpoint before.

  Attributes:
    directory: Where they are.
  """

  def __init__(self, directory: str | pathlib.Path):
    """Opens `directory`, which is made when the first state is saved."""
    # orbax takes a relative path and then fails in its own thread.
    self.directory = pathlib.Path(directory).absolute()
    self._manager, self._writing = None, False
    # Asked once: of several processes one may have made it a moment later.
    self._there = self.directory.is_dir()

  def _open(self, writing: bool = False) -> ocp.CheckpointManager:
    """orbax's manager; only one that is to write makes and tidies the folder.

    It tidies in a thread that `save` alone waits for: a run that fails before
    it has saved anything must not leave that thread behind.
    """
    if self._manager is None or (writing and not self._writing):
      self.close()
      self._manager, self._writing = _manager(self.directory, writing), writing
      self._there = True
    return self._manager

  def _steps(self) -> list[int]:
    if not self._there:
      return []
    return sorted(self._open().all_steps())

  def latest(self) -> int | None:
    """The step of the latest state, None if there is none."""
    return max(self._steps(), default=None)

  def save(self, state: Any, progress: Progress) -> None:
    """Saves a state at its step, unless that step is saved already.

    Args:
      state: A dataclass of arrays with a field `step`.
      progress: What validation has said so far.

    Raises:
      RuntimeError: orbax did not save it.
    """
    step = int(jax.device_get(state.step))
    if step in self._steps():
      return
    improved = step if progress.best_step == step else -1
    saved = self._open(writing=True).save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_as_saved(state)),
        progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
      ),
      metrics={'improved': improved},
      force=True,
    )
    if not saved:
      raise RuntimeError(f'{self.directory}: step {step} was not saved.')

  def restore(self, like: Any, which: str | int = 'latest'):
    """The state at `which` and the progress saved with it.

    Args:
      like: A state of the same structure, or its shapes (fresh_state.py); the
        places of its arrays are kept.
      which: 'latest', 'best' or a step.

    Returns:
      (state, Progress).

    Raises:
      FileNotFoundError: There is no such checkpoint; lists those there are.
      ValueError: Its arrays are not those of `like`.
    """
    step = self._find(which)
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_saved(like))
    try:
      restored = self._open().restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(target),
          progress=ocp.args.JsonRestore(),
        ),
      )
    except ValueError as error:
      reason = str(error).split('\n')[0]
      raise ValueError(
        f'Step {step} in {self.directory} cannot be read as the arrays of this '
        f'network and optimiser: {reason} Use the config that it was trained '
        'with and the version of jaxderm that saved it, or train again in '
        'another folder; this one was left as it is.'
      ) from error
    return like.replace(**restored['state']), Progress(**restored['progress'])

  def raw(self, which: str | int = 'latest') -> dict[str, Any]:
    """The arrays at `which` as NumPy, whatever machine saved them."""
    step = self._find(which)
    about = self._open().item_metadata(step)['state']
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), about.tree)
    return self._open().restore(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardRestore(target)),
    )['state']

  def _find(self, which: str | int) -> int:
    steps = self._steps()
    if not steps:
      raise FileNotFoundError(
        f'No checkpoint in {self.directory}. Train first (--mode=train), or '
        'name the workdir of a run that was.'
      )
    if which == 'latest':
      return steps[-1]
    if which == 'best':
      best = self.progress(steps[-1]).best_step
      # Before the first evaluation there is no best; the latest is all.
      return best if best in steps else steps[-1]
    if not str(which).isdigit() or int(which) not in steps:
      raise FileNotFoundError(
        f"No checkpoint {which!r} in {self.directory}; there are 'latest', "
        f"'best' and the steps {', '.join(map(str, steps))}."
      )
    return int(which)

  def progress(self, step: int) -> Progress:
    """What validation had said at a saved step."""
    restored = self._open().restore(
      step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
    )
    return Progress(**restored['progress'])

  def wait(self) -> None:
    """Returns when all is on disk; raises what went wrong on the way there."""
    if self._manager is not None:
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and lets go."""
    if self._manager is not None:
      manager, self._manager = self._manager, None
      manager.wait_until_finished()
      manager.close()


def load_json(path: str | pathlib.Path) -> dict[str, Any]:
  """Reads a JSON file of a run, naming the file if it cannot be read."""
  path = pathlib.Path(path)
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{path} is not there. Is {path.parent} the workdir of a run? '
      '(--mode=train makes one.)'
    ) from None
  except json.JSONDecodeError as error:
    raise ValueError(f'{path} is not JSON: {error}') from None
