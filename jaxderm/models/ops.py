"""Pure functions of feature maps: convolutions, pools, upsampling.

Forms are chosen for what XLA makes of them; each says what it replaces.
"""

import functools
from collections.abc import Iterable, Sequence

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxderm.models.conv1x1 import conv1x1
from jaxderm.models.depthwise import depthwise_conv
from jaxderm.models.few_channels import are_few, conv_few
from jaxderm.models.forms import form
from jaxderm.models.joined import Joined, convolve, repeat
from jaxderm.models.padding import explicit
from jaxderm.models.pool import max_pool, max_unpool

__all__ = [
  'UPSAMPLINGS',
  'append_channels',
  'avg_pool',
  'channel_shuffle',
  'choose',
  'conv',
  'conv_transpose_2x2',
  'conv_transpose_3x3',
  'depthwise_conv',
  'global_mean',
  'max_pool',
  'max_unpool',
  'scaled',
  'upsample',
  'upsample_aligned',
]

Array = jax.Array
UPSAMPLINGS = ('nearest', 'bilinear')
MOST_PARTS = 8  # of a grouped convolution on the CPU


def choose(kind: str, name: str, options: Iterable[str]) -> str:
  """Returns `name` if it is one of the options.

  Raises:
    ValueError: that names the options, if it is not.
  """
  options = tuple(options)
  if name not in options:
    raise ValueError(f'{kind} {name!r}: expected one of {", ".join(options)}')
  return name


def scaled(features: int, width: float, divisor: int = 8) -> int:
  """Channels times `width`, to a multiple of 8, not below nine tenths of it."""
  exact = features * width
  rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * exact else rounded


def conv(
  x: Array | Joined,
  kernel: Array,
  stride: int = 1,
  padding: str | Sequence[tuple[int, int]] = 'SAME',
  groups: int = 1,
) -> Array:
  """Convolves [B, H, W, C] with a kernel [k, l, C / groups, D]."""
  bordered = _is_bordered3x3(kernel, stride, padding, groups)
  if isinstance(x, Joined) and not (bordered and kernel.dtype == jnp.float32):
    # In bfloat16 sums of weights would lose digits.
    x = x.whole()
  unpadded = isinstance(padding, str) or not np.any(padding)
  if kernel.shape[:2] == (1, 1) and unpadded:
    if groups == 1:
      return conv1x1(x[:, ::stride, ::stride], kernel[0, 0])
    if form() == 'cpu':
      return _grouped_product(x[:, ::stride, ::stride], kernel[0, 0], groups)
  elif groups > 1 and form() == 'cpu':
    return _grouped_conv(x, kernel, stride, padding, groups)
  if kernel.shape[:2] == x.shape[1:3] and groups == 1 and padding == 'VALID':
    # A dense layer on the flattened map, as such four times faster.
    return jnp.einsum('bhwc,hwcd->bd', x, kernel)[:, None, None]
  if bordered and (isinstance(x, Joined) or form() == 'cpu'):
    return convolve(x, kernel)
  if groups == 1 and form() == 'cpu' and are_few(x, kernel):
    pads = explicit(padding, x.shape[1:3], kernel.shape[:2], stride)
    y = conv_few(x, kernel, stride, pads)
  else:
    y = lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )
  return y


def _is_bordered3x3(kernel, stride, padding, groups) -> bool:
  if kernel.shape[:2] != (3, 3) or stride != 1 or groups != 1:
    return False
  if isinstance(padding, str):
    return padding == 'SAME'
  return [tuple(pair) for pair in padding] == [(1, 1), (1, 1)]


def _grouped_product(x: Array, kernel: Array, groups: int) -> Array:
  """A matrix product for each group; the kernel is [C / groups, D]."""
  pixels = einops.rearrange(x, 'b h w (g c) -> g (b h w) c', g=groups)
  y = pixels @ einops.rearrange(kernel, 'c (g d) -> g c d', g=groups)
  b, h, w, _ = x.shape
  return einops.rearrange(y, 'g (b h w) d -> b h w (g d)', b=b, h=h, w=w)


def _grouped_conv(
  x: Array,
  kernel: Array,
  stride: int,
  padding: str | Sequence[tuple[int, int]],
  groups: int,
) -> Array:
  """A few plain convolutions, each of some groups with zeros between them.

  XLA's gradient of a grouped convolution takes seconds on the CPU. The zeros
  cost less than many convolutions of few channels do: in parts of an eighth,
  the 32 groups of ResNeXt50 are 50 to 190 times faster.
  """
  parts = max(n for n in range(1, MOST_PARTS + 1) if groups % n == 0)
  kernel = einops.rearrange(
    kernel, 'k l c (p g d) -> p k l c g d', p=parts, g=groups // parts
  )
  own = jnp.eye(groups // parts, dtype=bool)[:, None, :, None]
  kernel = jnp.where(own, kernel[:, :, :, None], 0)
  kernels = einops.rearrange(kernel, 'p k l a c g d -> p k l (a c) (g d)')
  pieces = [
    conv(part, each, stride, padding)
    for part, each in zip(jnp.split(x, parts, axis=-1), kernels, strict=True)
  ]
  return jnp.concatenate(pieces, axis=-1)


def avg_pool(
  x: Array,
  size: int = 2,
  stride: int = 2,
  padding: str | Sequence[tuple[int, int]] = 'VALID',
  count_padding: bool = False,
) -> Array:
  """Mean of each window, of the pixels in it unless `count_padding` (torch)."""
  if form() == 'cpu' and max(size - 1, stride) <= 2:
    # Sums of shifted slices: of 3x3, three to nine times faster than XLA's.
    pads = explicit(padding, x.shape[1:3], (size, size), stride)
    ones = jnp.ones((size, size, 1, x.shape[-1]), x.dtype)
    total = depthwise_conv(x, ones, stride, pads)
    if count_padding:
      return total / size**2
    rows, columns = (
      _inside(n, size, stride, pad)
      for n, pad in zip(x.shape[1:3], pads, strict=True)
    )
    return total / jnp.asarray(rows[:, None, None] * columns[:, None], x.dtype)
  y = nn.avg_pool(x, (size, size), (stride, stride), padding, count_padding)
  return y.astype(x.dtype)  # the number of pixels in a window is float32


def _inside(size: int, window: int, stride: int, pad: tuple[int, int]):
  """How many pixels of an axis each window along it has."""
  starts = np.arange(0, size + sum(pad) - window + 1, stride) - pad[0]
  return np.minimum(starts + window, size) - np.maximum(starts, 0)


@jax.custom_vjp
def append_channels(x: Array, y: Array) -> Array:
  """Puts the channels of `y` behind those of `x`, as a dense block grows.

  The gradient of what has grown is a sum, over all layers that come later. XLA
  would add it up anew wherever a part of it is read, all along the block; here
  it is added up once, before it is parted.

  Args:
    x: [..., C].
    y: [..., D].
  """
  return jnp.concatenate([x, y], axis=-1)


def _append_forward(x: Array, y: Array) -> tuple[Array, Array]:
  # An array of no size, for the number of channels.
  return append_channels(x, y), jnp.zeros((0, x.shape[-1]))


def _append_backward(like: Array, gradient: Array) -> tuple[Array, ...]:
  gradient = lax.optimization_barrier(gradient)
  return tuple(jnp.split(gradient, [like.shape[-1]], axis=-1))


append_channels.defvjp(_append_forward, _append_backward)


def global_mean(x: Array) -> Array:
  """Mean over the pixels, [B, 1, 1, C]."""
  return jnp.mean(x, axis=(1, 2), keepdims=True)


def channel_shuffle(x: Array, groups: int) -> Array:
  """Deals the channels of each group to all groups (arXiv:1707.01083)."""
  return einops.rearrange(x, 'b h w (g c) -> b h w (c g)', g=groups)


def upsample(x: Array, kind: str = 'nearest', factor: int = 2) -> Array:
  """Enlarges both sides by a whole factor, without parameters.

  Args:
    x: [B, H, W, C].
    kind: 'nearest', or 'bilinear' between pixel centres (align_corners=False).
  """
  choose('upsampling', kind, UPSAMPLINGS)
  if kind == 'nearest':
    return repeat(x, factor)
  b, h, w, c = x.shape
  return jax.image.resize(x, (b, h * factor, w * factor, c), 'bilinear')


def upsample_aligned(x: Array) -> Array:
  """Doubles both sides, bilinear with corner on corner (align_corners=True).

  Pixel k of 2n lies at k (n - 1) / (2n - 1) of the n: an even one i / (2n - 1)
  before pixel i, where k = 2i; the odd ones are the same from the other end.

  Args:
    x: [B, H, W, C].
  """
  return _double(_double(x, 1), 2)


def _double(x: Array, axis: int) -> Array:
  n = x.shape[axis]
  cut = functools.partial(lax.slice_in_dim, x, axis=axis)
  before = jnp.concatenate([cut(0, 1), cut(0, n - 1)], axis)
  after = jnp.concatenate([cut(1, n), cut(n - 1, n)], axis)
  way = np.arange(n, dtype=np.float32) / (2 * n - 1)
  way = np.expand_dims(way, tuple(range(1, x.ndim - axis)))
  even, odd = x + way * (before - x), x + way[::-1] * (after - x)
  both = jnp.stack([even, odd], axis + 1).astype(x.dtype)
  return both.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


def conv_transpose_2x2(x: Array, kernel: Array) -> Array:
  """Transposed convolution of stride 2 ("T2"): y[2i + a] = x[i] kernel[a].

  Args:
    x: [B, H, W, C].
    kernel: [2, 2, C, D], in the order of taps that Keras and torch have.

  Returns:
    [B, 2H, 2W, D].
  """
  columns = einops.rearrange(kernel, 'p q c d -> c (p q d)')
  return einops.rearrange(
    conv1x1(x, columns), 'b h w (p q d) -> b (h p) (w q) d', p=2, q=2
  )


def conv_transpose_3x3(x: Array, kernel: Array) -> Array:
  """Transposed convolution of stride 2 ("T3"), cropped as Keras' 'same' does.

  y[2i] = x[i] kernel[0] + x[i - 1] kernel[2] and y[2i + 1] = x[i] kernel[1]
  along each axis, so each of the four phases of the output is a small
  convolution. XLA's dilated form is up to thirty times slower on the CPU.

  Args:
    x: [B, H, W, C].
    kernel: [3, 3, C, D], in the order of taps that Keras has.

  Returns:
    [B, 2H, 2W, D].
  """
  even, odd = slice(None, None, -2), slice(1, 2)

  def phase(rows: slice, columns: slice) -> Array:
    pads = [(int(axis is even), 0) for axis in (rows, columns)]
    return conv(x, kernel[rows, columns], padding=pads)

  # A list of lists of phases becomes two new axes.
  phases = jnp.stack(
    [
      jnp.stack([phase(rows, columns) for columns in (even, odd)])
      for rows in (even, odd)
    ]
  )
  return einops.rearrange(phases, 'p q b h w d -> b (h p) (w q) d')
