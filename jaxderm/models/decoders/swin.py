"""The decoder of Swin-Unet (arXiv:2105.05537)."""

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxderm.models.attention import swin_block, truncated_normal
from jaxderm.models.layers import Array, Conv, Pyramid

EPSILON = 1e-5


class PatchExpand(nn.Module):
  """Deals a pixel's channels to the pixels that come in its place.

  Attributes:
    features: Channels of each.
    factor: How many times larger both sides become.
  """

  features: int
  factor: int = 2

  @nn.compact
  def __call__(self, x: Array) -> Array:
    n = self.factor
    dense = Conv(
      n * n * self.features,
      1,
      bias=False,
      kernel_init=truncated_normal,
      name='dense',
    )
    x = einops.rearrange(dense(x), 'b h w (p q c) -> b (h p) (w q) c', p=n, q=n)
    return nn.LayerNorm(epsilon=EPSILON, name='norm')(x)


class SwinDecoder(nn.Module):
  """Doubles the size, joins the encoder's map of that size, blocks of Swin.

  Each level is as wide as the encoder's.

  Attributes:
    depth: Blocks at each level; windows are shifted in every second.
    window: Side of the windows, in pixels of a map.
    drop_rate: As that of `encoders.SwinCao2021`: a block here drops as its
      mirror image in an encoder of as many levels.
    factor: How many times smaller than the image the finest map is.
  """

  depth: int = 2
  window: int = 7
  drop_rate: float = 0.2
  factor: int = 4

  @nn.compact
  def __call__(self, pyramid: Pyramid, train: bool = False) -> Array:
    *skips, x = pyramid
    rates = np.linspace(0, self.drop_rate, len(pyramid) * self.depth)
    rates = rates.reshape(len(pyramid), self.depth).tolist()
    for level in reversed(range(len(skips))):
      width, i = skips[level].shape[-1], level + 1
      x = PatchExpand(width, name=f'expand{i}')(x)
      x = jnp.concatenate([x, skips[level]], axis=-1)
      x = Conv(width, 1, kernel_init=truncated_normal, name=f'join{i}')(x)
      for j, rate in enumerate(rates[level]):
        name, shifted = f'level{i}_block{j + 1}', j % 2 == 1
        x = swin_block(width, self.window, shifted, rate, name)(x, train)
    x = nn.LayerNorm(epsilon=EPSILON, name='norm')(x)
    return PatchExpand(x.shape[-1], self.factor, name='expand')(x)
