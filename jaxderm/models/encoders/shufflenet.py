"""ShuffleNet v1 (arXiv:1707.01083), as `wei2020` used it.

Layer for layer github.com/scheckmedia/keras-shufflenet with 3 groups and twice
the channels. Unlike the paper's, its first unit has no groups in either of the
1x1 convolutions, and there is no normalisation before that unit.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
  avg_pool,
  channel_shuffle,
  global_mean,
  max_pool,
)

# Channels of stage 2 by groups: table 1 of the paper.
WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}


class ShuffleNet(Encoder):
  """Bottlenecks of grouped convolutions whose groups are mixed in between.

  Attributes:
    taps: Features to return: 'conv1' (half the image's size), 'pool1' (1/4),
      'stage2_unit1_out' to 'stage2_unit4_out' (1/8), 'stage3_unit1_out' to
      'stage3_unit8_out' (1/16), 'stage4_unit1_out' to 'stage4_unit4_out'
      (1/32), 'predictions'.
    groups: 1, 2, 3, 4 or 8.
    scale: Factor of the channels, a multiple of 1/4.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
  """

  normalisation: ClassVar[str] = 'tf'

  taps: Sequence[str] | None = (
    'conv1',
    'pool1',
    'stage2_unit4_out',
    'stage3_unit8_out',
    'stage4_unit4_out',
  )
  groups: int = 3
  scale: float = 2.0
  classes: int = 1000

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    stem = int(24 * self.scale)
    x = nn.relu(Conv(stem, 3, 2, bias=False, name='conv1')(image))
    yield 'conv1', x
    x = max_pool(x, 3, 2, 'SAME')
    yield 'pool1', x
    for i, units in enumerate((4, 8, 4)):
      features = int(WIDTHS[self.groups] * self.scale) * 2**i
      for j in range(units):
        name = f'stage{i + 2}_unit{j + 1}'
        groups = 1 if i == j == 0 else self.groups
        stride = 2 if j == 0 else 1
        x = _unit(x, train, f'{name}_', features, stride, groups)
        yield f'{name}_out', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )


def _unit(
  x: Array, train: bool, name: str, features: int, stride: int, groups: int
) -> Array:
  """Figure 2 of the paper: (b) adds, (c) halves the size and concatenates."""

  def grouped(y: Array, features: int, part: str) -> Array:
    conv = Conv(features, 1, groups=groups, bias=False, name=f'{name}{part}')
    return BatchNorm(name=f'{name}{part}_bn')(conv(y), train)

  kept = 0 if stride == 1 else x.shape[-1]
  y = nn.relu(grouped(x, features // 4, 'gconv1'))
  y = channel_shuffle(y, groups)
  y = DepthwiseConv(3, stride, bias=False, name=f'{name}dwconv')(y)
  y = BatchNorm(name=f'{name}dwconv_bn')(y, train)
  y = grouped(y, features - kept, 'gconv2')
  if stride == 1:
    return nn.relu(x + y)
  return nn.relu(jnp.concatenate([y, avg_pool(x, 3, 2, 'SAME')], axis=-1))
