"""Xception (arXiv:1610.02357), layer for layer as Keras has it, or timm.

Modules and taps bear Keras' names. Without padding in its first convolutions
every map is a few pixels smaller than the image divided by its stride.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  Encoder,
  SeparableConv,
  global_mean,
  max_pool,
  same_padding,
)

# Channels of the separable convolutions of blocks 2 to 13: the entry flow, the
# middle flow of eight equal blocks, and the first block of the exit flow.
WIDTHS = (
  (128, 128),
  (256, 256),
  (728, 728),
  *[(728, 728, 728)] * 8,
  (728, 1024),
)


class Xception(Encoder):
  """Separable convolutions with shortcuts around every two or three.

  Attributes:
    taps: Features to return: 'block1_conv1_act', 'block1_conv2_act' (half the
      image's size), 'block2_sepconv1_bn' and so on to 'block14_sepconv2_bn',
      a '..._act' before or after each, the sums 'add' (1/4), 'add_1', ... at
      the ends of blocks 2 to 13, 'block14_sepconv2_act' (1/32), 'predictions'.
      Those of `yang2021` by default, of strides 2 to 16.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras', or 'torch' for timm's, which pads its pools elsewhere.
  """

  normalisation: ClassVar[str] = 'tf'

  taps: Sequence[str] | None = (
    'block2_sepconv2_bn',
    'block3_sepconv2_bn',
    'block4_sepconv2_bn',
    'block13_sepconv2_bn',
  )
  classes: int = 1000
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image
    for j, (width, stride) in enumerate([(32, 2), (64, 1)], start=1):
      name = f'block1_conv{j}'
      x = Conv(width, 3, stride, 'VALID', bias=False, name=name)(x)
      x = nn.relu(self._norm(x, train, f'{name}_bn'))
      yield f'{name}_act', x
    for i, widths in enumerate(WIDTHS):
      y = x
      for j, width in enumerate(widths, start=1):
        name = f'block{i + 2}_sepconv{j}'
        if (i, j) != (0, 1):  # block 1 has ended with it
          y = nn.relu(y)
          yield f'{name}_act', y
        y = self._separable(y, train, name, width)
        yield f'{name}_bn', y
      x = self._join(x, y, train, i)
      yield _automatic('add', i), x
    for j, width in enumerate((1536, 2048), start=1):
      name = f'block14_sepconv{j}'
      x = self._separable(x, train, name, width)
      yield f'{name}_bn', x
      x = nn.relu(x)
      yield f'{name}_act', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )

  @nn.nowrap
  def _separable(self, x, train, name, width):
    x = SeparableConv(width, bias=False, name=name)(x)
    return self._norm(x, train, f'{name}_bn')

  @nn.nowrap
  def _join(self, x, y, train, i):
    """Block i's input and output, summed; where it widens, at half size.

    Called after the last tap of a block, which may be the last wanted.
    """
    if x.shape[-1] == y.shape[-1]:
      return x + y
    # Keras numbers what has no name: the shortcuts of blocks 2, 3, 4 and 13.
    k = min(i, 3)
    x = Conv(y.shape[-1], 1, 2, bias=False, name=_automatic('conv2d', k))(x)
    x = self._norm(x, train, _automatic('batch_normalization', k))
    return max_pool(y, 3, 2, same_padding(3, self.origin)) + x

  @nn.nowrap
  def _norm(self, x, train, name):
    return BatchNorm(self.origin, name=name)(x, train)


def _automatic(kind: str, k: int) -> str:
  return f'{kind}_{k}' if k else kind
