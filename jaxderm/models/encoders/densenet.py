"""DenseNet (arXiv:1608.06993), whoever trained it.

Modules and taps bear Keras' names. torchvision differs in one epsilon.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  Encoder,
  append_channels,
  avg_pool,
  global_mean,
  max_pool,
)

EPSILON = {'keras': 1.001e-5, 'torch': 1e-5}
GROWTH = 32  # channels that a layer adds to all those before it


class DenseNet(Encoder):
  """Layers that see what all layers before them in their block have made.

  Attributes:
    depths: Layers in each of the four dense blocks.
    taps: Features to return: 'conv1_relu' (half the image's size),
      'conv2_block1_1_relu', inside a layer, and 'conv2_block1_concat' (1/4),
      which ends it, and so on; 'pool2_conv' (1/4) to 'pool4_conv' (1/16), which
      halve a block's channels before its pixels; 'relu' (1/32), 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras' or 'torch'.
  """

  normalisation: ClassVar[str] = 'torch'  # Keras' weights too

  depths: Sequence[int]
  taps: Sequence[str] | None = (
    'conv1_relu',
    'pool2_conv',
    'pool3_conv',
    'pool4_conv',
    'relu',
  )
  classes: int = 1000
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = _conv(image, 'conv1_conv', 64, 7, 2)
    x = self._norm_relu(x, train, 'conv1_bn')
    yield 'conv1_relu', x
    x = max_pool(x, 3, 2, [(1, 1), (1, 1)])
    for i, depth in enumerate(self.depths, start=2):
      for j in range(1, depth + 1):
        name = f'conv{i}_block{j}'
        y = self._norm_relu(x, train, f'{name}_0_bn')
        y = _conv(y, f'{name}_1_conv', 4 * GROWTH)
        y = self._norm_relu(y, train, f'{name}_1_bn')
        yield f'{name}_1_relu', y
        y = _conv(y, f'{name}_2_conv', GROWTH, 3)
        x = append_channels(x, y)
        yield f'{name}_concat', x
      if i <= len(self.depths):
        x = self._norm_relu(x, train, f'pool{i}_bn')
        x = _conv(x, f'pool{i}_conv', x.shape[-1] // 2)
        yield f'pool{i}_conv', x
        x = avg_pool(x)
    x = self._norm_relu(x, train, 'bn')
    yield 'relu', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )

  @nn.nowrap
  def _norm_relu(self, x, train, name):
    norm = BatchNorm(
      self.origin, EPSILON[self.origin], activation='relu', name=name
    )
    return norm(x, train)


def _conv(
  x: Array, name: str, features: int, size: int = 1, stride: int = 1
) -> Array:
  half = size // 2
  pads = [(half, half)] * 2
  return Conv(features, size, stride, pads, bias=False, name=name)(x)


DenseNet121 = partial(DenseNet, depths=(6, 12, 24, 16))
DenseNet169 = partial(DenseNet, depths=(6, 12, 32, 32))
DenseNet201 = partial(DenseNet, depths=(6, 12, 48, 32))
