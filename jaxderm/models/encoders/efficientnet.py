"""EfficientNet B0 to B7 (arXiv:1905.11946), layer for layer as Keras has it.

Modules and taps bear Keras' names, so its weights need no table of names. The
input is RGB of 0 to 255: scaling and normalisation are inside.
"""

import math
import string
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  DepthwiseConv,
  Encoder,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of 1
IMAGENET_STD = (0.229, 0.224, 0.225)
kernel_init = nn.initializers.variance_scaling(
  2.0, 'fan_out', 'truncated_normal'
)


class Stage(NamedTuple):
  """One row of the paper's table 1: what B0 has before scaling."""

  size: int
  repeats: int
  features: int
  expand: int
  stride: int


STAGES = (
  Stage(size=3, repeats=1, features=16, expand=1, stride=1),
  Stage(size=3, repeats=2, features=24, expand=6, stride=2),
  Stage(size=5, repeats=2, features=40, expand=6, stride=2),
  Stage(size=3, repeats=3, features=80, expand=6, stride=2),
  Stage(size=5, repeats=3, features=112, expand=6, stride=1),
  Stage(size=5, repeats=4, features=192, expand=6, stride=2),
  Stage(size=3, repeats=1, features=320, expand=6, stride=1),
)


def scaled(features: int, width: float, divisor: int = 8) -> int:
  """Channels times `width`, to a multiple of 8, not below nine tenths of it."""
  exact = features * width
  rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * exact else rounded


class Normalization(nn.Module):
  """Subtracts a mean and divides by a deviation that no step updates.

  They are in 'batch_stats' beside a count, as in Keras' layer of this name,
  and those of ImageNet until weights are loaded.
  """

  @nn.compact
  def __call__(self, image: Array) -> Array:
    def constant(name: str, value) -> Array:
      value = jnp.asarray(value, jnp.float32)
      return self.variable('batch_stats', name, lambda: value).value

    mean = constant('mean', IMAGENET_MEAN)
    variance = constant('variance', [std**2 for std in IMAGENET_STD])
    constant('count', 0.0)
    return ((image - mean) / jnp.sqrt(variance)).astype(image.dtype)


class EfficientNet(Encoder):
  """Mobile inverted bottlenecks with squeeze-and-excitation.

  Attributes:
    width: Factor of the channels.
    depth: Factor of the blocks in each stage.
    taps: Features to return, by the names of Keras' layers:
      'stem_activation', 'block2a_expand_activation', 'block2a_activation',
      'block2a_project_bn', 'block2b_add', and so on to 'top_activation'.
    drop_rate: Probability with which the last block is left out of an image's
      network in training; that of the others grows towards it from 0
      (stochastic depth, arXiv:1603.09382).
  """

  normalisation: ClassVar[str] = 'none'  # of the input: it is done inside

  width: float
  depth: float
  taps: Sequence[str] = (
    'block2a_expand_activation',
    'block3a_expand_activation',
    'block4a_expand_activation',
    'block6a_expand_activation',
  )
  drop_rate: float = 0.2

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = Normalization(name='normalization')(image / 255)
    x = _conv(x, scaled(32, self.width), 'stem_conv', size=3, stride=2)
    x = nn.swish(BatchNorm(name='stem_bn')(x, train))
    yield 'stem_activation', x
    repeats = [math.ceil(self.depth * stage.repeats) for stage in STAGES]
    built = 0
    for i, stage in enumerate(STAGES):
      features = scaled(stage.features, self.width)
      for j in range(repeats[i]):
        stride = stage.stride if j == 0 else 1
        row = stage._replace(features=features, stride=stride)
        rate = self.drop_rate * built / sum(repeats)
        name = f'block{i + 1}{string.ascii_lowercase[j]}_'
        for part, x in _block(x, row, rate, train, name):  # noqa: B020
          yield part, x
        built += 1
    x = _conv(x, scaled(1280, self.width), 'top_conv')
    x = nn.swish(BatchNorm(name='top_bn')(x, train))
    yield 'top_activation', x


def _conv(
  x: Array,
  features: int,
  name: str,
  size: int = 1,
  stride: int = 1,
  bias: bool = False,
) -> Array:
  # TensorFlow's SAME is what Keras' correct_pad comes to, at every size.
  return Conv(
    features, size, stride, bias=bias, kernel_init=kernel_init, name=name
  )(x)


def _block(
  x: Array, stage: Stage, drop_rate: float, train: bool, name: str
) -> Iterator[tuple[str, Array]]:
  """Expands, filters by channel, weighs the channels, projects, adds."""
  entered = x
  if stage.expand > 1:
    x = _conv(x, x.shape[-1] * stage.expand, f'{name}expand_conv')
    x = nn.swish(BatchNorm(name=f'{name}expand_bn')(x, train))
    yield f'{name}expand_activation', x
  x = DepthwiseConv(stage.size, stage.stride, bias=False, name=f'{name}dwconv')(
    x
  )
  x = nn.swish(BatchNorm(name=f'{name}bn')(x, train))
  yield f'{name}activation', x
  x = x * _excitation(x, max(1, entered.shape[-1] // 4), name)
  x = _conv(x, stage.features, f'{name}project_conv')
  x = BatchNorm(name=f'{name}project_bn')(x, train)
  yield f'{name}project_bn', x
  if stage.stride == 1 and x.shape[-1] == entered.shape[-1]:
    x = entered + nn.Dropout(
      drop_rate,
      broadcast_dims=(1, 2, 3),
      deterministic=not train,
      name=f'{name}drop',
    )(x)
    yield f'{name}add', x


def _excitation(x: Array, squeezed: int, name: str) -> Array:
  """One weight for each image and channel (arXiv:1709.01507)."""
  weight = jnp.mean(x, axis=(1, 2), keepdims=True)
  weight = _conv(weight, squeezed, f'{name}se_reduce', bias=True)
  weight = _conv(nn.swish(weight), x.shape[-1], f'{name}se_expand', bias=True)
  return nn.sigmoid(weight)


EfficientNetB0 = partial(EfficientNet, width=1.0, depth=1.0)
EfficientNetB1 = partial(EfficientNet, width=1.0, depth=1.1)
EfficientNetB2 = partial(EfficientNet, width=1.1, depth=1.2)
EfficientNetB3 = partial(EfficientNet, width=1.2, depth=1.4)
EfficientNetB4 = partial(EfficientNet, width=1.4, depth=1.8)
EfficientNetB5 = partial(EfficientNet, width=1.6, depth=2.2)
EfficientNetB6 = partial(EfficientNet, width=1.8, depth=2.6)
EfficientNetB7 = partial(EfficientNet, width=2.0, depth=3.1)
