"""Members and views to probabilities, before anything is scored."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxderm import sharding
from jaxderm.optim import choose
from jaxderm.step import Prepare, cast
from jaxderm.task import Batch, Task

Array = jax.Array


def _rot90(times: int):
  turn = partial(jnp.rot90, k=times, axes=(1, 2))
  back = partial(jnp.rot90, k=-times, axes=(1, 2))
  return turn, back


_HFLIP = (partial(jnp.flip, axis=2),) * 2
_VFLIP = (partial(jnp.flip, axis=1),) * 2

# Each view and the way back, on [B, H, W, C].
VIEWS: dict[str, tuple[Callable, Callable]] = {
  'identity': (lambda x: x, lambda x: x),
  'hflip': _HFLIP,
  'vflip': _VFLIP,
  'rot90': _rot90(1),
  'rot180': _rot90(2),
  'rot270': _rot90(3),
}


def check_views(views: Sequence[str]) -> list[tuple[Callable, Callable]]:
  """The views of those names, or a ValueError that says which there are."""
  if not views:
    raise ValueError("evaluate.views is empty; 'identity' is the image as is.")
  return [choose(VIEWS, view, 'evaluate.views') for view in views]


def make_predict(
  network: nn.Module,
  task: Task,
  prepare: Prepare,
  mesh: Mesh,
  *,
  views: Sequence[str] = ('identity',),
  precision: str = 'float32',
) -> Callable[[Any, Batch], Array]:
  """`predict(variables, batch)`: probabilities, averaged over the views.

  Args:
    network: The network.
    task: The task.
    prepare: As in `step.make_train_step`; called without a key.
    mesh: The devices.
    views: Names in `VIEWS` (test-time augmentation).
    precision: 'float32' or 'bfloat16'.

  Raises:
    ValueError: No such view.
  """
  pairs = check_views(views)

  @partial(jax.jit, out_shardings=sharding.by_row(mesh))
  def predict(variables, batch):
    batch = prepare(batch, None)
    variables = variables | {'params': cast(variables['params'], precision)}
    total = 0.0
    for there, back in pairs:
      seen = batch | {'image': there(batch['image'])}
      inputs = cast([seen[name] for name in task.inputs], precision)
      probability = task.probabilities(network.apply(variables, *inputs, False))
      # Maps are turned back; probabilities of classes have no direction.
      total += back(probability) if probability.ndim == 4 else probability
    return total / len(pairs)

  return predict


def mean_of_members(
  predict: Callable[[Any, Batch], Array],
  members: Sequence[Any],
  batch: Batch,
  weights: Sequence[float] | None = None,
) -> Array:
  """Mean probabilities of several members (folds, seeds, networks).

  Args:
    predict: From `make_predict`.
    members: Variables of each member.
    batch: A placed batch.
    weights: One per member; equal if None.
  """
  weights = [1.0] * len(members) if weights is None else list(weights)
  total = sum(
    w * predict(m, batch) for w, m in zip(weights, members, strict=True)
  )
  return total / sum(weights)
