"""Parameters of layers, for less than flax asks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import errors


def parameter(
  module: nn.Module, name: str, init: Callable, shape: tuple[int, ...]
) -> jax.Array:
  """`module.param(name, init, shape)`, which traces quickly.

  For the shape of a parameter that is there already, flax's own traces the
  initialiser again: a tenth of the time that tracing a step of DenseNet121
  takes. Here the shape is compared with the one that was asked for.

  Raises:
    ScopeParamShapeError: The parameter that is there has another shape.
  """
  if not module.has_variable('params', name):
    return module.param(name, init, shape)
  value = module.get_variable('params', name)
  if jnp.shape(value) != shape:
    path = '/'.join(module.path)
    raise errors.ScopeParamShapeError(name, path, jnp.shape(value), shape)
  return value
