"""ResNet with pre-activation (arXiv:1603.05027), as `wei2020` used it.

Layer for layer the ResNet18 of github.com/qubvel/classification_models: the
input is normalised by a first BatchNorm, and the first unit of every stage has
a 1x1 shortcut, the first stage's too.
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
  global_mean,
  max_pool,
)

EPSILON = 2e-5


class PreResNet(Encoder):
  """Residual network whose units begin with BatchNorm and ReLU.

  Attributes:
    depths: Units in each of the four stages.
    taps: Features to return: 'relu0' (half the image's size),
      'stage1_unit1_out' and so on, 'relu1' (1/32), 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
  """

  normalisation: ClassVar[str] = 'none'  # a BatchNorm does it

  depths: Sequence[int]
  taps: Sequence[str] | None = (
    'relu0',
    'stage1_unit2_out',
    'stage2_unit2_out',
    'stage3_unit2_out',
    'relu1',
  )
  classes: int = 1000

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = BatchNorm(epsilon=EPSILON, use_scale=False, name='bn_data')(
      image, train
    )
    x = _norm_relu(_conv(x, 'conv0', 64, 7, 2), 'bn0', train)
    yield 'relu0', x
    x = max_pool(x, 3, 2, [(1, 1), (1, 1)])
    for i, depth in enumerate(self.depths):
      for j in range(depth):
        name = f'stage{i + 1}_unit{j + 1}'
        stride = 2 if i > 0 and j == 0 else 1
        x = _unit(x, train, f'{name}_', 64 * 2**i, stride, first=j == 0)
        yield f'{name}_out', x
    x = _norm_relu(x, 'bn1', train)
    yield 'relu1', x
    yield 'predictions', nn.Dense(self.classes, name='fc1')(global_mean(x))


def _conv(x: Array, name: str, features: int, size: int, stride: int = 1):
  half = size // 2
  pads = [(half, half)] * 2
  return Conv(features, size, stride, pads, bias=False, name=name)(x)


def _norm_relu(x: Array, name: str, train: bool) -> Array:
  norm = BatchNorm(epsilon=EPSILON, activation='relu', name=name)
  return norm(x, train)


def _unit(
  x: Array, train: bool, name: str, features: int, stride: int, first: bool
) -> Array:
  """The first unit of a stage takes its shortcut after BatchNorm and ReLU."""
  y = _norm_relu(x, f'{name}bn1', train)
  shortcut = _conv(y, f'{name}sc', features, 1, stride) if first else x
  y = _conv(y, f'{name}conv1', features, 3, stride)
  y = _norm_relu(y, f'{name}bn2', train)
  return shortcut + _conv(y, f'{name}conv2', features, 3)


PreResNet18 = partial(PreResNet, depths=(2, 2, 2, 2))
