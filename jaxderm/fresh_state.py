"""A fresh state: its shapes are known before it is made.

Making it takes a program of its own, and seconds even where that is read from
the cache. So who wants its shapes alone, to restore a state or to trace the
steps, does not make it, and it is made while the program of the steps is
compiled.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import stages
from jax.sharding import Mesh

from jaxderm import draws, sharding, traces, vectors
from jaxderm.models import forms
from jaxderm.step import TrainState
from jaxderm.task import Batch, Task

# A program that runs once: optimising it fully takes longer than running it.
# Unoptimised, it takes a second longer for ResNet50's 24 million numbers.
_QUICK = {
  'xla_backend_optimization_level': 1,
  'xla_llvm_disable_expensive_passes': True,
}


@dataclasses.dataclass(frozen=True)
class Plan:
  """A state that is yet to be made.

  Attributes:
    shapes: The state with a `jax.ShapeDtypeStruct`, placed, for each array.
    make: Makes it; the same each time.
  """

  shapes: TrainState
  make: Callable[[], TrainState]


def plan(
  network: nn.Module,
  task: Task,
  tx: optax.GradientTransformation,
  example: Batch,
  seed: int,
  mesh: Mesh,
  start: Any = None,
) -> Plan:
  """A fresh state, the same on every device of the mesh.

  It is made inside `jit`: `device_put` would alias buffers that the first
  step then donates.

  Args:
    network: A network that is called with the task's inputs and `train`.
    task: The task.
    tx: The optimiser.
    example: A prepared batch, or its shapes and types.
    seed: Decides parameters, order, augmentation and dropout.
    mesh: Where it lives.
    start: Variables that parts of the network start from instead, such as
      {'params': {'encoder': ...}}: of a collection, whole parts by name.
  """

  def init(key, start):
    key, init_key = jax.random.split(jax.random.wrap_key_data(key))
    inputs = [jnp.zeros(example[k].shape, jnp.float32) for k in task.inputs]
    with forms.use_form('lax'):
      variables = network.init(init_key, *inputs, False)
    for collection, parts in (start or {}).items():
      variables[collection] = {**variables[collection], **parts}
    return variables, key

  def drawn(key, start):
    program, shapes = jax.make_jaxpr(init, return_shape=True)(key, start)
    made = draws.together(program)(*jax.tree.leaves((key, start)))
    return jax.tree.unflatten(jax.tree.structure(shapes), made)

  def fresh(key, start):
    variables, key = traces.recalled(drawn)(key, start)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=variables['params'],
      batch_stats=variables.get('batch_stats', {}),
      opt_state=tx.init(vectors.join(variables['params'])),
      key=key,
      rate=jnp.ones((), jnp.float32),
      bad_step=jnp.full((), -1, jnp.int32),
    )

  # An argument, so that every seed finds the same program in the cache.
  given = np.asarray(jax.random.key_data(jax.random.key(seed))), start
  everywhere = sharding.replicated(mesh)
  program = jax.jit(fresh, out_shardings=everywhere, compiler_options=_QUICK)
  shapes = jax.eval_shape(program, *given)
  placed = jax.tree.map(lambda x: x.update(sharding=everywhere), shapes)
  return Plan(placed, lambda: program(*given))


def make_beside(
  plans: Sequence[Plan], lowered: stages.Lowered
) -> tuple[list[TrainState], stages.Compiled]:
  """The states, and the program of their steps, which is compiled meanwhile."""
  with futures.ThreadPoolExecutor(1) as pool:
    compiled = pool.submit(lowered.compile)
    states = [planned.make() for planned in plans]
    return states, compiled.result()
