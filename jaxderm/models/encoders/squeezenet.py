"""SqueezeNet 1.0 and 1.1 (arXiv:1602.07360), layer for layer as torchvision's.

So is Caffe's, which its authors published: both round the size of a pooled map
up, and nothing is padded before that.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import Array, Conv, Encoder, global_mean, max_pool

# Channels that leave each half of fire2 to fire9; a quarter of them enter it.
EXPANDED = (64, 64, 128, 128, 192, 192, 256, 256)


class SqueezeNet10(Encoder):
  """Fire modules: 1x1 to few channels, then 1x1 beside 3x3 to many.

  Attributes:
    stem: Channels and size of the first convolution.
    pools: Layers after which the map is halved.
    taps: Features to return: 'conv1' (half the image's size), 'fire2' (1/4) to
      'fire9' (1/16), 'conv10', a map for each class, and 'predictions'.
    classes: Of the tap 'predictions', logits [B, 1, 1, classes], none of them
      below 0.
  """

  normalisation: ClassVar[str] = 'torch'
  stem: ClassVar[tuple[int, int]] = (96, 7)
  pools: ClassVar[Sequence[str]] = ('conv1', 'fire4', 'fire8')

  taps: Sequence[str] | None = ('conv1', 'fire4', 'fire8', 'fire9')
  classes: int = 1000

  @nn.nowrap
  def features(self, image: Array, train: bool) -> Iterator[tuple[str, Array]]:
    x = _conv(image, 'conv1', *self.stem, stride=2)
    yield 'conv1', x
    x = _pool(x)
    for i, width in enumerate(EXPANDED, start=2):
      x = _fire(x, f'fire{i}', width)
      yield f'fire{i}', x
      if f'fire{i}' in self.pools:
        x = _pool(x)
    x = nn.Dropout(0.5, deterministic=not train)(x)
    x = _conv(x, 'conv10', self.classes, 1)
    yield 'conv10', x
    yield 'predictions', global_mean(x)


class SqueezeNet11(SqueezeNet10):
  """Version 1.1: a smaller stem and earlier pools, at 0.4 of the cost."""

  stem: ClassVar[tuple[int, int]] = (64, 3)
  pools: ClassVar[Sequence[str]] = ('conv1', 'fire3', 'fire5')

  taps: Sequence[str] | None = ('conv1', 'fire3', 'fire5', 'fire9')


def _conv(
  x: Array,
  name: str,
  features: int,
  size: int,
  stride: int = 1,
  padding: str = 'VALID',
) -> Array:
  return nn.relu(Conv(features, size, stride, padding, name=name)(x))


def _fire(x: Array, name: str, width: int) -> Array:
  x = _conv(x, f'{name}_squeeze1x1', width // 4, 1)
  one = _conv(x, f'{name}_expand1x1', width, 1)
  three = _conv(x, f'{name}_expand3x3', width, 3, padding='SAME')
  return jnp.concatenate([one, three], axis=-1)


def _pool(x: Array) -> Array:
  """Maxima of 3x3 at every other pixel; a last window may stick out by one."""
  return max_pool(x, 3, 2, [(0, 1 - side % 2) for side in x.shape[1:3]])
