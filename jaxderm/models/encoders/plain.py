"""The encoder of U-Net (arXiv:1505.04597), with batch normalisation."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import Array, DoubleConv, Pyramid, Taps, max_pool


class Plain(nn.Module):
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

  @nn.compact
  def __call__(self, image: Array, train: bool = False) -> Pyramid:
    wanted = Taps(self.taps)
    x = image
    for i, width in enumerate(self.widths):
      name = f'stage{i + 1}'
      if i > 0:
        x = max_pool(x)
      x = DoubleConv(width, self.activation, origin=self.origin, name=name)(
        x, train
      )
      if wanted(name, x):
        return wanted.features
    raise wanted.unknown()


Plain8 = partial(Plain, widths=(8, 16, 32, 64, 128))
Plain24 = partial(Plain, widths=(24, 48, 96, 192, 384))
