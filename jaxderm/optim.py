"""Optimisers and schedules."""

import inspect
from collections.abc import Callable, Mapping

import jax
import optax

Schedule = Callable[[jax.Array], jax.Array]


def constant(learning_rate: float, steps: int) -> Schedule:
  """The same rate at every step."""
  del steps
  return optax.constant_schedule(learning_rate)


def poly(learning_rate: float, steps: int, *, power: float = 0.9) -> Schedule:
  """`learning_rate * (1 - step / steps) ** power` (arXiv:1606.00915)."""
  return optax.polynomial_schedule(learning_rate, 0.0, power, steps)


def cosine(
  learning_rate: float,
  steps: int,
  *,
  warmup: float = 0.0,
  final: float = 0.0,
) -> Schedule:
  """Half a cosine from `learning_rate` to `final` (arXiv:1608.03983).

  Args:
    learning_rate: The highest rate.
    steps: Steps in the whole run.
    warmup: Share of the steps in which the rate first rises from zero.
    final: The rate at the end.
  """
  rise = round(warmup * steps)
  if not rise:
    return optax.cosine_decay_schedule(
      learning_rate, steps, final / learning_rate
    )
  return optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, rise, steps, final
  )


# 'plateau' falls by what validation says, not by the step: the loop does that
# (control.py) through `TrainState.rate`, which scales every update.
SCHEDULES = {
  'constant': constant,
  'plateau': constant,
  'poly': poly,
  'cosine': cosine,
}
OPTIMIZERS = {
  'adam': optax.scale_by_adam,
  'sgd': lambda **momentum: optax.trace(
    **{'decay': 0.9, 'nesterov': False} | momentum
  ),
  'rmsprop': optax.scale_by_rms,
}


def choose(options, name: str, key: str):
  """`options[name]` of a table, or `name` itself of a collection of names.

  Raises:
    ValueError: There is no such option; names the config's key and those
      there are.
  """
  if name not in options:
    raise ValueError(
      f'{key} is {name!r}; it must be one of {", ".join(sorted(options))}.'
    )
  return options[name] if isinstance(options, Mapping) else name


def check_arguments(function: Callable, given: Mapping, key: str) -> None:
  """Raises ValueError if `function` does not take the keywords `given`."""
  keywords = [
    p.name
    for p in inspect.signature(function).parameters.values()
    if p.kind == p.KEYWORD_ONLY
  ]
  for name in given:
    if name not in keywords:
      raise ValueError(
        f'{key}.{name} is not a setting of {key}; it takes '
        f'{", ".join(keywords) or "no settings"}.'
      )


def make_schedule(
  name: str, learning_rate: float, steps: int, **settings
) -> Schedule:
  """The schedule of that name over `steps` steps.

  Raises:
    ValueError: No such schedule, or it does not take such a setting.
  """
  schedule = choose(SCHEDULES, name, 'optim.schedule.name')
  check_arguments(schedule, settings, 'optim.schedule')
  return schedule(learning_rate, steps, **settings)


def kernels(params):
  """True at the weights of convolutions and dense layers, which decay."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == 'kernel', params
  )


def make_optimizer(
  name: str,
  *,
  schedule: Schedule,
  weight_decay: float = 0.0,
  decoupled: bool = False,
  clip: float | None = None,
  settings: Mapping | None = None,
) -> optax.GradientTransformation:
  """An optimiser whose updates already carry their sign and rate.

  Args:
    name: 'adam', 'sgd' or 'rmsprop'.
    schedule: Learning rate at a step.
    weight_decay: Of kernels alone; 0 for none.
    decoupled: Decay beside the gradient (AdamW, arXiv:1711.05101) instead of
      in it (L2).
    clip: The gradient's largest norm; None for no limit.
    settings: What optax's transformation of that name takes, such as `eps`.

  Raises:
    ValueError: No such optimiser.
  """
  scale = choose(OPTIMIZERS, name, 'optim.name')(**(settings or {}))
  decay = optax.add_decayed_weights(weight_decay, mask=kernels)
  parts = [optax.clip_by_global_norm(clip)] if clip else []
  if weight_decay:
    parts += [scale, decay] if decoupled else [decay, scale]
  else:
    parts += [scale]
  return optax.chain(*parts, optax.scale_by_learning_rate(schedule))
