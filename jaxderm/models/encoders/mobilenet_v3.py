"""MobileNetV3 Small and Large (arXiv:1905.02244), whoever trained it.

Modules and taps bear Keras' names; activations, which have none there, are
called after their normalisations. As Keras has it, the input is RGB of 0 to 255
and scaled inside.
"""

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn

from jaxderm.models.layers import (
  ACTIVATIONS,
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
  global_mean,
  same_padding,
  scaled,
)

# Epsilon, and what a step keeps of the old statistics.
BATCH_NORM = {
  'keras': (1e-3, 0.999),
  'torch': (1e-3, 0.99),
  'timm': (1e-5, 0.9),
}
DROPOUT = {'keras': 0.2, 'torch': 0.2, 'timm': 0.0}


class Block(NamedTuple):
  """One row of the paper's tables 1 and 2."""

  size: int
  expanded: int
  features: int
  excite: bool
  activation: str
  stride: int


LARGE = (
  Block(3, 16, 16, False, 'relu', 1),
  Block(3, 64, 24, False, 'relu', 2),
  Block(3, 72, 24, False, 'relu', 1),
  Block(5, 72, 40, True, 'relu', 2),
  Block(5, 120, 40, True, 'relu', 1),
  Block(5, 120, 40, True, 'relu', 1),
  Block(3, 240, 80, False, 'hard_swish', 2),
  Block(3, 200, 80, False, 'hard_swish', 1),
  Block(3, 184, 80, False, 'hard_swish', 1),
  Block(3, 184, 80, False, 'hard_swish', 1),
  Block(3, 480, 112, True, 'hard_swish', 1),
  Block(3, 672, 112, True, 'hard_swish', 1),
  Block(5, 672, 160, True, 'hard_swish', 2),
  Block(5, 960, 160, True, 'hard_swish', 1),
  Block(5, 960, 160, True, 'hard_swish', 1),
)
SMALL = (
  Block(3, 16, 16, True, 'relu', 2),
  Block(3, 72, 24, False, 'relu', 2),
  Block(3, 88, 24, False, 'relu', 1),
  Block(5, 96, 40, True, 'hard_swish', 2),
  Block(5, 240, 40, True, 'hard_swish', 1),
  Block(5, 240, 40, True, 'hard_swish', 1),
  Block(5, 120, 48, True, 'hard_swish', 1),
  Block(5, 144, 48, True, 'hard_swish', 1),
  Block(5, 288, 96, True, 'hard_swish', 2),
  Block(5, 576, 96, True, 'hard_swish', 1),
  Block(5, 576, 96, True, 'hard_swish', 1),
)


class MobileNetV3(Encoder):
  """Inverted residuals, some with squeeze-and-excitation.

  Attributes:
    blocks: The rows of the paper's table.
    hidden: Channels of the hidden layer of the classifier.
    taps: Features to return: 'conv_activation' (half the image's size); of a
      block 'expanded_conv_1_expand_activation',
      'expanded_conv_1_depthwise_activation' (before squeeze-and-excitation),
      'expanded_conv_3_squeeze_excite_mul', 'expanded_conv_1_project_bn',
      'expanded_conv_2_add'; the first block is 'expanded_conv' without a number
      and an expansion; 'conv_1_activation' (1/32) and 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras', 'torch' (torchvision) or 'timm', which differs from it in
      BatchNorm. timm's networks called tf_ are as Keras' are.
  """

  blocks: Sequence[Block]
  hidden: int
  taps: Sequence[str] | None
  classes: int = 1000
  origin: str = 'keras'

  @property
  def normalisation(self) -> str:
    return 'none' if self.origin == 'keras' else 'torch'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = image / 127.5 - 1 if self.origin == 'keras' else image
    x = self._conv(x, 'conv', 16, 3, 2)
    x = nn.hard_swish(self._norm(x, train, 'conv_bn'))
    yield 'conv_activation', x
    for i, block in enumerate(self.blocks):
      name = f'expanded_conv_{i}_' if i > 0 else 'expanded_conv_'
      x = yield from self._block(x, train, name, block)
    x = self._conv(x, 'conv_1', 6 * x.shape[-1])
    x = nn.hard_swish(self._norm(x, train, 'conv_1_bn'))
    yield 'conv_1_activation', x
    x = nn.hard_swish(Conv(self.hidden, 1, name='conv_2')(global_mean(x)))
    x = nn.Dropout(DROPOUT[self.origin], deterministic=not train)(x)
    yield 'predictions', Conv(self.classes, 1, name='logits')(x)

  @nn.nowrap
  def _block(
    self, x: Array, train: bool, name: str, block: Block
  ) -> Generator[tuple[str, Array], None, Array]:
    """Expands, filters by channel, weighs the channels, projects, adds."""
    entered, act = x, ACTIVATIONS[block.activation]
    if block.expanded > x.shape[-1]:
      x = self._conv(x, f'{name}expand', block.expanded)
      x = act(self._norm(x, train, f'{name}expand_bn'))
      yield f'{name}expand_activation', x
    x = DepthwiseConv(
      block.size,
      block.stride,
      self._padding(block.size),
      bias=False,
      name=f'{name}depthwise',
    )(x)
    x = act(self._norm(x, train, f'{name}depthwise_bn'))
    yield f'{name}depthwise_activation', x
    if block.excite:
      x = x * _excitation(x, f'{name}squeeze_excite')
      yield f'{name}squeeze_excite_mul', x
    x = self._conv(x, f'{name}project', block.features)
    x = self._norm(x, train, f'{name}project_bn')
    yield f'{name}project_bn', x
    if block.stride == 1 and x.shape == entered.shape:
      x = entered + x
      yield f'{name}add', x
    return x

  @nn.nowrap
  def _padding(self, size):
    return same_padding(size, 'keras' if self.origin == 'keras' else 'torch')

  @nn.nowrap
  def _conv(self, x, name, features, size=1, stride=1):
    padding = self._padding(size)
    return Conv(features, size, stride, padding, bias=False, name=name)(x)

  @nn.nowrap
  def _norm(self, x, train, name):
    epsilon, momentum = BATCH_NORM[self.origin]
    return BatchNorm(epsilon=epsilon, momentum=momentum, name=name)(x, train)


def _excitation(x: Array, name: str) -> Array:
  """One weight for each image and channel (arXiv:1709.01507)."""
  squeezed = scaled(x.shape[-1], 1 / 4)
  weight = nn.relu(Conv(squeezed, 1, name=f'{name}_conv')(global_mean(x)))
  weight = Conv(x.shape[-1], 1, name=f'{name}_conv_1')(weight)
  return nn.hard_sigmoid(weight)


def _expansions(*blocks: int) -> tuple[str, ...]:
  """The widest map of each size, before a block halves it, and the last."""
  names = (f'expanded_conv_{i}_expand_activation' for i in blocks)
  return *names, 'conv_1_activation'


MobileNetV3Large = partial(
  MobileNetV3,
  blocks=LARGE,
  hidden=1280,
  taps=_expansions(1, 3, 6, 12),
)
MobileNetV3Small = partial(
  MobileNetV3,
  blocks=SMALL,
  hidden=1024,
  taps=('conv_activation', *_expansions(1, 3, 8)),
)
