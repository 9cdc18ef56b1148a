"""The decoder of Attention U-Net (arXiv:1804.03999)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  ConvNormAct,
  DoubleConv,
  Pyramid,
  Up,
  join,
)


class Gate(nn.Module):
  """Weighs every pixel of a skip by what the decoder knows of it.

  psi = sigmoid(norm(W_psi relu(norm(W_g signal) + norm(W_x skip)))), with 1x1
  convolutions that have biases. The paper's signal is a level coarser; here
  both maps have one size, as in github.com/LeeJunHyun/Image_Segmentation.

  Attributes:
    features: Channels of the sum.
  """

  features: int
  origin: str = 'torch'

  @nn.compact
  def __call__(self, skip: Array, signal: Array, train: bool = False) -> Array:
    def unit(x: Array, features: int, activation: str, name: str) -> Array:
      return ConvNormAct(
        features,
        1,
        activation=activation,
        bias=True,
        origin=self.origin,
        name=name,
      )(x, train)

    both = unit(signal, self.features, 'none', 'signal')
    both = nn.relu(both + unit(skip, self.features, 'none', 'skip'))
    return skip * unit(both, 1, 'sigmoid', 'weight')


class GatedUNet(nn.Module):
  """Doubles the size, convolves, gates the skip by that, two convolutions.

  Attributes:
    widths: See `UNet`.
    up: 'nearest' or 'bilinear', before a 3x3 convolution to the width.
    bias: Whether the 3x3 convolutions have one, beside the normalisation's.
  """

  widths: Sequence[int] = (512, 256, 128, 64)
  up: str = 'nearest'
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'torch'

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    *skips, x = pyramid
    if len(self.widths) < len(skips):
      raise ValueError(
        f'{len(self.widths)} widths for {len(skips)} skips: expected one '
        'width for each doubling'
      )
    settings = dict(
      activation=self.activation, bias=self.bias, origin=self.origin
    )
    for i, width in enumerate(self.widths, start=1):
      x = join(Up(width, self.up, whole=False, name=f'up{i}')(x))
      x = ConvNormAct(width, **settings, name=f'conv{i}')(x, train)
      if skips:
        gate = Gate(width // 2, self.origin, name=f'gate{i}')
        x = jnp.concatenate([gate(skips.pop(), x, train), x], axis=-1)
      x = DoubleConv(width, **settings, name=f'block{i}')(x, train)
    return x
