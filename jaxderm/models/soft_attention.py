"""Soft-Attention: where on a map to look (`do2022`, paper 002, SPEC 3.3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxderm.models.layers import Array, Conv, conv
from jaxderm.models.parameters import parameter

# What Keras draws this layer's kernel from.
he_uniform = nn.initializers.he_uniform()


class SoftAttention(nn.Module):
  """Weighs the places of a map by what several learnt maps say of them.

  A convolution gives `maps` scores to each place. Of each score ReLU and a
  softmax over all places make an attention map; their sum is the weight of the
  place, for all channels. The weights of a map add up to `maps`.

  With the collection 'intermediates' mutable, the weights [B, H, W, 1] are
  there as 'attention' (flax's `sow`), for a picture.

  Attributes:
    maps: Attention maps, K.
    gamma: Whether the output is multiplied by a learnt number, at first 0.01.
      The paper has it, its code does not.
    literal: Whether the kernel means what the code does, not what was meant.
      The code convolves the volume (H, W, channels) with a kernel (C, 3, 3) and
      the stride C along the channels. So the kernel spans the whole height,
      three columns, and the first three channels only. It has as many numbers.
  """

  maps: int = 16
  gamma: bool = False
  literal: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Weighs a map [B, H, W, C].

    Returns:
      An array like `x`.

    Raises:
      ValueError: `literal`, and the map has fewer than three channels.
    """
    if self.literal:
      scores = LiteralConv(self.maps, name='conv')(x)
    else:
      scores = Conv(self.maps, 3, kernel_init=he_uniform, name='conv')(x)
    scores = nn.relu(scores).astype(jnp.float32)
    weights = jax.nn.softmax(scores, axis=(1, 2)).sum(axis=-1, keepdims=True)
    self.sow('intermediates', 'attention', weights)
    if self.gamma:
      init = nn.initializers.constant(0.01)
      weights = weights * parameter(self, 'gamma', init, ())
    return x * weights.astype(x.dtype)


class LiteralConv(nn.Module):
  """The convolution of the code: SAME, of a volume, with the stride C.

  Of the stride C there is one output, which begins at the first channel and
  needs no padding there: a 2-D convolution of three channels with a kernel of
  C rows. Those that lie beyond the map wherever it is put are left out.

  Attributes:
    features: Channels of the output, K.
  """

  features: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Turns [B, H, W, C] into [B, H, W, K]."""
    height, channels = x.shape[1], x.shape[-1]
    if channels < 3:
      raise ValueError(
        f'a map of {channels} channels: literal Soft-Attention reads the first '
        '3. Set literal=False.'
      )
    shape = (channels, 3, 3, self.features)
    kernel = parameter(self, 'kernel', he_uniform, shape)
    bias = parameter(self, 'bias', nn.initializers.zeros, (self.features,))
    middle = (channels - 1) // 2  # the row that lies on the place itself
    first, last = max(0, middle - height + 1), min(channels, middle + height)
    padding = ((middle - first, last - 1 - middle), (1, 1))
    x, kernel = promote_dtype(x[..., :3], kernel[first:last])
    return conv(x, kernel, padding=padding) + bias.astype(x.dtype)
