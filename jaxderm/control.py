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
    plateau_patience: Evaluations without a gain before the rate falls; 0 for
      never.
    plateau_factor: What the rate is multiplied by.
    plateau_min_delta: What counts as a gain there.
    plateau_floor: The lowest rate, as a share of the first.
  """

  mode: str = 'min'
  stop_patience: int = 0
  stop_min_delta: float = 0.0
  plateau_patience: int = 0
  plateau_factor: float = 0.1
  plateau_min_delta: float = 1e-4
  plateau_floor: float = 0.0

  def __post_init__(self):
    if self.mode not in ('min', 'max'):
      raise ValueError(f"monitor.mode is {self.mode!r}; use 'min' or 'max'.")


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


def advance(
  progress: Progress, rules: Rules, step: int, value: float
) -> Progress:
  """Takes one validation value in; a value that is not finite is no gain."""
  lower = value if rules.mode == 'min' else -value

  def gains(best: float | None, min_delta: float) -> bool:
    if not math.isfinite(value):
      return False
    if best is None:
      return True
    return lower < (best if rules.mode == 'min' else -best) - min_delta

  new = {}
  if gains(progress.best, 0.0):
    new |= {'best': value, 'best_step': step}
  if rules.stop_patience:
    if gains(progress.stop_best, rules.stop_min_delta):
      new |= {'stop_best': value, 'stop_wait': 0}
    else:
      wait = progress.stop_wait + 1
      new |= {'stop_wait': wait, 'stopped': wait >= rules.stop_patience}
  if rules.plateau_patience:
    if gains(progress.plateau_best, rules.plateau_min_delta):
      new |= {'plateau_best': value, 'plateau_wait': 0}
    elif progress.plateau_wait + 1 < rules.plateau_patience:
      new |= {'plateau_wait': progress.plateau_wait + 1}
    else:
      lowered = progress.rate * rules.plateau_factor
      new |= {'plateau_wait': 0, 'rate': max(lowered, rules.plateau_floor)}
  return dataclasses.replace(progress, **new)
