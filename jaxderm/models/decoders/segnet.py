"""The decoder of SegNet (arXiv:1511.00561)."""

from collections.abc import Sequence

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  ConvNormAct,
  Pyramid,
  choose,
  max_unpool,
  upsample,
)


class SegNet(nn.Module):
  """The mirror of an encoder: each maximum goes back to where it was.

  Nothing of the encoder's maps comes in but the places of their 2x2 maxima,
  which are found anew, so the maps are those before the pools. Widths mirror
  the encoder's, too: the last convolution of a block has as many channels as
  the next finer map, or the places would not fit. They do not fit what a neck
  has widened, which is enlarged without them.

  Attributes:
    depths: Convolutions of each block, finest first; those beyond the pyramid
      are not used.
    unpool: 'indices' (the places), or 'nearest' for all blocks.
  """

  depths: Sequence[int] = (1, 2, 3, 3, 3)
  unpool: str = 'indices'
  activation: str = 'relu'
  bias: bool = True
  origin: str = 'keras'

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    choose('unpool', self.unpool, ('indices', 'nearest'))
    *maps, x = pyramid
    if len(self.depths) < len(maps):
      raise ValueError(
        f'{len(self.depths)} depths for {len(maps)} maps: expected one depth '
        'for each doubling'
      )
    for i in reversed(range(len(maps))):
      fits = x.shape[-1] == maps[i].shape[-1]
      if self.unpool == 'indices' and fits:
        x = max_unpool(x, maps[i])
      else:
        x = upsample(x, 'nearest')
      widths = [maps[i].shape[-1]] * self.depths[i]
      widths[-1] = maps[max(i - 1, 0)].shape[-1]
      for j, width in enumerate(widths, start=1):
        x = ConvNormAct(
          width,
          activation=self.activation,
          bias=self.bias,
          origin=self.origin,
          name=f'block{i + 1}_conv{j}',
        )(x, train)
    return x
