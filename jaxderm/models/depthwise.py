"""Depthwise convolution with its own gradients, fast where XLA is slow.

XLA on the CPU runs a depthwise convolution ten to sixty times slower than the
same sum written as k*k shifted multiply-adds, and its gradients worse still.
Here all three are written so that XLA makes one loop over memory of each:

- forward: k*k slices of the padded image times one number per channel, in one
  fusion;
- gradient of the image: the same form on the flipped kernel;
- gradient of the kernel: products of each tap, summed over eight rows in one
  fusion; what is left of each is then reduced. Barriers keep XLA from fusing
  all of it into one slow reduction (`forms.compiler_options`).

A stride of 2 splits the padded image into its four phases first, so that
every slice stays contiguous. Sums are in float32 whatever the inputs are.

On accelerators `lax` is used (`forms`). The choice between the two is made in
`depthwise_conv` and nowhere else.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxderm.models.forms import form

Array = jax.Array
Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | Sequence[tuple[int, int]]
_ROWS = 8  # of four, eight and sixteen the fastest


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
  pads = _explicit(x.shape[1:3], kernel.shape[:2], stride, padding)
  if form() == 'cpu':
    return _shifted(x, kernel, stride, pads)
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (stride, stride),
    pads,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _explicit(
  size: Sequence[int], window: Sequence[int], stride: int, padding: Padding
) -> Pads:
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(size, window, (stride, stride), padding)
  (top, bottom), (left, right) = padding
  return (int(top), int(bottom)), (int(left), int(right))


def _output_size(
  size: Sequence[int], window: Sequence[int], stride: int, pads: Pads
) -> tuple[int, int]:
  height, width = (
    (n + sum(pad) - k) // stride + 1
    for n, k, pad in zip(size, window, pads, strict=True)
  )
  return height, width


def _phases(
  x: Array, window: Sequence[int], stride: int, pads: Pads
) -> tuple[list[list[Array]], tuple[int, int]]:
  """Splits the padded image: phase p, q holds rows p::stride, columns q::stride.

  Returns:
    The phases, each [B, h + (k - 1) // stride, w + (l - 1) // stride, C] for
    an output of h by w, and (h, w).
  """
  (top, _), (left, _) = pads
  h, w = _output_size(x.shape[1:3], window, stride, pads)
  rows = h + (window[0] - 1) // stride
  columns = w + (window[1] - 1) // stride
  # A window's reach sets the far side; what no window touches is cut off.
  below = stride * rows - x.shape[1] - top
  right = stride * columns - x.shape[2] - left
  config = [(0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0)]
  x = lax.pad(x, jnp.zeros((), x.dtype), config)
  if stride == 1:
    return [[x]], (h, w)
  x = x.reshape(x.shape[0], rows, stride, columns, stride, x.shape[-1])
  phases = [[x[:, :, p, :, q] for q in range(stride)] for p in range(stride)]
  return phases, (h, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
  return _sum_of_taps(x, kernel, stride, pads)


# Many slices: traced once for all layers of a shape.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _sum_of_taps(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
  kh, kw = kernel.shape[:2]
  phases, (h, w) = _phases(x, (kh, kw), stride, pads)
  taps = kernel.astype(jnp.float32)
  total = jnp.zeros((), jnp.float32)
  for a in range(kh):
    for b in range(kw):
      phase = phases[a % stride][b % stride]
      top, left = a // stride, b // stride
      part = phase[:, top : top + h, left : left + w]
      total = total + part.astype(jnp.float32) * taps[a, b, 0]
  return total.astype(x.dtype)


def _forward(x: Array, kernel: Array, stride: int, pads: Pads):
  return _shifted(x, kernel, stride, pads), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(stride: int, pads: Pads, saved, dy: Array):
  x, kernel = saved
  # Every tap reads it: once computed, it is not to be computed in each.
  dy = lax.optimization_barrier(dy)
  dx = _image_gradient(dy, kernel, x.shape, stride, pads)
  dkernel = _kernel_gradient(x, dy, kernel.shape, stride, pads)
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_shifted.defvjp(_forward, _backward)


def _image_gradient(
  dy: Array, kernel: Array, shape: Sequence[int], stride: int, pads: Pads
) -> Array:
  """Gradient of the image: phase by phase, `dy` through the flipped kernel."""
  (top, _), (left, _) = pads
  height, width = shape[1:3]
  # Rows of each phase of the padded image, from the first to the last in use.
  rows = -(-(height + top) // stride)
  columns = -(-(width + left) // stride)
  parts = [
    [
      _through_flipped(dy, kernel[p::stride, q::stride], rows, columns)
      for q in range(stride)
    ]
    for p in range(stride)
  ]
  if stride == 1:
    dx = parts[0][0]
  else:
    dx = jnp.stack([jnp.stack(row, axis=3) for row in parts], axis=2)
    dx = dx.reshape(dy.shape[0], rows * stride, columns * stride, dy.shape[-1])
  return dx[:, top : top + height, left : left + width]


def _through_flipped(
  dy: Array, kernel: Array, rows: int, columns: int
) -> Array:
  """Sum over taps of dy[i - a, j - b] * kernel[a, b], [B, rows, columns, C]."""
  kh, kw = kernel.shape[:2]
  if kh == 0 or kw == 0:  # a 1x1 kernel of stride 2 misses three phases
    return jnp.zeros((dy.shape[0], rows, columns, dy.shape[-1]), dy.dtype)
  pads = (
    (kh - 1, rows - dy.shape[1]),
    (kw - 1, columns - dy.shape[2]),
  )
  return _shifted(dy, kernel[::-1, ::-1], 1, pads)


def _kernel_gradient(
  x: Array, dy: Array, shape: Sequence[int], stride: int, pads: Pads
) -> Array:
  """Gradient of the kernel: for each tap some rows at a time, then their sum.

  Rows of a group are added up in one loop over memory, column by column, which
  leaves little for a reduction to do.
  """
  kh, kw = shape[:2]
  phases, (h, w) = _phases(x, (kh, kw), stride, pads)
  rows = min(_ROWS, h)
  more = -h % rows  # rows of zeros, to fill the last group
  below = ((0, 0), (0, more), (0, 0), (0, 0))
  dy = jnp.pad(dy, below)
  phases = [[jnp.pad(phase, below) for phase in row] for row in phases]
  # Or XLA would pad anew in each tap, and fuse the taps with their reductions.
  phases, dy = lax.optimization_barrier((phases, dy))
  groups = (len(dy), (h + more) // rows, rows)
  dy = dy.reshape(*groups, w, -1).astype(jnp.float32)

  def tap(a: int, b: int) -> Array:
    phase, top, left = phases[a % stride][b % stride], a // stride, b // stride
    phase = phase[:, top : top + h + more]
    phase = phase.reshape(*groups, *phase.shape[2:]).astype(jnp.float32)
    return sum(
      phase[:, :, r, left : left + w] * dy[:, :, r] for r in range(rows)
    )

  taps = [tap(a, b) for a in range(kh) for b in range(kw)]
  taps = lax.optimization_barrier(taps)
  ones = jnp.ones((1, taps[0].size // shape[-1]))
  # As fast as sums, which YNNPACK would get, each as a program of its own.
  sums = [ones @ t.reshape(-1, shape[-1]) for t in taps]
  return jnp.concatenate(sums).reshape(shape)
