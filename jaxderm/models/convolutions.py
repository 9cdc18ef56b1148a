"""Convolutions as modules, and what enlarges maps."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxderm.models.forms import form
from jaxderm.models.joined import Doubled, Joined
from jaxderm.models.norm import ORIGINS
from jaxderm.models.ops import (
  UPSAMPLINGS,
  choose,
  conv,
  conv_transpose_2x2,
  conv_transpose_3x3,
  depthwise_conv,
  upsample,
  upsample_aligned,
)
from jaxderm.models.parameters import parameter
from jaxderm.models.taps import Array

he_normal = nn.initializers.he_normal()


def same_padding(size: int, origin: str) -> str | list[tuple[int, int]]:
  """The padding that 'same' means to Keras, and half the kernel to torch."""
  choose('origin', origin, ORIGINS)
  return 'SAME' if origin == 'keras' else [((size - 1) // 2, size // 2)] * 2


class Conv(nn.Module):
  """Convolution, with a bias unless told otherwise.

  Attributes:
    features: Channels of the output.
    size: Side of the kernel, or (height, width).
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
  """

  features: int
  size: int | tuple[int, int] = 3
  stride: int = 1
  padding: str | Sequence[tuple[int, int]] = 'SAME'
  groups: int = 1
  bias: bool = True
  kernel_init: Callable = he_normal

  @nn.compact
  def __call__(self, x: Array | Joined, train: bool = False) -> Array:
    del train  # taken so that a block can stand where a convolution does
    size = (self.size, self.size) if isinstance(self.size, int) else self.size
    shape = (*size, x.shape[-1] // self.groups, self.features)
    kernel = parameter(self, 'kernel', self.kernel_init, shape)
    x, kernel = _promote(x, kernel)
    x = conv(x, kernel, self.stride, self.padding, self.groups)
    return _add_bias(self, x)


class DepthwiseConv(nn.Module):
  """One filter for each channel; the kernel is [k, k, 1, C]."""

  size: int = 3
  stride: int = 1
  padding: str | Sequence[tuple[int, int]] = 'SAME'
  bias: bool = True
  # With one input to each filter, the fan is the kernel's area.
  kernel_init: Callable = he_normal

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    del train
    shape = (self.size, self.size, 1, x.shape[-1])
    kernel = parameter(self, 'kernel', self.kernel_init, shape)
    x, kernel = promote_dtype(x, kernel)
    x = depthwise_conv(x, kernel, self.stride, self.padding)
    return _add_bias(self, x)


class SeparableConv(nn.Module):
  """A depthwise convolution, then a 1x1 convolution (arXiv:1610.02357).

  The parameters are called as in Keras: 'depthwise_kernel' [k, k, 1, C],
  'pointwise_kernel' [1, 1, C, D] and, at the end, 'bias'.
  """

  features: int
  size: int = 3
  stride: int = 1
  padding: str | Sequence[tuple[int, int]] = 'SAME'
  bias: bool = True
  kernel_init: Callable = he_normal

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    del train
    shapes = {
      'depthwise_kernel': (self.size, self.size, 1, x.shape[-1]),
      'pointwise_kernel': (1, 1, x.shape[-1], self.features),
    }
    kernels = [
      parameter(self, name, self.kernel_init, shape)
      for name, shape in shapes.items()
    ]
    x, depthwise, pointwise = promote_dtype(x, *kernels)
    x = depthwise_conv(x, depthwise, self.stride, self.padding)
    return _add_bias(self, conv(x, pointwise))


class ConvTranspose(nn.Module):
  """Doubles both sides with a learnt kernel [size, size, C, D] and a bias.

  Attributes:
    features: Channels of the output, D.
    size: 2 ("T2") or 3 ("T3").
  """

  features: int
  size: int = 2
  bias: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    forms = {2: conv_transpose_2x2, 3: conv_transpose_3x3}
    if self.size not in forms:
      raise ValueError(f'transposed kernel {self.size}: expected 2 or 3')
    shape = (self.size, self.size, x.shape[-1], self.features)
    x, kernel = promote_dtype(x, parameter(self, 'kernel', he_normal, shape))
    return _add_bias(self, forms[self.size](x, kernel))


class Up(nn.Module):
  """Doubles both sides, in the way that `kind` says.

  'nearest'; 'bilinear' between pixel centres; 'aligned', bilinear with corner on
  corner; 'transpose' (T2) and 'conv2', which is 'nearest' and a 2x2 convolution
  with a bias. The last two change the channels to `features`.

  Attributes:
    whole: Whether it always gives a map. For `join`, 'nearest' need not: where a
      convolution reads the map sooner as it is, it gives a `Doubled` one.
  """

  features: int
  kind: str = 'nearest'
  whole: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array | Doubled:
    choose('up', self.kind, [*UPSAMPLINGS, 'transpose', 'conv2', 'aligned'])
    if self.kind == 'conv2':
      conv2 = Conv(self.features, 2)
      nn.share_scope(self, conv2)
      return conv2(upsample(x, 'nearest'))
    if self.kind == 'transpose':
      transposed = ConvTranspose(self.features, 2)
      nn.share_scope(self, transposed)
      return transposed(x)
    if self.kind == 'aligned':
      return upsample_aligned(x)
    if self.kind == 'nearest' and not self.whole and form() == 'cpu':
      return Doubled(x)
    return upsample(x, self.kind)


def _promote(x: Array | Joined, kernel: Array) -> tuple[Any, Array]:
  """Both in one type, all maps of `x`."""
  leaves, tree = jax.tree.flatten((x, kernel))
  return jax.tree.unflatten(tree, promote_dtype(*leaves))


def _add_bias(module: nn.Module, x: Array) -> Array:
  if not module.bias:
    return x
  bias = parameter(module, 'bias', nn.initializers.zeros, (x.shape[-1],))
  # The bias has its gradient summed over all pixels: not in bfloat16.
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return (x + bias.astype(wide)).astype(x.dtype)
