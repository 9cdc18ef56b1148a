"""Members and views to probabilities, before anything is scored."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxderm import folding, sharding, traces
from jaxderm.models import forms
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
  """`predict(member, batch)`: probabilities, averaged over the views.

  A member is its variables, or what `fold` made of them, which is faster.

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

  def predict(member, batch):
    batch = prepare(batch, None)
    member = _narrow(member, precision)
    total = 0.0
    for there, back in pairs:
      seen = batch | {'image': there(batch['image'])}
      inputs = cast([seen[name] for name in task.inputs], precision)
      logits = folding.apply(network, member, *inputs)
      probability = task.probabilities(logits)
      # Maps are turned back; probabilities of classes have no direction.
      total += back(probability) if probability.ndim == 4 else probability
    return total / len(pairs)

  return jax.jit(
    traces.recalled(predict),
    out_shardings=sharding.by_row(mesh),
    compiler_options=forms.compiler_options(),
  )


def fold(
  network: nn.Module, task: Task, variables: Any, example: Batch
) -> folding.Folded:
  """A member for `predict`, its BatchNorm folded: once, not for every batch.

  Args:
    network: The network.
    task: The task.
    variables: {'params', 'batch_stats'} of the member.
    example: A prepared batch, or its shapes and types; not of other sides than
      `predict` will see.
  """
  inputs = [example[name] for name in task.inputs]
  return folding.fold(network, variables, *inputs)


def _narrow(member: Any, precision: str) -> Any:
  """A member whose parameters have the precision that is computed in."""
  if isinstance(member, folding.Folded):
    return member.replace(variables=_narrow(member.variables, precision))
  return member | {'params': cast(member['params'], precision)}


def weighted_mean(
  probabilities: Sequence[Any], weights: Sequence[float] | None = None
) -> Any:
  """Weighted mean of arrays of one shape, NumPy's or JAX's; of one, itself.

  Args:
    probabilities: One per member.
    weights: One per member, of any sum; equal if None.
  """
  if weights is None:
    weights = [1.0] * len(probabilities)
  weights = [float(w) for w in weights]  # NumPy's would make it float64
  pairs = zip(weights, probabilities, strict=True)
  return sum(w * p for w, p in pairs) / sum(weights)


def mean_of_members(
  predict: Callable[[Any, Batch], Array],
  members: Sequence[Any],
  batch: Batch,
  weights: Sequence[float] | None = None,
) -> Array:
  """Mean probabilities of several members (folds, seeds, networks).

  Args:
    predict: From `make_predict`.
    members: Each member's variables, folded or not.
    batch: A placed batch.
    weights: One per member; equal if None.
  """
  return weighted_mean([predict(m, batch) for m in members], weights)
