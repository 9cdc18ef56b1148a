"""Necks: pyramid to pyramid."""

import itertools
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  ConvNormAct,
  Pyramid,
  choose,
  max_pool,
  swish,
  upsample,
)

FUSIONS = ('cat', 'eachadd')


class Pointwise(nn.Module):
  """Dense layers on each pixel of the coarsest map, each with a ReLU.

  What SegNet of `yang2021` has between encoder and decoder (SPEC 1.3).

  Attributes:
    widths: Channels of each layer.
  """

  widths: Sequence[int] = (1024, 1024)

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Pyramid:
    del train
    *finer, x = pyramid
    for i, width in enumerate(self.widths, start=1):
      x = nn.relu(Conv(width, 1, name=f'dense{i}')(x))
    return (*finer, x)


class Bridge(nn.Module):
  """One convolution of the coarsest map, as TransUNet has it.

  arXiv:2102.04306; called `conv_more` in its code.

  Attributes:
    features: Channels of the output.
    origin: See `layers.ConvNormAct`.
  """

  features: int = 512
  origin: str = 'torch'

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Pyramid:
    *finer, x = pyramid
    conv = ConvNormAct(self.features, origin=self.origin, name='conv')
    return (*finer, conv(x, train))


class YoloConv(nn.Module):
  """Convolution, normalisation and SiLU, as YOLOv8 sets them up."""

  features: int
  size: int = 1

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    x = Conv(self.features, self.size, bias=False, name='conv')(x)
    x = BatchNorm(epsilon=1e-3, momentum=0.97, name='norm')(x, train)
    return swish(x)


class SPPF(nn.Module):
  """Maxima of 5x5, 9x9 and 13x13 pixels beside the map itself.

  A maximum of 5x5 of a maximum of 5x5 is one of 9x9: hence the F, for fast, of
  this spatial pyramid pooling (arXiv:1406.4729).
  """

  features: int

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    maxima = [YoloConv(x.shape[-1] // 2, name='reduce')(x, train)]
    for _ in range(3):
      # First of columns, then of rows: 10 comparisons instead of 25, and the
      # gradient of the network is compiled in a third of the time.
      x = max_pool(maxima[-1], (5, 1), 1, 'SAME')
      maxima.append(max_pool(x, (1, 5), 1, 'SAME'))
    joined = jnp.concatenate(maxima, axis=-1)
    return YoloConv(self.features, name='join')(joined, train)


class C2f(nn.Module):
  """Splits the channels, goes on with one half, joins all that came of it.

  Attributes:
    features: Channels of the output.
    repeats: Pairs of 3x3 convolutions, one after the other; each pair's output
      is joined.
  """

  features: int
  repeats: int = 1

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    half = self.features // 2
    parts = jnp.split(YoloConv(2 * half, name='split')(x, train), 2, axis=-1)
    for i in range(1, self.repeats + 1):
      y = YoloConv(half, 3, name=f'repeat{i}_1')(parts[-1], train)
      parts.append(YoloConv(half, 3, name=f'repeat{i}_2')(y, train))
    joined = jnp.concatenate(parts, axis=-1)
    return YoloConv(self.features, name='join')(joined, train)


class RFE(nn.Module):
  """Receptive field enhancement: each map learns of the next coarser one.

  The skips of `zarrin2025` (SPEC 4.1). Both maps go through an SPPF to the
  width of the finer, and C2f merges them; the coarsest map stays as it is.

  Attributes:
    fuse: 'cat': side by side into one C2f. 'eachadd': a C2f for each, and the
      sum (alternative A of SPEC 4.2).
    repeats: See `C2f`.
  """

  fuse: str = 'cat'
  repeats: int = 1

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Pyramid:
    choose('fuse', self.fuse, FUSIONS)
    skips = []
    for i, (x, coarser) in enumerate(itertools.pairwise(pyramid), start=1):
      width = x.shape[-1]
      own = SPPF(width, name=f'sppf{i}')(x, train)
      below = SPPF(width, name=f'sppf{i}_below')(coarser, train)
      merge = partial(C2f, width, self.repeats)
      if self.fuse == 'cat':
        both = jnp.concatenate([own, upsample(below)], axis=-1)
        skips.append(merge(name=f'c2f{i}')(both, train))
      else:
        below = merge(name=f'c2f{i}_below')(below, train)
        skips.append(merge(name=f'c2f{i}')(own, train) + upsample(below))
    return (*skips, pyramid[-1])
