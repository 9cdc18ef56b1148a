"""Heads: the last map of a pyramid to the features of its image."""

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import (
  Array,
  BatchNorm,
  Conv,
  avg_pool,
  global_mean,
  max_pool,
)

# What Keras draws the kernels of its dense layers from.
glorot_uniform = nn.initializers.glorot_uniform()


class Pooled(nn.Module):
  """The mean over the map, a hidden layer if wanted, and dropout.

  Bare it is the head of Wei 2020 (paper 001, SPEC 2.1); with 512 hidden units
  and a dropout of 0.5 that of Le 2020 (paper 004, SPEC 5.1).

  Attributes:
    hidden: Units of a dense layer with ReLU, or None for none.
    dropout: Share of the features that a training step leaves out.
  """

  hidden: int | None = None
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    """Turns a map [B, h, w, C] of any size into features [B, D]."""
    x = self.vector(x)
    if self.hidden is not None:
      x = nn.Dense(self.hidden, kernel_init=glorot_uniform, name='hidden')(x)
      x = nn.relu(x)
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  @nn.nowrap
  def vector(self, x: Array) -> Array:
    """What is left of a map before the hidden layer, [B, D]."""
    return global_mean(x)[:, 0, 0]


class Flattened(Pooled):
  """The pixels of the map one after the other, where `Pooled` has their mean.

  Its weights belong to one size of image. With means of 2x2 pixels it is Le
  2020 without global pooling (SPEC 5.1).

  Attributes:
    pool: Side of the squares of pixels of which the means are taken first.
  """

  pool: int = 1

  @nn.nowrap
  def vector(self, x: Array) -> Array:
    if self.pool > 1:
      x = avg_pool(x, self.pool, self.pool)
    return x.reshape(len(x), -1)


class SoftAttended(nn.Module):
  """The map beside what attention makes of it, halved (SPEC 3.2).

  The head of Do 2022 (paper 002).

  Attributes:
    attention: A map to a map of its shape.
    end: Features of what comes of both: called with [B, h, w, 2C] and train.
    dropout: Share of its values that a training step leaves out.
  """

  attention: nn.Module
  end: nn.Module
  dropout: float = 0.5

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    """Turns a map [B, h, w, C] into features [B, D]."""
    both = (x, self.attention(x))
    halves = [max_pool(y, 2, 2, 'SAME') for y in both]
    x = nn.relu(jnp.concatenate(halves, axis=-1))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return self.end(x, train)


class VGG16Do2022End(nn.Module):
  """What follows Soft-Attention in the VGG16 of Do 2022 (SPEC 3.1).

  The last block, its layers as in `encoders.VGG16Do2022`; maxima of 4x4; two
  dense layers.

  Attributes:
    hidden: Units of each dense layer.
  """

  hidden: int = 4096

  @nn.compact
  def __call__(self, x: Array, train: bool = False) -> Array:
    """Turns a map [B, h, w, C] into features [B, hidden]."""
    for j, size in enumerate((3, 3, 1), start=1):
      x = nn.relu(Conv(512, size, name=f'block5_conv{j}')(x))
      x = BatchNorm(name=f'block5_bn{j}')(x, train)
    x = max_pool(x, 4, 4, 'SAME')
    x = x.reshape(len(x), -1)
    for name in ('fc1', 'fc2'):
      x = nn.Dense(self.hidden, kernel_init=glorot_uniform, name=name)(x)
      x = nn.relu(x)
    return x
