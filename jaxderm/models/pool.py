"""Maximum of windows, with a gradient that is fast and the same every time.

XLA's own gradient (select-and-scatter) is slow on the CPU, differs from run to
run on a GPU and cannot be compiled where runs must not differ. The gradient of
`max` asks which inputs equal the maximum, and where XLA computes them anew and
rounds otherwise, none does: 0 / 0. Here the forward pass remembers the place.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxderm.models.padding import Padding, Pads, explicit

Array = jax.Array
Window = tuple[int, int]  # height, width


def max_pool(
  x: Array,
  size: int | tuple[int, int] = 2,
  stride: int = 2,
  padding: Padding = 'VALID',
) -> Array:
  """Maximum of each window; padding never wins, the first of equals does.

  Args:
    x: [B, H, W, C].
    size: Side of a window, in pixels, or (height, width).
    stride: From one window to the next.
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
  """
  window = (size, size) if isinstance(size, int) else size
  pads = explicit(padding, x.shape[1:3], window, stride)
  return _max_pool(x, window, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, window: Window, stride: int, pads: Pads) -> Array:
  return functools.reduce(jnp.maximum, _taps(x, window, stride, pads))


def _taps(x: Array, window: Window, stride: int, pads: Pads) -> Iterator[Array]:
  """Of every window its first pixel, then of every window its second, ..."""
  lowest = jnp.asarray(-jnp.inf, x.dtype)
  x = lax.pad(x, lowest, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
  rows, columns = (
    stride * ((n - side) // stride) + 1
    for n, side in zip(x.shape[1:3], window, strict=True)
  )
  for a, b in itertools.product(*map(range, window)):
    yield x[:, a : a + rows : stride, b : b + columns : stride]


def _forward(x: Array, window: Window, stride: int, pads: Pads):
  taps = _taps(x, window, stride, pads)
  best = next(taps)
  place = jnp.zeros(best.shape, jnp.int8)
  for i, tap in enumerate(taps, start=1):
    place = jnp.where(tap > best, jnp.int8(i), place)
    best = jnp.maximum(best, tap)
  # An array of no size, for its shape.
  return best, (place, jnp.zeros((0, *x.shape[1:3]), x.dtype))


def _backward(window: Window, stride: int, pads: Pads, saved, gradient: Array):
  """Every pixel sums over the windows that chose it."""
  place, like = saved
  # Each is read once for each pixel of a window: XLA is not to find the places
  # anew, nor what enters, wherever it reads them.
  place, gradient = lax.optimization_barrier((place, gradient))
  height, width = window
  # Windows before its own that a pixel may be in.
  down, right = (height - 1) // stride, (width - 1) // stride

  def phase(p: int, q: int) -> Array:
    """The pixels p::stride, q::stride of the padded image."""
    total = jnp.zeros((), gradient.dtype)
    for a, b in itertools.product(
      range(p, height, stride), range(q, width, stride)
    ):
      chosen = jnp.where(place == a * width + b, gradient, 0)
      i, j = a // stride, b // stride
      shift = ((0, 0), (i, down - i), (j, right - j), (0, 0))
      total = total + jnp.pad(chosen, shift)
    b, h, w, c = gradient.shape
    return jnp.broadcast_to(total, (b, h + down, w + right, c))

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


def max_unpool(x: Array, like: Array) -> Array:
  """Puts each pixel back to where a 2x2 maximum was (arXiv:1511.00561).

  It is what the gradient of the pool does with a gradient. Zeros lie between;
  of equals the first was the maximum. No gradient goes through the place.

  Args:
    x: [B, H, W, C], of the shape of `max_pool(like)`.
    like: [B, 2H, 2W, C], or a row or a column more.

  Returns:
    An array like `like`, of the type of `x`.

  Raises:
    ValueError: if the shapes do not fit.
  """
  pooled, saved = _forward(like, (2, 2), 2, ((0, 0), (0, 0)))
  if pooled.shape != x.shape:
    raise ValueError(
      f'a map {x.shape} to unpool: expected {pooled.shape}, which is what the '
      f'2x2 maxima of {like.shape} are'
    )
  return _backward((2, 2), 2, ((0, 0), (0, 0)), saved, x)[0]
