"""What every network is made of. Encoders and decoders import only this.

The modules are here; the functions they stand on are in `ops` and `activations`,
what collects an encoder's feature maps is in `taps`, and all are reached through
this module.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxderm.models.activations import (
  ACTIVATIONS,
  Activation,
  PReLU,
  swish,
)
from jaxderm.models.norm import ORIGINS, BatchNorm, norm_momentum
from jaxderm.models.ops import (
  UPSAMPLINGS,
  append_channels,
  avg_pool,
  channel_shuffle,
  choose,
  conv,
  conv_transpose_2x2,
  conv_transpose_3x3,
  depthwise_conv,
  global_mean,
  max_pool,
  max_unpool,
  scaled,
  upsample,
  upsample_aligned,
)
from jaxderm.models.taps import Array, Encoder, Pyramid, Taps

__all__ = [
  'ACTIVATIONS',
  'ORIGINS',
  'Activation',
  'Array',
  'BatchNorm',
  'Conv',
  'ConvNormAct',
  'ConvTranspose',
  'DepthwiseConv',
  'DoubleConv',
  'Encoder',
  'PReLU',
  'Pyramid',
  'ResidualUnit',
  'SeparableConv',
  'Taps',
  'Up',
  'append_channels',
  'avg_pool',
  'channel_shuffle',
  'choose',
  'conv',
  'conv_transpose_2x2',
  'conv_transpose_3x3',
  'depthwise_conv',
  'global_mean',
  'max_pool',
  'max_unpool',
  'norm_momentum',
  'same_padding',
  'scaled',
  'swish',
  'upsample',
  'upsample_aligned',
]

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
  def __call__(self, x: Array, train: bool = False) -> Array:
    del train  # taken so that a block can stand where a convolution does
    size = (self.size, self.size) if isinstance(self.size, int) else self.size
    shape = (*size, x.shape[-1] // self.groups, self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    x, kernel = promote_dtype(x, kernel)
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
    kernel = self.param('kernel', self.kernel_init, shape)
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
      self.param(name, self.kernel_init, shape)
      for name, shape in shapes.items()
    ]
    x, depthwise, pointwise = promote_dtype(x, *kernels)
    x = depthwise_conv(x, depthwise, self.stride, self.padding)
    return _add_bias(self, conv(x, pointwise))


def _add_bias(module: nn.Module, x: Array) -> Array:
  if not module.bias:
    return x
  bias = module.param('bias', nn.initializers.zeros, (x.shape[-1],))
  # The bias has its gradient summed over all pixels: not in bfloat16.
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return (x + bias.astype(wide)).astype(x.dtype)


class ConvNormAct(nn.Module):
  """Convolution, batch normalisation, activation.

  Attributes:
    bias: Whether the convolution has one, beside the normalisation's.
    origin: Whose padding and normalisation, 'keras' or 'torch'.
    norm: Whether there is a normalisation.
  """

  features: int
  size: int = 3
  stride: int = 1
  activation: str = 'relu'
  groups: int = 1
  bias: bool = False
  origin: str = 'keras'
  norm: bool = True

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    x = Conv(
      self.features,
      self.size,
      self.stride,
      same_padding(self.size, self.origin),
      self.groups,
      self.bias,
      name='conv',
    )(x)
    if self.norm:
      x = BatchNorm(self.origin, name='norm')(x, train)
    return Activation(self.activation, name='act')(x)


class DoubleConv(nn.Module):
  """The block of U-Net: twice convolution, normalisation, activation.

  Attributes:
    bias: See `ConvNormAct`.
    origin: See `ConvNormAct`.
    norm: See `ConvNormAct`.
    depth: Convolutions, if not two.
  """

  features: int
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'keras'
  norm: bool = True
  depth: int = 2

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    for i in range(1, self.depth + 1):
      x = ConvNormAct(
        self.features,
        activation=self.activation,
        bias=self.bias,
        origin=self.origin,
        norm=self.norm,
        name=f'conv{i}',
      )(x, train)
    return x


class ResidualUnit(nn.Module):
  """Twice normalisation, ReLU, 3x3 convolution; the input is added.

  Pre-activation (arXiv:1603.05027) as Deep Residual U-Net has it
  (arXiv:1711.10684). Where the shape changes, a 1x1 convolution of the input is
  added.

  Attributes:
    stride: Of the first convolution, and of the 1x1.
    origin: See `ConvNormAct`.
    first: Whether the input is an image, which is convolved as it is.
  """

  features: int
  stride: int = 1
  origin: str = 'keras'
  first: bool = False

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    def activate(x: Array, name: str) -> Array:
      return nn.relu(BatchNorm(self.origin, name=name)(x, train))

    def convolve(x: Array, size: int, stride: int, name: str) -> Array:
      padding = same_padding(size, self.origin)
      return Conv(self.features, size, stride, padding, name=name)(x)

    y = x if self.first else activate(x, 'norm1')
    y = convolve(y, 3, self.stride, 'conv1')
    y = convolve(activate(y, 'norm2'), 3, 1, 'conv2')
    if x.shape != y.shape:
      x = convolve(x, 1, self.stride, 'shortcut')
    return x + y


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
    x, kernel = promote_dtype(x, self.param('kernel', he_normal, shape))
    return _add_bias(self, forms[self.size](x, kernel))


class Up(nn.Module):
  """Doubles both sides, in the way that `kind` says.

  'nearest'; 'bilinear' between pixel centres; 'aligned', bilinear with corner on
  corner; 'transpose' (T2) and 'conv2', which is 'nearest' and a 2x2 convolution
  with a bias. The last two change the channels to `features`.
  """

  features: int
  kind: str = 'nearest'

  @nn.compact
  def __call__(self, x: Array) -> Array:
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
    return upsample(x, self.kind)
