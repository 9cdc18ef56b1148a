"""The encoder of U-Net (arXiv:1505.04597), with batch normalisation."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import Array, DoubleConv, Encoder, max_pool


class Plain(Encoder):
  """Two convolutions at each level, a 2x2 maximum between levels.

  Attributes:
    widths: Channels of each level.
    taps: Features to return: 'stage1' (full size) to 'stage<levels>'.
  """

  normalisation: ClassVar[str] = 'imagenet_mean'  # what the input needs

  widths: Sequence[int]
  taps: Sequence[str] = ('stage1', 'stage2', 'stage3', 'stage4', 'stage5')
  activation: str = 'relu'
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for i, width in enumerate(self.widths):
      name = f'stage{i + 1}'
      if i > 0:
        x = max_pool(x)
      x = DoubleConv(width, self.activation, origin=self.origin, name=name)(
        x, train
      )
      yield name, x


Plain8 = partial(Plain, widths=(8, 16, 32, 64, 128))
Plain24 = partial(Plain, widths=(24, 48, 96, 192, 384))
