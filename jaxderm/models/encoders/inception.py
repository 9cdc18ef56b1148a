"""Inception-ResNet v2 (arXiv:1602.07261), layer for layer as Keras has it.

Modules and taps bear Keras' names. Most of its layers have none and are
numbered in the order they are made, which is the order here.
"""

import functools
import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  Encoder,
  avg_pool,
  global_mean,
  max_pool,
)

EPSILON = 1e-3
LEAST = 75  # pixels, below which the last maps have no size


class Step(NamedTuple):
  """A convolution of a branch; one of stride 2 has no padding."""

  features: int
  size: int | tuple[int, int] = 1
  stride: int = 1


class Block(NamedTuple):
  """A residual block; the first of its branches is one convolution."""

  scale: float  # of what is added
  branches: tuple[tuple[Step, ...], ...]


MIXED_5B = (
  (Step(96),),
  (Step(48), Step(64, 5)),
  (Step(64), Step(96, 3), Step(96, 3)),
)
BLOCK35 = Block(
  scale=0.17,
  branches=(
    (Step(32),),
    (Step(32), Step(32, 3)),
    (Step(32), Step(48, 3), Step(64, 3)),
  ),
)
MIXED_6A = (
  (Step(384, 3, 2),),
  (Step(256), Step(256, 3), Step(384, 3, 2)),
)
BLOCK17 = Block(
  scale=0.1,
  branches=((Step(192),), (Step(128), Step(160, (1, 7)), Step(192, (7, 1)))),
)
MIXED_7A = (
  (Step(256), Step(384, 3, 2)),
  (Step(256), Step(288, 3, 2)),
  (Step(256), Step(288, 3), Step(320, 3, 2)),
)
BLOCK8 = Block(
  scale=0.2,
  branches=((Step(192),), (Step(192), Step(224, (1, 3)), Step(256, (3, 1)))),
)


Steps = Generator[tuple[str, Array], None, Array]


class NumberedLayers:
  """Makes layers, and numbers those without a name as Keras does."""

  def __init__(self, origin: str, train: bool):
    self._origin = origin
    self._train = train
    self._numbers = itertools.count()

  def conv(self, x: Array, step: Step, padding: str | None = None) -> Array:
    return nn.relu(self.conv_norm(x, step, padding))

  def conv_norm(
    self,
    x: Array,
    step: Step,
    padding: str | None = None,
    name: str | None = None,
  ) -> Array:
    if name is not None:
      names = name, f'{name}_bn'
    else:
      number = next(self._numbers)
      ending = f'_{number}' if number else ''
      names = f'conv2d{ending}', f'batch_normalization{ending}'
    padding = padding or ('SAME' if step.stride == 1 else 'VALID')
    x = Conv(*step, padding, bias=False, name=names[0])(x)
    return BatchNorm(
      self._origin, EPSILON, use_scale=self._origin == 'torch', name=names[1]
    )(x, self._train)

  def branches(
    self, x: Array, branches: Sequence[Sequence[Step]]
  ) -> list[Array]:
    return [functools.reduce(self.conv, steps, x) for steps in branches]

  def block(self, x: Array, name: str, block: Block) -> Steps:
    ((first,), *others) = block.branches
    y = self.conv_norm(x, first)
    yield f'{name}_branch0_bn', y
    y = jnp.concatenate([nn.relu(y), *self.branches(x, others)], axis=-1)
    return x + block.scale * Conv(x.shape[-1], 1, name=f'{name}_conv')(y)

  def blocks(self, x: Array, kind: str, block: Block, repeats: int) -> Steps:
    for i in range(repeats):
      name = f'{kind}_{i + 1}'
      x = nn.relu((yield from self.block(x, name, block)))
      yield f'{name}_ac', x
    return x


class InceptionResNetV2(Encoder):
  """Inception blocks that are scaled and added, at least 75 pixels a side.

  Few of its convolutions are padded, so maps are up to three pixels smaller
  than the image over their stride.

  Attributes:
    taps: Features to return: 'activation_2' (half the image's size),
      'activation_4' (1/4), 'mixed_5b', 'block35_1_ac' to 'block35_10_ac'
      (1/8), 'mixed_6a', 'block17_1_ac' to 'block17_20_ac' (1/16), 'mixed_7a',
      'block8_1_ac' to 'block8_9_ac', 'conv_7b_ac' (1/32), 'predictions'.
      'block8_9_branch0_bn', and so on of every block, is the first thing
      computed in it: the 1x1 convolution of branch 0, normalised, not yet
      rectified (Keras' 'batch_normalization_195'; the tap of `do2022`).
    classes: Of the tap 'predictions', logits [B, 1, 1, classes].
    origin: 'keras', whose normalisations have no scale, or 'torch', where
      timm's have.
  """

  normalisation: ClassVar[str] = 'tf'

  taps: Sequence[str] | None = (
    'activation_2',
    'activation_4',
    'block35_10_ac',
    'block17_20_ac',
    'conv_7b_ac',
  )
  classes: int = 1000
  origin: str = 'keras'

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    if min(image.shape[1:3]) < LEAST:
      raise ValueError(
        f'image of {image.shape[1]}x{image.shape[2]} pixels: '
        f'InceptionResNetV2 expects {LEAST} or more on each side'
      )
    layers = NumberedLayers(self.origin, train)
    x = layers.conv(image, Step(32, 3, 2))
    x = layers.conv(x, Step(32, 3), 'VALID')
    x = layers.conv(x, Step(64, 3))
    yield 'activation_2', x
    x = layers.conv(max_pool(x, 3, 2), Step(80))
    x = layers.conv(x, Step(192, 3), 'VALID')
    yield 'activation_4', x
    x = max_pool(x, 3, 2)

    branches = layers.branches(x, MIXED_5B)
    pooled = layers.conv(avg_pool(x, 3, 1, 'SAME'), Step(64))
    x = jnp.concatenate([*branches, pooled], axis=-1)
    yield 'mixed_5b', x
    x = yield from layers.blocks(x, 'block35', BLOCK35, 10)

    branches = layers.branches(x, MIXED_6A)
    x = jnp.concatenate([*branches, max_pool(x, 3, 2)], axis=-1)
    yield 'mixed_6a', x
    x = yield from layers.blocks(x, 'block17', BLOCK17, 20)

    branches = layers.branches(x, MIXED_7A)
    x = jnp.concatenate([*branches, max_pool(x, 3, 2)], axis=-1)
    yield 'mixed_7a', x
    x = yield from layers.blocks(x, 'block8', BLOCK8, 9)
    whole = BLOCK8._replace(scale=1.0)
    x = yield from layers.block(x, 'block8_10', whole)  # and not rectified
    x = nn.relu(layers.conv_norm(x, Step(1536), name='conv_7b'))
    yield 'conv_7b_ac', x
    yield (
      'predictions',
      nn.Dense(self.classes, name='predictions')(global_mean(x)),
    )
