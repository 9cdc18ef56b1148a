"""The encoders of U-Net (arXiv:1505.04597) and of Deep Residual U-Net."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  DoubleConv,
  Encoder,
  ResidualUnit,
  max_pool,
)


class Plain(Encoder):
  """Two convolutions at each level, a 2x2 maximum between levels.

  Attributes:
    widths: Channels of each level.
    taps: Features to return: 'stage1' (full size) to 'stage<levels>'.
    norm: Whether there is a normalisation.
  """

  normalisation: ClassVar[str] = 'imagenet_mean'  # what the input needs

  widths: Sequence[int]
  taps: Sequence[str] = ('stage1', 'stage2', 'stage3', 'stage4', 'stage5')
  activation: str = 'relu'
  origin: str = 'keras'
  norm: bool = True

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for i, width in enumerate(self.widths):
      name = f'stage{i + 1}'
      if i > 0:
        x = max_pool(x)
      x = DoubleConv(
        width,
        self.activation,
        origin=self.origin,
        norm=self.norm,
        name=name,
      )(x, train)
      yield name, x


Plain8 = partial(Plain, widths=(8, 16, 32, 64, 128))
Plain24 = partial(Plain, widths=(24, 48, 96, 192, 384))
Plain64 = partial(Plain, widths=(64, 128, 256, 512, 1024))


class PlainResidual(Encoder):
  """The encoder of Deep Residual U-Net (arXiv:1711.10684).

  A residual unit at each level; that of a coarser level begins with a stride of
  2, so there are no maxima.

  Attributes:
    widths: Channels of each level.
    taps: Features to return: 'stage1' (full size) to 'stage<levels>'.
  """

  normalisation: ClassVar[str] = 'imagenet_mean'  # what the input needs

  widths: Sequence[int]
  taps: Sequence[str] = ('stage1', 'stage2', 'stage3', 'stage4')
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for i, width in enumerate(self.widths):
      name = f'stage{i + 1}'
      x = ResidualUnit(
        width,
        stride=1 if i == 0 else 2,
        origin=self.origin,
        first=i == 0,
        name=name,
      )(x, train)
      yield name, x


PlainResidual64 = partial(PlainResidual, widths=(64, 128, 256, 512))
