"""Maximum of windows, with a gradient that is fast and the same every time.

XLA's own gradient (select-and-scatter) is slow on the CPU, differs from run to
run on a GPU and cannot be compiled where runs must not differ. The gradient of
`max` asks which inputs equal the maximum, and where XLA computes them anew and
rounds otherwise, none does: 0 / 0. Here the forward pass remembers the place.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pads = tuple[tuple[int, int], tuple[int, int]]


def max_pool(
  x: Array,
  size: int = 2,
  stride: int = 2,
  padding: str | Sequence[tuple[int, int]] = 'VALID',
) -> Array:
  """Maximum of each window; padding never wins, the first of equals does.

  Args:
    x: [B, H, W, C].
    size: Side of a window, in pixels.
    stride: From one window to the next.
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
  """
  if isinstance(padding, str):
    window, strides = (size, size), (stride, stride)
    padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
  (top, bottom), (left, right) = padding
  pads = (int(top), int(bottom)), (int(left), int(right))
  return _max_pool(x, size, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, size: int, stride: int, pads: Pads) -> Array:
  return functools.reduce(jnp.maximum, _taps(x, size, stride, pads))


def _taps(x: Array, size: int, stride: int, pads: Pads) -> Iterator[Array]:
  """Of every window its first pixel, then of every window its second, ..."""
  lowest = jnp.asarray(-jnp.inf, x.dtype)
  x = lax.pad(x, lowest, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
  rows, columns = (stride * ((n - size) // stride) + 1 for n in x.shape[1:3])
  for a, b in itertools.product(range(size), repeat=2):
    yield x[:, a : a + rows : stride, b : b + columns : stride]


def _forward(x: Array, size: int, stride: int, pads: Pads):
  taps = _taps(x, size, stride, pads)
  best = next(taps)
  place = jnp.zeros(best.shape, jnp.int8)
  for i, tap in enumerate(taps, start=1):
    place = jnp.where(tap > best, jnp.int8(i), place)
    best = jnp.maximum(best, tap)
  # An array of no size, for its shape.
  return best, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _backward(size: int, stride: int, pads: Pads, saved, gradient: Array):
  """Every pixel sums over the windows that chose it."""
  place, like = saved
  reach = (size - 1) // stride  # windows before its own that a pixel may be in

  def phase(p: int, q: int) -> Array:
    """The pixels p::stride, q::stride of the padded image."""
    total = jnp.zeros((), gradient.dtype)
    for a, b in itertools.product(
      range(p, size, stride), range(q, size, stride)
    ):
      chosen = jnp.where(place == a * size + b, gradient, 0)
      i, j = a // stride, b // stride
      shift = ((0, 0), (i, reach - i), (j, reach - j), (0, 0))
      total = total + jnp.pad(chosen, shift)
    b, h, w, c = gradient.shape
    return jnp.broadcast_to(total, (b, h + reach, w + reach, c))

  steps = range(stride)
  dx = jnp.stack(
    [jnp.stack([phase(p, q) for q in steps], axis=3) for p in steps], axis=2
  )
  b, h, _, w, _, c = dx.shape
  dx = dx.reshape(b, h * stride, w * stride, c)
  # What is beyond the image is cut off, what no window reached gets nothing.
  ends = [
    (-pad[0], n + pad[0] - m, 0)
    for pad, n, m in zip(pads, like.shape[1:], dx.shape[1:3], strict=True)
  ]
  zero = jnp.zeros((), dx.dtype)
  return (lax.pad(dx, zero, [(0, 0, 0), *ends, (0, 0, 0)]),)


_max_pool.defvjp(_forward, _backward)
