"""Counts as the profiler thop 0.1.1 does: the "GFLOPs" of `zarrin2025`.

thop asks torch's modules what they did. A module that it does not know costs
nothing, and so does everything that is not a module: activations, GroupNorm,
functions that enlarge, products of attention, subclasses of a convolution. Here
flax's modules are asked in the same way, by their very class, so that a network
is counted alike if it has a module wherever the torch code has one.

What we have as functions where torch has modules is not seen: average pools (1
for each output by thop's rule), which none of these systems has.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxderm.cost import example
from jaxderm.models.attention import Softmax
from jaxderm.models.forms import use_form
from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  ConvTranspose,
  DepthwiseConv,
  PReLU,
  SeparableConv,
  Up,
)

# For each output of a module that only enlarges. 'conv2' and 'transpose' are
# one convolution to thop: what 'conv2' does before it is a function.
_UPSAMPLE = {'nearest': 1, 'bilinear': 11, 'aligned': 11}


def operations(network: nn.Module, size: int = 256) -> int:
  """What thop calls the number of operations for one image; none is done.

  Args:
    network: With `inputs`, or called with images only.
    size: Side of the image, in pixels.
  """
  total = 0

  def watch(following, args, kwargs, context):
    nonlocal total
    y = following(*args, **kwargs)
    rule = _RULES.get(type(context.module))
    if rule is not None and context.method_name == '__call__':
      total += rule(context.module, args[0], y)
    return y

  inputs = example(network, size).values()
  with nn.intercept_methods(watch), use_form('lax'):
    jax.eval_shape(network.init, jax.random.key(0), *inputs)
  return total


def _products(module: nn.Module, x: Array, y: Array) -> int:
  """Of a convolution or a matrix, for each output; biases are not counted.

  So a transposed convolution of stride 2 counts four times what it does.
  """
  kernel = module.get_variable('params', 'kernel')
  return y.size * (kernel.size // kernel.shape[-1])


def _separable(module: SeparableConv, x: Array, y: Array) -> int:
  between = y.size // y.shape[-1] * x.shape[-1]
  return between * module.size**2 + y.size * x.shape[-1]


def _norm(module: nn.Module, x: Array, y: Array) -> int:
  """Two for the statistics, two for scale and bias."""
  return x.size * (4 if module.use_scale or module.use_bias else 2)


def _up(module: Up, x: Array, y: Array) -> int:
  return y.size * _UPSAMPLE.get(module.kind, 0)


def _softmax(module: Softmax, x: Array, y: Array) -> int:
  """n exponentials, n - 1 sums, n quotients."""
  return x.size // x.shape[-1] * (3 * x.shape[-1] - 1)


_RULES: dict[type, Callable[[nn.Module, Array, Array], int]] = {
  Conv: _products,
  ConvTranspose: _products,
  DepthwiseConv: _products,
  SeparableConv: _separable,
  nn.Dense: _products,
  BatchNorm: lambda module, x, y: 4 * x.size,
  nn.LayerNorm: _norm,
  PReLU: lambda module, x, y: x.size,
  Softmax: _softmax,
  Up: _up,
}
