"""MobileNetV1 (arXiv:1704.04861), whoever trained it.

Modules and taps bear Keras' names.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
  global_mean,
  same_padding,
)

# Channels and stride of each block: the paper's table 1.
BLOCKS = (
  (64, 1),
  (128, 2),
  (128, 1),
  (256, 2),
  (256, 1),
  (512, 2),
  (512, 1),
  (512, 1),
  (512, 1),
  (512, 1),
  (512, 1),
  (1024, 2),
  (1024, 1),
)
DROPOUT = {'keras': 1e-3, 'torch': 0.0}


class MobileNet(Encoder):
  """Depthwise and 1x1 convolutions in turn.

  Attributes:
    width: Factor of the channels.
    taps: Features to return: 'conv1_relu' (half the image's size),
      'conv_dw_1_relu', 'conv_pw_1_relu' and so on to 'conv_pw_13_relu' (1/32),
      'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras' or 'torch' (timm).
  """

  normalisation: ClassVar[str] = 'tf'  # timm's weights, too

  width: float = 1.0
  taps: Sequence[str] | None = (
    'conv_pw_1_relu',
    'conv_pw_3_relu',
    'conv_pw_5_relu',
    'conv_pw_11_relu',
    'conv_pw_13_relu',
  )
  classes: int = 1000
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = self._conv(image, train, 'conv1', 32, 3, 2)
    yield 'conv1_relu', x
    for i, (features, stride) in enumerate(BLOCKS, start=1):
      x = self._depthwise(x, train, f'conv_dw_{i}', stride)
      yield f'conv_dw_{i}_relu', x
      x = self._conv(x, train, f'conv_pw_{i}', features)
      yield f'conv_pw_{i}_relu', x
    x = nn.Dropout(DROPOUT[self.origin], deterministic=not train)(
      global_mean(x)
    )
    yield 'predictions', Conv(self.classes, 1, name='conv_preds')(x)

  @nn.nowrap
  def _conv(self, x, train, name, features, size=1, stride=1):
    features = int(features * self.width)
    padding = same_padding(size, self.origin)
    x = Conv(features, size, stride, padding, bias=False, name=name)(x)
    return self._norm_relu(x, train, name)

  @nn.nowrap
  def _depthwise(self, x, train, name, stride):
    padding = same_padding(3, self.origin)
    if stride == 2 and self.origin == 'keras':
      padding = [(0, 1), (0, 1)]  # of odd sides, too, unlike 'SAME'
    x = DepthwiseConv(3, stride, padding, bias=False, name=name)(x)
    return self._norm_relu(x, train, name)

  @nn.nowrap
  def _norm_relu(self, x, train, name):
    norm = BatchNorm(self.origin, activation='relu6', name=f'{name}_bn')
    return norm(x, train)


MobileNetV1 = partial(MobileNet)
MobileNetV1x025 = partial(MobileNet, width=0.25)
MobileNetV1x050 = partial(MobileNet, width=0.5)
MobileNetV1x075 = partial(MobileNet, width=0.75)
