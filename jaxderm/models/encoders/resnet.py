"""ResNet (arXiv:1512.03385) and ResNeXt (arXiv:1611.05431), whoever trained it.

Modules and taps bear Keras' names. As Keras has it, the convolutions have
biases and the stride is in a block's first 1x1; as torchvision has it, they
have none and the stride is in the 3x3.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import flax.linen as nn

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  Encoder,
  global_mean,
  max_pool,
)

EPSILON = {'keras': 1.001e-5, 'torch': 1e-5}


class ResNet(Encoder):
  """Residual network.

  Attributes:
    depths: Blocks in each of the four stages.
    taps: Features to return: 'conv1_relu' (half the image's size),
      'conv2_block1_out' and so on to 'conv5_block3_out' (1/32), 'predictions'.
    basic: Blocks of two 3x3, not of 1x1, 3x3, 1x1.
    groups: Groups of the 3x3 convolutions of such a bottleneck.
    width: Channels of its 3x3 in the first stage; they double in each.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras' or 'torch'.
    stride_first: Whether a bottleneck's stride is in its first 1x1, not in its
      3x3; as the origin has it, if None.
  """

  depths: Sequence[int]
  taps: Sequence[str] | None
  basic: bool = False
  groups: int = 1
  width: int = 64
  classes: int = 1000
  origin: str = 'keras'
  stride_first: bool | None = None

  @property
  def normalisation(self) -> str:
    return 'caffe' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = self._conv_relu(image, train, 'conv1', 64, 7, 2)
    yield 'conv1_relu', x
    x = max_pool(x, 3, 2, [(1, 1), (1, 1)])
    block = self._basic if self.basic else self._bottleneck
    for i, depth in enumerate(self.depths):
      for j in range(depth):
        name = f'conv{i + 2}_block{j + 1}'
        stride = 2 if i > 0 and j == 0 else 1
        shortcut, y = block(x, train, name, self.width * 2**i, stride)
        x = nn.relu(shortcut + y)
        yield f'{name}_out', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )

  @nn.nowrap
  def _basic(self, x, train, name, width, stride):
    y = self._conv_relu(x, train, f'{name}_1', width, 3, stride)
    y = self._conv(y, train, f'{name}_2', width, 3)
    return self._shortcut(x, train, name, width, stride), y

  @nn.nowrap
  def _bottleneck(self, x, train, name, width, stride):
    in_first = self.stride_first
    if in_first is None:
      in_first = self.origin == 'keras'
    first, second = (stride, 1) if in_first else (1, stride)
    features = 256 * width // self.width
    y = self._conv_relu(x, train, f'{name}_1', width, 1, first)
    y = self._conv_relu(y, train, f'{name}_2', width, 3, second, self.groups)
    y = self._conv(y, train, f'{name}_3', features, 1)
    return self._shortcut(x, train, name, features, stride), y

  @nn.nowrap
  def _shortcut(self, x, train, name, features, stride):
    if stride == 1 and x.shape[-1] == features:
      return x
    return self._conv(x, train, f'{name}_0', features, 1, stride)

  @nn.nowrap
  def _conv_relu(self, x, train, name, *shape):
    return self._conv(x, train, name, *shape, activation='relu')

  @nn.nowrap
  def _conv(
    self,
    x,
    train,
    name,
    features,
    size,
    stride=1,
    groups=1,
    activation='none',
  ):
    half = size // 2
    x = Conv(
      features,
      size,
      stride,
      [(half, half)] * 2,
      groups,
      bias=self.origin == 'keras',
      name=f'{name}_conv',
    )(x)
    norm = BatchNorm(
      self.origin,
      EPSILON[self.origin],
      activation=activation,
      name=f'{name}_bn',
    )
    return norm(x, train)


def _resnet(*depths: int, **settings) -> partial:
  ends = (f'conv{i + 2}_block{depth}_out' for i, depth in enumerate(depths))
  return partial(ResNet, depths=depths, taps=('conv1_relu', *ends), **settings)


ResNet18 = _resnet(2, 2, 2, 2, basic=True, origin='torch')
ResNet34 = _resnet(3, 4, 6, 3, basic=True, origin='torch')
ResNet50 = _resnet(3, 4, 6, 3)
ResNet101 = _resnet(3, 4, 23, 3)
ResNet152 = _resnet(3, 8, 36, 3)
ResNeXt50 = _resnet(3, 4, 6, 3, groups=32, width=128, origin='torch')
