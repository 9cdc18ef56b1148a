"""Train and evaluation steps: pure functions, jitted over a mesh."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxderm import sharding, traces, vectors
from jaxderm.models import forms
from jaxderm.remat import limit, rematerialised
from jaxderm.task import Batch, Task

Array = jax.Array
Prepare = Callable[[Batch, Array | None], Batch]

# What a network may compute in.
PRECISIONS = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class TrainState(flax.struct.PyTreeNode):
  """All that a run consists of; the next state depends on nothing else.

  Attributes:
    step: Updates done, int32.
    params: Parameters, float32.
    batch_stats: Statistics of BatchNorm, float32.
    opt_state: State of the optimiser, which sees parameters joined (`vectors`).
    key: The run's key; step k uses `fold_in(key, k)`.
    rate: What every update is multiplied by; falls on a plateau.
    bad_step: The first step whose loss or gradient was not finite, or -1.
  """

  step: Array
  params: Any
  batch_stats: Any
  opt_state: Any
  key: Array
  rate: Array
  bad_step: Array


Update = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def cast(tree: Any, precision: str) -> Any:
  """Arrays of floats to the precision that the network computes in.

  The last layer ('logits') keeps float32, so that thresholds and losses see
  logits of full precision.

  Args:
    tree: Parameters, or any tree of arrays.
    precision: 'float32' or 'bfloat16'.
  """
  if precision == 'float32':
    return tree

  def narrow(path, x):
    last = bool(path) and str(getattr(path[0], 'key', '')).startswith('logits')
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(PRECISIONS[precision]) if floating and not last else x

  return jax.tree_util.tree_map_with_path(narrow, tree)


def _mean(losses: Array, valid: Array) -> Array:
  """Mean over the images that are no padding."""
  return jnp.sum(losses * valid) / jnp.maximum(jnp.sum(valid), 1.0)


def make_gradient(
  network: nn.Module, task: Task, precision: str, remat: bool | None = False
) -> Callable:
  """(params, batch_stats, batch, key) to ((loss, batch_stats), gradient)."""

  def apply(variables, inputs, key):
    how = {'mutable': ['batch_stats'], 'rngs': {'dropout': key}}
    return network.apply(variables, *inputs, True, **how)

  above = limit(remat)
  if above < math.inf:
    apply = rematerialised(apply, above=above)

  def loss_fn(params, batch_stats, batch, key):
    inputs = cast([batch[name] for name in task.inputs], precision)
    variables = {'params': cast(params, precision), 'batch_stats': batch_stats}
    logits, updated = apply(variables, inputs, key)
    loss = _mean(task.loss(logits, batch), batch['valid'])
    return loss, updated.get('batch_stats', batch_stats)

  return jax.value_and_grad(loss_fn, has_aux=True)


def _accumulated(gradient: Callable, parts: int) -> Callable:
  """The same gradient, over `parts` parts of the batch one after the other.

  The loss is the mean over the parts; BatchNorm sees one part at a time.
  """

  def accumulated(params, batch_stats, batch, key):
    # Interleaved, so that every part holds rows of every device.
    cut = jax.tree.map(
      lambda x: jnp.moveaxis(
        x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0
      ),
      dict(batch),
    )

    def body(carry, part):
      batch_stats, total, loss_sum, k = carry
      (loss, batch_stats), grads = gradient(
        params, batch_stats, part, jax.random.fold_in(key, k)
      )
      total = jax.tree.map(jnp.add, total, grads)
      return (batch_stats, total, loss_sum + loss, k + 1), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    start = (batch_stats, zeros, jnp.zeros(()), jnp.zeros((), jnp.int32))
    (batch_stats, total, loss_sum, _), _ = jax.lax.scan(body, start, cut)
    mean = jax.tree.map(lambda x: x / parts, total)
    return (loss_sum / parts, batch_stats), mean

  return gradient if parts == 1 else accumulated


def make_update(
  network: nn.Module,
  task: Task,
  tx: optax.GradientTransformation,
  prepare: Prepare,
  *,
  accumulate: int = 1,
  precision: str = 'float32',
  remat: bool | None = False,
) -> Update:
  """`update(state, batch) -> (state, scalars)`, as yet without a program.

  Args:
    network: The network.
    task: The task.
    tx: The optimiser, of joined parameters: `tx.init(vectors.join(params))`.
    prepare: (batch, key) to what the network expects: colour constancy,
      augmentation, normalisation.
    accumulate: Parts that the batch is cut into to save memory.
    precision: 'float32' or 'bfloat16', of the network's computation;
      parameters, statistics and the loss are float32 always.
    remat: Whether to save memory at the cost of time; None where it costs none
      (`remat.limit`).
  """
  gradient = make_gradient(network, task, precision, remat)
  gradient = _accumulated(gradient, accumulate)

  def update(state, batch):
    key, prepare_key = jax.random.split(
      jax.random.fold_in(state.key, state.step)
    )
    batch = prepare(task.arrange(batch, state.step), prepare_key)
    (loss, batch_stats), grads = gradient(
      state.params, state.batch_stats, batch, key
    )
    grads, params = vectors.join(grads), vectors.join(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, params)
    updates = jax.tree.map(lambda u: u * state.rate, updates)
    params = optax.apply_updates(params, updates)
    norm = optax.tree.norm(grads)
    bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm)) & (state.bad_step < 0)
    state = state.replace(
      step=state.step + 1,
      params=vectors.part(params, state.params),
      batch_stats=batch_stats,
      opt_state=opt_state,
      bad_step=jnp.where(bad, state.step, state.bad_step),
    )
    return state, {'loss': loss, 'gradient_norm': norm}

  return update


def jit_update(update: Update, mesh: Mesh) -> Update:
  """The program of one step; the state is donated."""
  everywhere, rows = sharding.replicated(mesh), sharding.by_row(mesh)
  return jax.jit(
    traces.recalled_step(update),
    in_shardings=(everywhere, rows),
    out_shardings=(everywhere, everywhere),
    donate_argnums=0,
    compiler_options=forms.compiler_options(),
  )


def make_train_step(
  network: nn.Module,
  task: Task,
  tx: optax.GradientTransformation,
  prepare: Prepare,
  mesh: Mesh,
  *,
  accumulate: int = 1,
  precision: str = 'float32',
  remat: bool | None = False,
) -> Update:
  """`step(state, batch) -> (state, scalars)` over a mesh; the state is donated.

  The arguments are those of `make_update`.
  """
  update = make_update(
    network,
    task,
    tx,
    prepare,
    accumulate=accumulate,
    precision=precision,
    remat=remat,
  )
  return jit_update(update, mesh)


def make_eval_step(
  network: nn.Module,
  task: Task,
  prepare: Prepare,
  mesh: Mesh,
  *,
  precision: str = 'float32',
) -> Callable[[Any, Any, Batch], dict[str, Array]]:
  """`step(params, batch_stats, batch) -> columns [B]`, with each image's loss."""

  def step(params, batch_stats, batch):
    batch = prepare(batch, None)
    inputs = cast([batch[name] for name in task.inputs], precision)
    variables = {'params': cast(params, precision), 'batch_stats': batch_stats}
    logits = network.apply(variables, *inputs, False)
    columns = task.rows(task.probabilities(logits), batch)
    return columns | {'loss': task.loss(logits, batch)}

  return jax.jit(
    traces.recalled(step),
    out_shardings=sharding.by_row(mesh),
    compiler_options=forms.compiler_options(),
  )
