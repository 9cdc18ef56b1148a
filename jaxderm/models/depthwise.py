"""Depthwise convolution with its own gradients, fast where XLA is slow.

XLA on the CPU runs a depthwise convolution ten to sixty times slower than the
same sum written as k*k shifted multiply-adds, and its gradients worse still.
Here all three are written so that XLA makes one loop over memory of each, and
none needs a padded copy of a map. A tap is gathered from the line of all pixels,
which becomes a plain read in that loop: an index beyond the ends of the line is
brought back by the gather, and what is read beyond a border, in the next row or
the next image, is masked.

- forward: taps times one number per channel, added;
- gradient of the image: the same form on the flipped kernel;
- gradient of the kernel: taps times the gradient, up to eight rows added up at
  a time. All rows of the kernel and up to three of its columns are made in one
  loop, which reads both maps once. What is left is reduced by products of
  matrices. Barriers keep XLA from fusing all of it into one slow reduction
  (`forms.compiler_options`).

Sums are in float32 whatever the inputs are.

On accelerators `lax` is used (`forms`). The choice between the two is made in
`depthwise_conv` and nowhere else.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxderm.models import sums
from jaxderm.models.forms import form
from jaxderm.models.padding import Padding, explicit

Array = jax.Array
Pair = tuple[int, int]
_COLUMNS = 3  # of the kernel's gradient, in one loop


class _Window(NamedTuple):
  """Where the taps of a kernel lie.

  Tap a, b of output i, j is pixel s i + a - top, s j + b - left.

  Attributes:
    size: k and l, taps along rows and columns.
    stride: s.
    near: (top, left), rows and columns of zeros before the first; may be
      negative.
  """

  size: Pair
  stride: int
  near: Pair


def depthwise_conv(
  x: Array, kernel: Array, stride: int = 1, padding: Padding = 'SAME'
) -> Array:
  """Convolves each channel with a filter of its own.

  Args:
    x: [B, H, W, C].
    kernel: [k, l, 1, C].
    stride: 1 or 2, the same for both axes.
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).

  Returns:
    [B, H', W', C] in the type of `x`.

  Raises:
    ValueError: for another stride or a kernel that does not fit `x`.
  """
  if stride not in (1, 2):
    raise ValueError(f'depthwise stride {stride}: expected 1 or 2')
  if kernel.shape[2:] != (1, x.shape[-1]):
    raise ValueError(
      f'depthwise kernel {kernel.shape}: expected '
      f'[k, k, 1, {x.shape[-1]}] for an image {x.shape}'
    )
  pads = explicit(padding, x.shape[1:3], kernel.shape[:2], stride)
  if form() == 'cpu':
    (top, bottom), (left, right) = pads
    window = _Window(kernel.shape[:2], stride, (top, left))
    height, width = (
      (n + beyond - k) // stride + 1
      for n, beyond, k in zip(
        x.shape[1:3], (top + bottom, left + right), window.size, strict=True
      )
    )
    return _shifted(x, kernel, window, (height, width))
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (stride, stride),
    pads,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x: Array, kernel: Array, window: _Window, size: Pair) -> Array:
  """The convolution of `x`, zero beyond its borders: `size` rows and columns."""
  # All taps read it: once computed, it is not to be computed in each.
  return _sum_of_taps(lax.optimization_barrier(x), kernel, window, size)


def _forward(x: Array, kernel: Array, window: _Window, size: Pair):
  return _shifted(x, kernel, window, size), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(window: _Window, size: Pair, saved, dy: Array):
  del size  # that of `dy`
  x, kernel = saved
  # All taps read these too.
  x, dy = lax.optimization_barrier((x, dy))
  dx = _image_gradient(dy, kernel, window, x.shape[1:3])
  dkernel = _kernel_gradient(x, dy, window)
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_shifted.defvjp(_forward, _backward)


# Many taps: traced once for all layers of a shape.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _sum_of_taps(x: Array, kernel: Array, window: _Window, size: Pair) -> Array:
  inside = _inside(window, 0, size[0], x.shape[1])
  total = jnp.zeros((), jnp.float32)
  for a, weights in enumerate(kernel.astype(jnp.float32)):
    taps = _taps(x, range(a, a + 1), window, size)
    row = sum(tap[:, :, :, 0] * weights[b, 0] for b, tap in enumerate(taps))
    total = total + _masked(row, inside[:, a], (1,))
  return total.astype(x.dtype)


def _taps(x: Array, rows: range, window: _Window, size: Pair) -> list[Array]:
  """What the taps in some rows of a kernel read.

  Returns:
    l times [B, *size, len(rows), C] in float32: zero beyond the left and right
    border of an image, anything beyond the upper and lower.
  """
  batch, height, width, channels = x.shape
  # One line of all pixels: were it one for each image, XLA would have the images
  # of a pixel side by side, and copy. But devices share images out.
  lines = batch if jax.device_count() > 1 else 1
  pixels = x.reshape(lines, -1, channels)
  shape = batch // lines, *size, len(rows), 1
  images, i, j, a = (
    lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(4)
  )
  down = i * window.stride + (a + (rows.start - window.near[0]))
  first = images * (height * width) + down * width + j * window.stride
  inside = _inside(window, 1, size[1], width)

  def tap(b: int) -> Array:
    dimensions = lax.GatherDimensionNumbers(
      offset_dims=(0, 5), collapsed_slice_dims=(1,), start_index_map=(1,)
    )
    index = first + (b - window.near[1])
    part = (lines, 1, channels)
    part = lax.gather(pixels, index, dimensions, part, mode='clip')
    part = part.reshape(batch, *size, len(rows), channels)
    return _masked(part.astype(jnp.float32), inside[:, b], (2,))

  return [tap(b) for b in range(window.size[1])]


def _inside(window: _Window, axis: int, outputs: int, count: int) -> np.ndarray:
  """Which taps read a row (axis 0) or column (1) of the `count` there are.

  Returns:
    [outputs, k or l], bool.
  """
  read = np.arange(outputs)[:, None] * window.stride
  read = read + np.arange(window.size[axis]) - window.near[axis]
  return (read >= 0) & (read < count)


def _masked(x: Array, inside: np.ndarray, axes: Sequence[int]) -> Array:
  """`x`, but zero where `inside`, which has these of its axes, is not."""
  if inside.all():
    return x
  inside = lax.broadcast_in_dim(inside, x.shape, axes)
  return lax.select(inside, x, jnp.zeros_like(x))


def _image_gradient(
  dy: Array, kernel: Array, window: _Window, size: Sequence[int]
) -> Array:
  """Gradient of the image: phase by phase, `dy` through the flipped kernel.

  Phase p, q holds rows p::stride and columns q::stride of the image.
  """
  stride = window.stride
  part_size = tuple(-(-n // stride) for n in size)

  def phase(*place: int) -> Array:
    part, near = kernel, []
    for axis, (p, n) in enumerate(zip(place, window.near, strict=True)):
      behind, start = divmod(p + n, stride)
      part = lax.slice_in_dim(part, start, None, stride, axis)
      near.append(part.shape[axis] - 1 - behind)
    if not part.size:  # a 1x1 kernel of stride 2 misses three phases
      return jnp.zeros((len(dy), *part_size, dy.shape[-1]), dy.dtype)
    flipped = _Window(part.shape[:2], 1, tuple(near))
    return _shifted(dy, part[::-1, ::-1], flipped, part_size)

  if stride == 1:
    return phase(0, 0)
  phases = [[phase(p, q) for q in range(stride)] for p in range(stride)]
  if kernel.size > 9 * kernel.shape[-1]:
    # XLA would choose among four long sums for each pixel.
    phases = lax.optimization_barrier(phases)
  dx = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
  dx = dx.reshape(len(dy), *(n * stride for n in part_size), dy.shape[-1])
  return dx[:, : size[0], : size[1]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x: Array, dy: Array, window: _Window) -> Array:
  """Gradient of the kernel: taps times `dy`, summed."""
  parts = _parts(dy.shape[1])
  more = -dy.shape[1] % parts  # rows of zeros, to fill the last part
  dy = jnp.pad(dy.astype(jnp.float32), ((0, 0), (0, more), (0, 0), (0, 0)))
  _, height, width, channels = dy.shape
  k, columns = window.size

  # All rows of the kernel in one loop, which reads each map once.
  shape = (*dy.shape[:3], k, channels)
  dy = lax.broadcast_in_dim(dy, shape, (0, 1, 2, 4))
  dy = _masked(dy, _inside(window, 0, height, x.shape[1]), (1, 3))
  taps = [tap * dy for tap in _taps(x, range(k), window, (height, width))]
  # Rows that are added up lie side by side: their taps share rows of `x`.
  shape = len(x), height // parts, parts, width, k, channels
  taps = [tap.reshape(shape) for tap in taps]
  totals = []
  for group in np.array_split(np.arange(columns), -(-columns // _COLUMNS)):
    totals += sums.in_one_loop([taps[b] for b in group], 2)
  totals = [x.reshape(*x.shape[:3], k * channels) for x in totals]
  dkernel = sums.of_pixels(totals).reshape(columns, k, 1, channels)
  return dkernel.swapaxes(0, 1)


def _parts(rows: int) -> int:
  """Up to eight, so that few rows or none are added to make them equal."""
  most = min(rows, sums.PARTS)
  few = range(most, most // 2, -1)
  return min(few, key=lambda parts: -rows % parts)


def _kernel_gradient_forward(x: Array, dy: Array, window: _Window):
  return _kernel_gradient(x, dy, window), (x, dy)


def _kernel_gradient_backward(window: _Window, saved, dkernel: Array):
  x, dy = saved
  dx = _image_gradient(dy, dkernel, window, x.shape[1:3])
  ddy = _shifted(x, dkernel, window, dy.shape[1:3])
  return dx.astype(x.dtype), ddy.astype(dy.dtype)


_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)
