"""Maps that a convolution reads as one, though nobody puts them together.

A decoder doubles a coarse map, puts the encoder's map behind it and convolves
both. A pixel of the doubled map stands there four times, so a 3x3 kernel on it
sees but 2x2 pixels of the coarse one, with sums of its weights: the same result
for four ninths of the products, and neither the doubled map nor the joined one
is ever written. What was measured is in docs/benchmarks.md.
"""

import functools

import einops
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxderm.models.conv3x3 import conv_bordered

Array = jax.Array
# Two pixels of the output lie between the centres of two coarse ones. For each:
# for each of the coarse ones: whether row 0, 1, 2 of the kernel falls on it.
_FALLS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]])


class Doubled(flax.struct.PyTreeNode):
  """A map of which each pixel is to be repeated twice, down and across.

  Attributes:
    half: [B, H / 2, W / 2, C].
  """

  half: Array

  @property
  def shape(self) -> tuple[int, ...]:
    b, h, w, c = self.half.shape
    return b, 2 * h, 2 * w, c


class Joined(flax.struct.PyTreeNode):
  """Maps whose channels stand one behind the other.

  Attributes:
    maps: Each [B, H, W, own channels].
  """

  maps: tuple[Array | Doubled, ...]

  @property
  def shape(self) -> tuple[int, ...]:
    return *self.maps[0].shape[:3], sum(x.shape[-1] for x in self.maps)

  def whole(self) -> Array:
    """[B, H, W, C]."""
    return jnp.concatenate(
      [repeat(x.half) if isinstance(x, Doubled) else x for x in self.maps], -1
    )


def join(*maps: Array | Doubled) -> Array | Joined:
  """Joins maps along their channels; as yet unwritten, if any is `Doubled`.

  Raises:
    ValueError: Their sizes differ.
  """
  if len({x.shape[:3] for x in maps}) > 1:
    sizes = ', '.join(str(x.shape) for x in maps)
    raise ValueError(f'maps of {sizes}: expected one size, so that they join')
  if any(isinstance(x, Doubled) for x in maps):
    return Joined(maps)
  return jnp.concatenate(maps, axis=-1)


def repeat(x: Array, factor: int = 2) -> Array:
  """Repeats each pixel of [B, H, W, C], down and across."""
  return einops.repeat(x, 'b h w c -> b (h p) (w q) c', p=factor, q=factor)


def convolve(x: Array | Doubled | Joined, kernel: Array) -> Array:
  """Convolves [B, H, W, C] with [3, 3, C, D], 'SAME', to [B, H, W, D]."""
  if isinstance(x, Doubled):
    return _convolve_doubled(x.half, kernel)
  if not isinstance(x, Joined):
    return conv_bordered(x, kernel)
  ends = np.cumsum([each.shape[-1] for each in x.maps])[:-1]
  parts = zip(x.maps, jnp.split(kernel, ends, axis=2), strict=True)
  return functools.reduce(jnp.add, (convolve(each, k) for each, k in parts))


def _convolve_doubled(half: Array, kernel: Array) -> Array:
  """Convolves what `half`, [B, H, W, C], is once it is doubled.

  Where four pixels of `half` meet, or meet the border, four of the output do.
  They are made at once, as the channels of a 2x2 convolution; those beyond the
  border are cut off.

  Returns:
    [B, 2H, 2W, D].
  """
  c, d = kernel.shape[2:]
  four = jnp.einsum('pak,qbl,klcd->abcpqd', _FALLS, _FALLS, kernel)
  y = einops.rearrange(
    conv_bordered(half, four.reshape(2, 2, c, 4 * d)),
    'b h w (p q d) -> b (h p) (w q) d',
    p=2,
    q=2,
  )
  return y[:, 1:-1, 1:-1]
