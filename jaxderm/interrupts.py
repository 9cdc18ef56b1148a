"""Being asked to stop: the loop ends between two steps, with all saved."""

import signal

import jax
from jax.experimental import multihost_utils

EXIT_TERMINATED = 143  # what a shell reports for SIGTERM


class Terminated(SystemExit):
  """The run was asked to stop, has saved itself, and can be started again."""


class Interrupts:
  """Notes SIGTERM and Ctrl-C, so that the loop can end between two steps."""

  def __enter__(self):
    self._asked = False
    self._before = {
      s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)
    }
    return self

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    del number, frame
    if self._asked:  # the second time somebody means it
      raise KeyboardInterrupt
    self._asked = True

  def asked(self, step: int) -> bool:
    """Whether to stop before step `step`; all hosts agree."""
    if jax.process_count() == 1:
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)
