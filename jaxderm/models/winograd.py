"""3x3 convolutions with fewer products than taps (arXiv:1509.09308).

Two neighbouring pixels of what a filter of three taps makes cost six products;
four are enough, of sums of pixels with sums of taps, from which the two pixels
are added up. Done both ways, 2x2 pixels cost 16 products for each pair of
channels, not 36. Each of the 16 is one product of matrices: sums of pixels, by
tile and channel, times sums of taps.

The factors are 1, -1 and 1/2, so float32 loses little by it (a test beside
float64 says how little); bfloat16 would lose more. The sums take four times the
memory of the maps while they are there, so it pays only where there are many
channels. What was measured is in docs/benchmarks.md.
"""

import functools
import math
from collections.abc import Sequence

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
Grid = list[list[Array]]  # maps by row and column
# Along one axis: the four sums of four pixels, of three taps, and the two pixels
# that are sums of the four products.
_PIXELS = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_TAPS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_OUTPUTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
# Below so many products there is little to gain, and a program takes longer to
# compile.
_PRODUCTS = 2**28
_CHANNELS, _CHANNELS_OF_GRADIENT = 48, 96


def pays(
  map_shape: Sequence[int], features: int, *, gradient: bool = False
) -> bool:
  """Whether it is faster than nine taps on a CPU.

  Args:
    map_shape: (B, H, W, C) of what is convolved.
    features: Channels of the output.
    gradient: Whether the gradient of the kernel is meant.
  """
  b, h, w, c = map_shape
  few, many = sorted((c, features))
  return (
    9 * b * h * w * c * features >= _PRODUCTS
    and few >= (_CHANNELS_OF_GRADIENT if gradient else _CHANNELS)
    and b * h * w / 4 >= many  # or the sums of taps cost too much
  )


@jax.jit  # so that maps of one shape are traced once
def convolve(x: Array, kernel: Array) -> Array:
  """Convolves [B, H, W, C] with [3, 3, C, D], 'SAME', to [B, H, W, D]."""
  taps = jnp.einsum('ik,jl,klcd->ijcd', _TAPS, _TAPS, kernel).astype(x.dtype)
  products = [
    [pixels @ taps[i, j] for j, pixels in enumerate(row)]
    for i, row in enumerate(_pixels(x))
  ]
  y = jnp.stack([jnp.stack(row) for row in _mix(_OUTPUTS, products)])
  y = einops.rearrange(y, 'p q b h w d -> b (h p) (w q) d')
  return y[:, : x.shape[1], : x.shape[2]]


@jax.jit
def kernel_gradient(x: Array, dy: Array) -> Array:
  """The gradient of the kernel, [3, 3, C, D], where that of the output is dy."""
  odd = [(0, side % 2) for side in dy.shape[1:3]]
  dy = jnp.pad(dy, ((0, 0), *odd, (0, 0)))
  parts = [[dy[:, p::2, q::2] for q in (0, 1)] for p in (0, 1)]
  dtaps = [
    [_flat(a).T @ _flat(b) for a, b in zip(*rows, strict=True)]
    for rows in zip(_pixels(x), _mix(_OUTPUTS.T, parts), strict=True)
  ]
  dtaps = jnp.stack([jnp.stack(row) for row in dtaps])
  return jnp.einsum('ik,jl,ijcd->klcd', _TAPS, _TAPS, dtaps).astype(x.dtype)


def _pixels(x: Array) -> Grid:
  """The sums of pixels for each tile of 2x2 pixels of the output.

  Each [B, tiles down, tiles across, C].
  """
  tiles = [math.ceil(side / 2) for side in x.shape[1:3]]
  pads = [(1, 1 + side % 2) for side in x.shape[1:3]]
  # Not padded anew for each sum.
  x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
  rows, columns = (
    [slice(k, k + 2 * n - 1, 2) for k in range(4)] for n in tiles
  )
  return _mix(_PIXELS, [[x[:, r, c] for c in columns] for r in rows])


def _mix(matrix: np.ndarray, maps: Grid) -> Grid:
  """matrix maps matrix^T, of a matrix of 1, 0 and -1."""
  across = [_sums(matrix, row) for row in maps]
  down = [_sums(matrix, column) for column in zip(*across, strict=True)]
  return [list(row) for row in zip(*down, strict=True)]


def _sums(matrix: np.ndarray, maps: Sequence[Array]) -> list[Array]:
  return [
    functools.reduce(
      jnp.add,
      [x if f > 0 else -x for f, x in zip(row, maps, strict=True) if f],
    )
    for row in matrix
  ]


def _flat(x: Array) -> Array:
  return x.reshape(-1, x.shape[-1])
