"""3x3 convolutions with their own gradients, where XLA uses one core of many.

XLA on the CPU hands a convolution to a library that shares out the columns of
a row among the cores: with few columns or few channels all but one stay idle,
and the gradient of a kernel of few channels is slower still. Three identical
forms help, chosen by shape:

- blocks: n neighbouring pixels of a row are made at once, as n D channels of a
  convolution of stride n, whose kernel holds n shifted copies of the kernel and
  zeros. It costs (n + 2) / 3 times the products.
- side by side: images are joined to one of more columns, with a column of zeros
  between them.
- else the convolution of lax.

What was measured is in docs/benchmarks.md; `scripts/forms.py` measures again.
"""

import einops
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


@jax.custom_vjp
def conv3x3(x: Array, kernel: Array) -> Array:
  """Convolves [B, H, W, C] with [3, 3, C, D], 'SAME', to [B, H, W, D]."""
  return _convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
  return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  x, kernel = saved
  flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  return _convolve(dy, flipped), _kernel_gradient(x, dy)


conv3x3.defvjp(_forward, _backward)


def _convolve(x: Array, kernel: Array) -> Array:
  channels, features = kernel.shape[2:]
  if features <= 8 and x.shape[2] % 2 == 0:
    return _blocks(x, _widen(kernel, 2), 2)
  few = features <= 64 or channels * features < 128 * 128
  if features >= 16 and few:
    return _side_by_side(x, kernel)
  return _blocks(x, kernel, 1)


def _blocks(x: Array, widened: Array, n: int) -> Array:
  """Makes n pixels at once with a kernel [3, n + 2, C, n D]."""
  y = lax.conv_general_dilated(
    x,
    widened,
    (1, n),
    [(1, 1), (1, 1)],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return y.reshape(*x.shape[:3], -1)


def _widen(kernel: Array, n: int) -> Array:
  """[3, 3, C, D] to [3, n + 2, C, n D]: copy m is shifted m columns."""
  copies = [
    jnp.pad(kernel, ((0, 0), (m, n - 1 - m), (0, 0), (0, 0))) for m in range(n)
  ]
  return jnp.concatenate(copies, axis=-1)


def _side_by_side(x: Array, kernel: Array) -> Array:
  """Joins as few images as keep the cores busy, if there are so many."""
  images, _, width, channels = x.shape
  columns = _shared_columns(channels)
  enough = (
    m for m in range(1, images + 1) if images % m == 0 and m * width >= columns
  )
  m = next(enough, 1)
  if m == 1:
    return _blocks(x, kernel, 1)
  x = jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))
  x = einops.rearrange(x, '(b m) h w c -> b h (m w) c', m=m)
  y = _blocks(x, kernel, 1)
  y = einops.rearrange(y, 'b h (m w) c -> (b m) h w c', m=m)
  return y[:, :, :width]


def _shared_columns(channels: int) -> int:
  """Columns of a row that the library shares out among cores, as measured."""
  if channels >= 64:
    return 128
  return 256 if channels >= 48 else 2**14 // channels


def _kernel_gradient(x: Array, dy: Array) -> Array:
  """[3, 3, C, D]: that of the widened kernel, its copies added up."""
  channels, features = x.shape[-1], dy.shape[-1]
  n = _pixels_at_once(features, images=x.shape[0])
  if dy.shape[2] % n:
    n = 1
  widened = jnp.zeros((3, n + 2, channels, n * features), dy.dtype)
  _, back = jax.vjp(lambda k: _blocks(x, k, n), widened)
  copies = back(dy)[0].reshape(3, n + 2, channels, n, features)
  wide = copies.astype(jnp.promote_types(dy.dtype, jnp.float32))
  total = sum(wide[:, m : m + 3, :, m] for m in range(n))
  return total.astype(dy.dtype)


def _pixels_at_once(features: int, images: int) -> int:
  """Of a kernel's gradient, as measured: lax adds up over images first."""
  if features <= 8:
    return 4 if images <= 16 else 2
  if features <= 16:
    return 2 if images <= 4 else 1
  if features < 32 and images <= 2:
    return 4
  return 1 if features == 32 or features > 64 else 2
