"""R50-ViT, the encoder of TransUNet (arXiv:2102.04306).

The hybrid of arXiv:2010.11929 as github.com/Beckschen/TransUNet has it, whose
padding is torch's and whose stride is in the 3x3: three blocks of a ResNet with
weight standardisation and GroupNorm (arXiv:1912.11370), then a transformer on
what is a 16th of the image. Layers bear the names of Google's weights.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.attention import Block, GlobalAttention, GridPosition
from jaxderm.models.layers import Array, Conv, Encoder, conv, max_pool

EPSILON = 1e-6
GROUPS = 32


class StdConv(nn.Module):
  """Convolution whose filters have mean 0 and variance 1 (arXiv:1903.10520)."""

  features: int
  size: int = 1
  stride: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    wide = kernel.astype(jnp.float32)
    mean = jnp.mean(wide, axis=(0, 1, 2))
    variance = jnp.var(wide, axis=(0, 1, 2))
    kernel = ((wide - mean) / jnp.sqrt(variance + 1e-5)).astype(x.dtype)
    half = self.size // 2
    return conv(x, kernel, self.stride, [(half, half)] * 2)


class R50ViT(Encoder):
  """ResNet50 up to its third block, then a vision transformer.

  Attributes:
    taps: Features to return: 'root' (half the image's size), 'block1' (1/4),
      'block2' (1/8), 'block3' (1/16), 'embedding', 'encoderblock_0' and so on,
      'encoder_norm' (all 1/16).
    grid: Side of the map that the learnt positions belong to: a 16th of the
      image's that it is made for. For other images they are interpolated.
    width: Channels of 'root'; a multiple of the 32 groups.
    depths: Units in each block.
    hidden: Channels of the transformer.
    layers: Its blocks.
    heads: Of its attention.
    mlp: Channels inside its MLPs.
    dropout: After the positions and in the MLPs.
  """

  normalisation: ClassVar[str] = 'tf'

  taps: Sequence[str] | None = ('root', 'block1', 'block2', 'encoder_norm')
  grid: int = 16
  width: int = 64
  depths: Sequence[int] = (3, 4, 9)
  hidden: int = 768
  layers: int = 12
  heads: int = 12
  mlp: int = 3072
  dropout: float = 0.1

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = StdConv(self.width, 7, 2, name='conv_root')(image)
    x = nn.relu(_norm(x, 'gn_root'))
    yield 'root', x
    sides = x.shape[1:3]
    x = max_pool(x, 3, 2)  # without padding, so the blocks see one pixel less
    for i, depth in enumerate(self.depths):
      for j in range(depth):
        stride = 2 if i > 0 and j == 0 else 1
        x = _unit(x, f'block{i + 1}_unit{j + 1}', self.width * 2**i, stride)
      sides = [-(-side // 2) for side in sides]
      yield f'block{i + 1}', _fill_up(x, *sides)
    x = Conv(self.hidden, 1, name='embedding')(x)
    x = GridPosition(self.grid, name='position')(x)
    x = nn.Dropout(self.dropout, deterministic=not train, name='dropout')(x)
    yield 'embedding', x
    attention = partial(GlobalAttention, self.heads)
    for i in range(self.layers):
      name = f'encoderblock_{i}'
      x = Block(attention, self.mlp, EPSILON, self.dropout, name=name)(x, train)
      yield name, x
    x = nn.LayerNorm(epsilon=EPSILON, name='encoder_norm')(x)
    yield 'encoder_norm', x


def _norm(x: Array, name: str) -> Array:
  return nn.GroupNorm(GROUPS, epsilon=EPSILON, name=name)(x)


def _unit(x: Array, name: str, width: int, stride: int) -> Array:
  """A bottleneck; where the shape changes, the input is projected."""

  def convolve(x: Array, i: int, features: int, *settings: int) -> Array:
    x = StdConv(features, *settings, name=f'{name}_conv{i}')(x)
    return _norm(x, f'{name}_gn{i}')

  y = nn.relu(convolve(x, 1, width))
  y = nn.relu(convolve(y, 2, width, 3, stride))
  y = convolve(y, 3, 4 * width)
  if x.shape != y.shape:
    x = StdConv(4 * width, 1, stride, name=f'{name}_conv_proj')(x)
    # The reference has as many groups as channels here, and torch's epsilon.
    x = nn.GroupNorm(4 * width, epsilon=1e-5, name=f'{name}_gn_proj')(x)
  return nn.relu(x + y)


def _fill_up(x: Array, height: int, width: int) -> Array:
  """Zeros below and on the right, to [B, height, width, C]."""
  below, right = height - x.shape[1], width - x.shape[2]
  return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))
