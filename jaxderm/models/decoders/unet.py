"""The decoder of U-Net (arXiv:1505.04597)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import Array, DoubleConv, Pyramid, Up


class UNet(nn.Module):
  """Doubles the size, joins the encoder's map of that size, two convolutions.

  Attributes:
    widths: Channels after each doubling, coarsest first. As many as the
      pyramid has levels above the coarsest; more go on without a skip, for an
      encoder whose finest map is smaller than the image.
    up: 'transpose' (2x2, to the width of the level), 'nearest', 'bilinear'.
    bias: Whether convolutions have one, beside the normalisation's.
  """

  widths: Sequence[int] = (256, 128, 64, 32, 16)
  up: str = 'nearest'
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'keras'

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    *skips, x = pyramid
    if len(self.widths) < len(skips):
      raise ValueError(
        f'{len(self.widths)} widths for {len(skips)} skips: expected one '
        'width for each doubling'
      )
    for i, width in enumerate(self.widths):
      x = Up(width, self.up, name=f'up{i + 1}')(x)
      if skips:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      x = DoubleConv(
        width, self.activation, self.bias, self.origin, name=f'block{i + 1}'
      )(x, train)
    return x
