"""Optimisers and schedules."""

import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
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
  halves: int = 1,
) -> Schedule:
  """Half a cosine from `learning_rate` to `final` (arXiv:1608.03983).

  Args:
    learning_rate: The highest rate.
    steps: Steps in the whole run.
    warmup: Share of the steps in which the rate first rises from zero.
    final: The lowest rate, at the end of the half wave.
    halves: Half waves in the run: at 2 the rate falls and rises again, at 10 it
      does so five times, as torch's CosineAnnealingLR with a T_max of a tenth
      of the epochs.

  Raises:
    ValueError: No half wave.
  """
  if halves < 1:
    raise ValueError(
      f'optim.schedule.halves is {halves}; it must be 1 or more.'
    )
  rise = round(warmup * steps)
  length = max(steps - rise, 1)

  def wave(step):
    angle = jnp.pi * halves * jnp.clip(step / length, 0.0, 1.0)
    return final + (learning_rate - final) * (1.0 + jnp.cos(angle)) / 2.0

  if not rise:
    return wave
  first = optax.linear_schedule(0.0, learning_rate, rise)
  return optax.join_schedules([first, wave], [rise])


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


def _name(path) -> str:
  return getattr(path[-1], 'key', '')


def kernels(params):
  """True at the weights of convolutions and dense layers, which decay."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: _name(path) == 'kernel', params
  )


def convolutions(params):
  """True at the weights of convolutions alone."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: _name(path) == 'kernel' and x.ndim == 4, params
  )


# Which parameters decay; all of them as in torch's AdamW.
DECAYED = {'kernels': kernels, 'convolutions': convolutions, 'all': None}


def make_optimizer(
  name: str,
  *,
  schedule: Schedule,
  weight_decay: float = 0.0,
  decoupled: bool = False,
  decayed: str = 'kernels',
  clip: float | None = None,
  settings: Mapping | None = None,
) -> optax.GradientTransformation:
  """An optimiser whose updates already carry their sign and rate.

  Args:
    name: 'adam', 'sgd' or 'rmsprop'.
    schedule: Learning rate at a step.
    weight_decay: 0 for none.
    decoupled: Decay beside the gradient (AdamW, arXiv:1711.05101) instead of
      in it (L2).
    decayed: A name in `DECAYED`: what decays.
    clip: The gradient's largest norm; None for no limit.
    settings: What optax's transformation of that name takes, such as `eps`.

  Raises:
    ValueError: No such optimiser, or nothing of that name decays.
  """
  scale = choose(OPTIMIZERS, name, 'optim.name')(**(settings or {}))
  mask = choose(DECAYED, decayed, 'optim.decayed')
  decay = optax.add_decayed_weights(weight_decay, mask=mask)
  parts = [optax.clip_by_global_norm(clip)] if clip else []
  if weight_decay:
    parts += [scale, decay] if decoupled else [decay, scale]
  else:
    parts += [scale]
  return optax.chain(*parts, optax.scale_by_learning_rate(schedule))
