"""The residual decoder of paper 000: plain skips, or nested ones.

With nested skips it is the decoder of EfficientUNet++: instead of UNet++'s
intermediate nodes, the raw upsampling of each level goes on to every finer
level. With plain skips it is that of XceptionUNet++ (in spite of the name).
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Activation,
  Array,
  BatchNorm,
  Conv,
  ConvNormAct,
  ConvTranspose,
  Pyramid,
  SeparableConv,
  max_pool,
)

# Makes the two convolutions of a residual: called with the number of channels
# and a `name`, it gives a module that is called with (x, train).
ConvFactory = Callable[..., nn.Module]
# Sizes of the convolutions of each branch of `Inception`, in turn.
BRANCHES = ((1,), (1, 3), (1, 3, 3))


class Inception(nn.Module):
  """Four branches, a quarter of the channels each (SPEC 1.8).

  Three are convolutions, the last is a 3x3 maximum and a 1x1 convolution.

  Raises:
    ValueError: if `features` is not a multiple of 4.
  """

  features: int

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    if self.features % 4:
      raise ValueError(
        f'inception of {self.features} channels: expected a multiple of 4'
      )

    def unit(x: Array, size: int, name: str) -> Array:
      return ConvNormAct(self.features // 4, size, bias=True, name=name)(
        x, train
      )

    joined = []
    for i, sizes in enumerate(BRANCHES, start=1):
      y = x
      for j, size in enumerate(sizes, start=1):
        y = unit(y, size, f'branch{i}_conv{j}')
      joined.append(y)
    pooled = max_pool(x, 3, 1, 'SAME')
    joined.append(unit(pooled, 1, 'pool_conv'))
    return jnp.concatenate(joined, axis=-1)


CONVS: dict[str, ConvFactory] = {
  'plain': Conv,
  'inception': Inception,
  'separable': SeparableConv,
}


class Residual(nn.Module):
  """Pre-activation residual; the shortcut is normalised too."""

  features: int
  activation: str = 'relu'
  conv: ConvFactory = Conv

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    def activate(x: Array, name: str) -> Array:
      return Activation(self.activation, name=name)(x)

    y = BatchNorm(name='norm1')(activate(x, 'act1'), train)
    shortcut = BatchNorm(name='norm_shortcut')(x, train)
    y = self.conv(self.features, name='conv1')(y, train)
    y = activate(BatchNorm(name='norm2')(y, train), 'act2')
    y = self.conv(self.features, name='conv2')(y, train)
    return BatchNorm(name='norm3')(y, train) + shortcut


class Stage(nn.Module):
  """A convolution to the width, `residuals` residuals, the activation."""

  features: int
  residuals: int = 1
  activation: str = 'relu'
  conv: ConvFactory = Conv

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    x = Conv(self.features, name='conv')(x)
    for i in range(self.residuals):
      x = Residual(
        self.features, self.activation, self.conv, name=f'residual{i + 1}'
      )(x, train)
    return Activation(self.activation, name='act')(x)


class ResidualDecoder(nn.Module):
  """From a pyramid of 1/2 to 1/2^L of the image to features of its size.

  The coarsest map is pooled once more, so sides must be multiples of
  2^(L + 1). Names are those of SPEC 1.7: d<i> is the upsampling into level i
  (1 the finest, 0 the image), d<i>u<k> what k more upsamplings make of it,
  u<i> the stage of level i.

  Attributes:
    base: Channels at the size of the image; doubled at each coarser level.
    residuals: Residuals in each stage.
    middle: Channels of the coarsest stage; the next doubling if None.
    nested: Whether raw upsamplings go on to all finer levels.
    activation: Everywhere in the decoder, on the coarsest skip too.
    conv: Makes the two convolutions inside each residual.
    dropout: Rate after the pool, each concatenation and the last upsampling.
    last_dropout: Rate before the head.
  """

  base: int = 8
  residuals: int = 1
  middle: int | None = None
  nested: bool = True
  activation: str = 'relu'
  conv: ConvFactory = Conv
  dropout: float = 0.1
  last_dropout: float = 0.05

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    def drop(x: Array, rate: float = self.dropout) -> Array:
      return nn.Dropout(rate, deterministic=not train)(x)

    def stage(x: Array, features: int, name: str) -> Array:
      return Stage(
        features, self.residuals, self.activation, self.conv, name=name
      )(x, train)

    def up(x: Array, features: int, name: str) -> Array:
      return ConvTranspose(features, size=3, name=name)(x)

    levels = len(pyramid)
    *skips, coarsest = pyramid
    coarsest = Activation(self.activation, name='act')(coarsest)
    skips.append(coarsest)
    middle = self.middle or self.base * 2 ** (levels + 1)
    x = stage(drop(max_pool(coarsest)), middle, 'middle')
    carried: list[Array] = []  # d<i>, then d<i+1>u1, d<i+2>u2, ...
    for i in range(levels, 0, -1):
      features = self.base * 2**i
      if self.nested:
        carried = [
          up(raw, raw.shape[-1], f'd{i + k}u{k}')
          for k, raw in enumerate(carried, start=1)
        ]
        carried.insert(0, up(x, features, f'd{i}'))
      else:
        carried = [up(x, features, f'd{i}')]
      joined = jnp.concatenate([*carried, skips[i - 1]], axis=-1)
      x = stage(drop(joined), features, f'u{i}')
    x = stage(drop(up(x, self.base, 'd0')), self.base, 'u0')
    return drop(x, self.last_dropout)
