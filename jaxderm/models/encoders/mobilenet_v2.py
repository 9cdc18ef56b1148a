"""MobileNetV2 (arXiv:1801.04381), whoever trained it.

Modules and taps bear Keras' names.
"""

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
  global_mean,
  same_padding,
  scaled,
)

MOMENTUM = {'keras': 0.999, 'torch': 0.9}
DROPOUT = {'keras': 0.0, 'torch': 0.2}


class Stage(NamedTuple):
  """One row of the paper's table 2; the first block has the stride."""

  expand: int
  features: int
  repeats: int
  stride: int


STAGES = (
  Stage(expand=1, features=16, repeats=1, stride=1),
  Stage(expand=6, features=24, repeats=2, stride=2),
  Stage(expand=6, features=32, repeats=3, stride=2),
  Stage(expand=6, features=64, repeats=4, stride=2),
  Stage(expand=6, features=96, repeats=3, stride=1),
  Stage(expand=6, features=160, repeats=3, stride=2),
  Stage(expand=6, features=320, repeats=1, stride=1),
)


def _blocks() -> Iterator[tuple[int, int, int]]:
  """Factor of the expansion, channels and stride of every block."""
  for expand, features, repeats, stride in STAGES:
    for j in range(repeats):
      yield expand, features, stride if j == 0 else 1


class MobileNetV2(Encoder):
  """Inverted residuals with linear bottlenecks.

  Attributes:
    width: Factor of the channels; the last convolution's only grow.
    taps: Features to return: 'Conv1_relu' (half the image's size); of the first
      block 'expanded_conv_depthwise', 'expanded_conv_depthwise_relu',
      'expanded_conv_project_BN'; of the others 'block_1_expand_relu',
      'block_1_depthwise' (before its BatchNorm), 'block_1_depthwise_relu',
      'block_1_project_BN', 'block_2_add' and so on; 'out_relu' (1/32) and
      'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras' or 'torch'.
  """

  width: float = 1.0
  taps: Sequence[str] | None = (
    'block_1_expand_relu',
    'block_3_expand_relu',
    'block_6_expand_relu',
    'block_13_expand_relu',
    'out_relu',
  )
  classes: int = 1000
  origin: str = 'keras'

  @property
  def normalisation(self) -> str:
    return 'tf' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = self._conv(image, 'Conv1', scaled(32, self.width), 3, 2)
    x = self._norm(x, train, 'bn_Conv1', 'relu6')
    yield 'Conv1_relu', x
    for i, (expand, features, stride) in enumerate(_blocks()):
      name = f'block_{i}_' if i > 0 else 'expanded_conv_'
      features = scaled(features, self.width)
      x = yield from self._block(x, train, name, expand, features, stride)
    x = self._conv(x, 'Conv_1', scaled(1280, max(1.0, self.width)))
    x = self._norm(x, train, 'Conv_1_bn', 'relu6')
    yield 'out_relu', x
    x = nn.Dropout(DROPOUT[self.origin], deterministic=not train)(
      global_mean(x)
    )
    yield 'predictions', nn.Dense(self.classes, name='predictions')(x)

  @nn.nowrap
  def _block(
    self,
    x: Array,
    train: bool,
    name: str,
    expand: int,
    features: int,
    stride: int,
  ) -> Generator[tuple[str, Array], None, Array]:
    """Expands, filters by channel, projects, and adds where it can."""
    entered = x
    if expand > 1:
      x = self._conv(x, f'{name}expand', expand * x.shape[-1])
      x = self._norm(x, train, f'{name}expand_BN', 'relu6')
      yield f'{name}expand_relu', x
    x = DepthwiseConv(
      3,
      stride,
      same_padding(3, self.origin),
      bias=False,
      name=f'{name}depthwise',
    )(x)
    yield f'{name}depthwise', x
    x = self._norm(x, train, f'{name}depthwise_BN', 'relu6')
    yield f'{name}depthwise_relu', x
    x = self._conv(x, f'{name}project', features)
    x = self._norm(x, train, f'{name}project_BN')
    yield f'{name}project_BN', x
    if stride == 1 and x.shape == entered.shape:
      x = entered + x
      yield f'{name}add', x
    return x

  @nn.nowrap
  def _conv(self, x, name, features, size=1, stride=1):
    padding = same_padding(size, self.origin)
    return Conv(features, size, stride, padding, bias=False, name=name)(x)

  @nn.nowrap
  def _norm(self, x, train, name, activation='none'):
    norm = BatchNorm(
      self.origin,
      momentum=MOMENTUM[self.origin],
      activation=activation,
      name=name,
    )
    return norm(x, train)


MobileNetV2x035 = partial(MobileNetV2, width=0.35)
MobileNetV2x050 = partial(MobileNetV2, width=0.5)
MobileNetV2x075 = partial(MobileNetV2, width=0.75)
MobileNetV2x130 = partial(MobileNetV2, width=1.3)
MobileNetV2x140 = partial(MobileNetV2, width=1.4)
