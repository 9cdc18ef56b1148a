"""What validation decides: which state is best, when the rate falls, when to stop.

The rules are those of Keras' `ModelCheckpoint`, `ReduceLROnPlateau` and
`EarlyStopping`, which the papers' authors used. They are pure: a `Progress`
and a value give the next `Progress`, which is saved with the checkpoint.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Rules:
  """When to act.

  Attributes:
    mode: 'min' if a lower value is better, 'max' if a higher one is.
    stop_patience: Evaluations without a gain before the run stops; 0 for never.
    stop_min_delta: What counts as a gain there.
    plateau_mode: `mode` for what the plateau rule looks at; None for the same.
    plateau_patience: Evaluations without a gain before the rate falls; 0 for
      never.
    plateau_factor: What the rate is multiplied by.
    plateau_min_delta: What counts as a gain there.
    plateau_floor: The lowest rate, as a share of the first.
  """

  mode: str = 'min'
  stop_patience: int = 0
  stop_min_delta: float = 0.0
  plateau_mode: str | None = None
  plateau_patience: int = 0
  plateau_factor: float = 0.1
  plateau_min_delta: float = 1e-4
  plateau_floor: float = 0.0

  def __post_init__(self):
    for name, mode in (
      ('mode', self.mode),
      ('plateau_mode', self.plateau_mode),
    ):
      if mode not in ('min', 'max') and (name, mode) != ('plateau_mode', None):
        raise ValueError(f"monitor.{name} is {mode!r}; use 'min' or 'max'.")


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a run has come, in the eyes of its validation set.

  Attributes:
    best: The best value so far, None before the first.
    best_step: The step it was reached at.
    stop_best, stop_wait: The early stopping's own best and count.
    plateau_best, plateau_wait: The plateau rule's own best and count.
    rate: What the learning rate is multiplied by now.
    stopped: Whether the run is to end here.
  """

  best: float | None = None
  best_step: int = -1
  stop_best: float | None = None
  stop_wait: int = 0
  plateau_best: float | None = None
  plateau_wait: int = 0
  rate: float = 1.0
  stopped: bool = False


def _gains(mode: str, value: float, best: float | None, delta: float) -> bool:
  """Whether a value is better than the best by more than `delta`."""
  if not math.isfinite(value):
    return False
  if best is None:
    return True
  return value < best - delta if mode == 'min' else value > best + delta


def advance(
  progress: Progress,
  rules: Rules,
  step: int,
  value: float,
  plateau_value: float | None = None,
) -> Progress:
  """Takes one evaluation in; a value that is not finite is no gain.

  Args:
    progress: So far.
    rules: When to act.
    step: Updates done.
    value: What is to be best, and stops the run.
    plateau_value: What the plateau rule looks at; `value` if None.
  """
  new = {}
  if _gains(rules.mode, value, progress.best, 0.0):
    new |= {'best': value, 'best_step': step}
  if rules.stop_patience:
    if _gains(rules.mode, value, progress.stop_best, rules.stop_min_delta):
      new |= {'stop_best': value, 'stop_wait': 0}
    else:
      wait = progress.stop_wait + 1
      new |= {'stop_wait': wait, 'stopped': wait >= rules.stop_patience}
  if rules.plateau_patience:
    mode = rules.plateau_mode or rules.mode
    seen = value if plateau_value is None else plateau_value
    if _gains(mode, seen, progress.plateau_best, rules.plateau_min_delta):
      new |= {'plateau_best': seen, 'plateau_wait': 0}
    elif progress.plateau_wait + 1 < rules.plateau_patience:
      new |= {'plateau_wait': progress.plateau_wait + 1}
    else:
      lowered = progress.rate * rules.plateau_factor
      new |= {'plateau_wait': 0, 'rate': max(lowered, rules.plateau_floor)}
  return dataclasses.replace(progress, **new)
