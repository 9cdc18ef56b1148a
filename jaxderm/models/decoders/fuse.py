"""The last fusion of HRNet (arXiv:1908.07919), as `yang2021` has it."""

import flax.linen as nn
import jax.numpy as jnp

from jaxderm.models.layers import Array, ConvNormAct, Pyramid, upsample


class Fuse(nn.Module):
  """All maps side by side, in the size of the finest (SPEC 1.5).

  The finest stays as it is. The others are normalised 1x1 convolutions, without
  activation, enlarged by 'nearest'.

  Attributes:
    width: Channels that each of the others is brought to.
  """

  width: int = 32

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    finest, *others = pyramid
    height, width = finest.shape[1:3]
    joined = [finest]
    for i, x in enumerate(others, start=1):
      x = ConvNormAct(self.width, 1, activation='none', name=f'branch{i + 1}')(
        x, train
      )
      # A map of odd size was rounded up on the way down.
      joined.append(upsample(x, factor=2**i)[:, :height, :width])
    return jnp.concatenate(joined, axis=-1)
