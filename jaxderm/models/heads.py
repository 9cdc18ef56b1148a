"""Heads: the last map of a pyramid to the features of its image."""

import flax.linen as nn

from jaxderm.models.layers import Array, global_mean

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
    x = global_mean(x)[:, 0, 0]
    if self.hidden is not None:
      x = nn.Dense(self.hidden, kernel_init=glorot_uniform, name='hidden')(x)
      x = nn.relu(x)
    return nn.Dropout(self.dropout, deterministic=not train)(x)
