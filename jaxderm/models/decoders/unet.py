"""The decoder of U-Net (arXiv:1505.04597)."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn

from jaxderm.models.layers import Array, DoubleConv, Pyramid, Up, join


class UNet(nn.Module):
  """Doubles the size, joins the encoder's map of that size, two convolutions.

  Attributes:
    widths: Channels after each doubling, coarsest first. As many as the
      pyramid has levels above the coarsest; more go on without a skip, for an
      encoder whose finest map is smaller than the image.
    up: See `layers.Up`; what changes the channels does so to the width.
    bias: Whether convolutions have one, beside the normalisation's.
    norm: Whether there is a normalisation.
    depth: Convolutions after each concatenation.
    block: Makes what comes after each concatenation, instead of these: called
      with the width and a `name`, it gives a module that is called with (x,
      train).
  """

  widths: Sequence[int] = (256, 128, 64, 32, 16)
  up: str = 'nearest'
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'keras'
  norm: bool = True
  depth: int = 2
  block: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    *skips, x = pyramid
    if len(self.widths) < len(skips):
      raise ValueError(
        f'{len(self.widths)} widths for {len(skips)} skips: expected one '
        'width for each doubling'
      )
    block = self.block or partial(
      DoubleConv,
      activation=self.activation,
      bias=self.bias,
      origin=self.origin,
      norm=self.norm,
      depth=self.depth,
    )
    for i, width in enumerate(self.widths):
      # Convolutions alone read a map that is not whole.
      up = Up(width, self.up, self.block is not None, name=f'up{i + 1}')
      x = join(up(x), *skips[-1:])
      skips = skips[:-1]
      x = block(width, name=f'block{i + 1}')(x, train)
    return x
