"""What every network is made of. Encoders and decoders import only this.

The blocks are here; convolutions are in `convolutions`, the functions they stand
on in `ops` and `activations`, what collects an encoder's feature maps in `taps`,
and all are reached through this module.
"""

import flax.linen as nn

from jaxderm.models.activations import (
  ACTIVATIONS,
  Activation,
  PReLU,
  swish,
)
from jaxderm.models.convolutions import (
  Conv,
  ConvTranspose,
  DepthwiseConv,
  SeparableConv,
  Up,
  same_padding,
)
from jaxderm.models.joined import Joined, join
from jaxderm.models.norm import CLIPS, ORIGINS, BatchNorm, norm_momentum
from jaxderm.models.ops import (
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
  'Joined',
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
  'join',
  'max_pool',
  'max_unpool',
  'norm_momentum',
  'same_padding',
  'scaled',
  'swish',
  'upsample',
  'upsample_aligned',
]


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
  def __call__(self, x: Array | Joined, train: bool = False) -> Array:
    x = Conv(
      self.features,
      self.size,
      self.stride,
      same_padding(self.size, self.origin),
      self.groups,
      self.bias,
      name='conv',
    )(x)
    activation = self.activation
    if self.norm and activation in CLIPS:
      norm = BatchNorm(self.origin, activation=activation, name='norm')
      return norm(x, train)
    if self.norm:
      x = BatchNorm(self.origin, name='norm')(x, train)
    return Activation(activation, name='act')(x)


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
  def __call__(self, x: Array | Joined, train: bool = False) -> Array:
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
      norm = BatchNorm(self.origin, activation='relu', name=name)
      return norm(x, train)

    def convolve(x: Array, size: int, stride: int, name: str) -> Array:
      padding = same_padding(size, self.origin)
      return Conv(self.features, size, stride, padding, name=name)(x)

    y = x if self.first else activate(x, 'norm1')
    y = convolve(y, 3, self.stride, 'conv1')
    y = convolve(activate(y, 'norm2'), 3, 1, 'conv2')
    if x.shape != y.shape:
      x = convolve(x, 1, self.stride, 'shortcut')
    return x + y
