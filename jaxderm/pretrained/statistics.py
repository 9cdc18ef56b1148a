"""Statistics of BatchNorm, found again from images.

Publishers fold normalisation into the convolutions before it. Such weights
answer as they did, but a network that is trained on needs the statistics back:
in training, BatchNorm normalises by the batch whatever the file said.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

Array = jax.Array
Seen = dict[tuple[str, ...], tuple[Array, Array, float]]


def calibrate(
  network: nn.Module, variables: Any, *inputs: Array, jit: Callable = jax.jit
) -> Any:
  """Sets the statistics of every BatchNorm to those of one batch.

  Each layer sees what it gets once those before it are set, as in a step of
  training, but nothing is kept of the old statistics and nothing is dropped.

  Args:
    network: A network that normalises.
    variables: {'params', 'batch_stats'}.
    *inputs: Of the network, such as images [B, H, W, 3], normalised.
    jit: What compiles it.

  Returns:
    Variables with new statistics.
  """

  def normalised(module: nn.BatchNorm, x, mean, var):
    y = (x - mean) / jnp.sqrt(var + module.epsilon)
    if module.use_scale:
      y = y * module.get_variable('params', 'scale')
    return y + module.get_variable('params', 'bias')

  seen = _observe(network, variables, inputs, normalised, jit)
  return variables | {
    'batch_stats': _replace(
      variables['batch_stats'],
      {(*path, 'mean'): mean for path, (mean, _, _) in seen.items()}
      | {(*path, 'var'): var for path, (_, var, _) in seen.items()},
    )
  }


def unfold(network: nn.Module, variables: Any, *inputs: Array) -> Any:
  """Takes normalisation out of the convolutions that it was folded into.

  A folded layer is x + bias. It becomes scale (x - mean) / sqrt(var + epsilon)
  + bias with the statistics of one batch, which is the same function of x, and
  nearly the same in training, where batches resemble each other.

  Args:
    network: A network that normalises.
    variables: As `load` gives them for folded weights.
    *inputs: Of the network, such as images [B, H, W, 3], normalised; their
      number decides how well the statistics are known.

  Returns:
    Variables of a network that gives the same numbers.
  """
  seen = _observe(network, variables, inputs, None, jax.jit)
  flat = traverse_util.flatten_dict(variables['params'])
  params, stats = {}, {}
  for path, (mean, var, epsilon) in seen.items():
    params[(*path, 'scale')] = jnp.sqrt(var + epsilon)
    params[(*path, 'bias')] = flat[(*path, 'bias')] + mean
    stats[(*path, 'mean')], stats[(*path, 'var')] = mean, var
  return variables | {
    'params': _replace(variables['params'], params),
    'batch_stats': _replace(variables['batch_stats'], stats),
  }


def _observe(
  network: nn.Module,
  variables: Any,
  inputs: tuple,
  normalise: Callable | None,
  jit: Callable,
) -> Seen:
  """Mean, variance and epsilon of every BatchNorm, by its path.

  Args:
    network: A network.
    variables: Its variables.
    inputs: Its inputs.
    normalise: (layer, x, mean, var) to what it shall answer; None for what it
      answers by itself.
    jit: What compiles it.
  """

  def interceptor(seen, following, args, kwargs, context):
    layer = context.module
    if not isinstance(layer, nn.BatchNorm):
      return following(*args, **kwargs)
    x = args[0].astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(x, axes), jnp.var(x, axes)
    seen[layer.scope.path] = mean, var, layer.epsilon
    if normalise is None:
      return following(*args, **kwargs)
    return normalise(layer, x, mean, var)

  @jit
  def run(variables, inputs):
    seen: Seen = {}

    def intercept(*context):
      return interceptor(seen, *context)

    with nn.intercept_methods(intercept):
      network.apply(variables, *inputs, False)
    return seen

  return run(variables, inputs)


def _replace(tree: Any, values: dict[tuple[str, ...], Array]) -> Any:
  flat = traverse_util.flatten_dict(tree)
  return traverse_util.unflatten_dict(flat | values)
