"""Convolutions with a border of one pixel, as XLA's CPU likes them.

3x3 ones, which the border leaves the size of the map, and 2x2 ones, which are
one pixel larger (`joined` needs them). Identical forms, for the library that
`forms.compiler_options` has XLA hand them to:

- `few_channels`, where up to three are read;
- taps: where a 3x3 kernel makes far fewer channels than it reads, pixels are
  multiplied by all its taps where they are, and what few channels that makes are
  shifted and added;
- `winograd`, where channels are many on both sides;
- pairs: where few are made, two neighbouring pixels of a row are made at once,
  as twice the channels of a convolution of stride 2, whose kernel holds two
  shifted copies of the kernel and zeros;
- turned about: where few channels were made of more, the gradient of the kernel
  is that of a convolution of the output's gradient, which the library then cuts
  into the patches, to the input;
- the gradient of the kernel reads an image that is padded beforehand: the
  library is up to four times slower where it has to pad by itself.

What was measured is in docs/benchmarks.md; `scripts/forms.py` measures again.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxderm.models import winograd
from jaxderm.models.few_channels import are_few, conv_few

Array = jax.Array
_FEW = 24  # channels that are made in pairs, or whose gradient is turned about
_FEWER = 6  # times fewer channels than are read


@jax.custom_vjp
def conv_bordered(x: Array, kernel: Array) -> Array:
  """Convolves [B, H, W, C], bordered by zeros, with [k, k, C, D]; k is 2 or 3.

  Returns:
    [B, H + 3 - k, W + 3 - k, D].
  """
  return _convolve(x, kernel, border=1)


# Both are traced once for all layers of a shape.
@jax.jit
def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
  return _convolve(x, kernel, border=1), (x, kernel)


@jax.jit
def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  x, kernel = saved
  flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  dx = _convolve(dy, flipped, border=kernel.shape[0] - 2)
  return dx, _kernel_gradient(x, kernel, dy)


conv_bordered.defvjp(_forward, _backward)


def _convolve(x: Array, kernel: Array, border: int) -> Array:
  size, _, c, d = kernel.shape
  if are_few(x, kernel):
    return conv_few(x, kernel, 1, ((border, border),) * 2)
  if _is_exact3x3(x, kernel):
    if c >= _FEWER * d:
      return _by_taps(x, kernel)
    if winograd.pays(x.shape, d):
      return winograd.convolve(x, kernel)
  if size == 2 or d > _FEW or x.shape[2] % 2:
    return _lax(x, kernel, border)
  return _in_pairs(x, kernel)


def _is_exact3x3(x: Array, kernel: Array) -> bool:
  """Whether sums may be taken apart: in bfloat16 they would lose digits."""
  return kernel.shape[0] == 3 and x.dtype == kernel.dtype == jnp.float32


def _in_pairs(x: Array, kernel: Array) -> Array:
  copies = [
    jnp.pad(kernel, ((0, 0), shift, (0, 0), (0, 0)))
    for shift in [(0, 1), (1, 0)]
  ]
  pairs = jnp.concatenate(copies, axis=-1)
  y = _lax(x, pairs, border=1, columns=2)
  return y.reshape(*x.shape[:3], -1)


def _by_taps(x: Array, kernel: Array) -> Array:
  b, h, w, c = x.shape
  y = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)
  y = jnp.pad(y.reshape(b, h, w, -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
  taps = jnp.split(y, 9, axis=-1)
  shifted = [taps[k][:, k // 3 :, k % 3 :][:, :h, :w] for k in range(9)]
  return functools.reduce(jnp.add, shifted)


def _kernel_gradient(x: Array, kernel: Array, dy: Array) -> Array:
  size, _, c, d = kernel.shape
  if _is_exact3x3(x, kernel) and winograd.pays(x.shape, d, gradient=True):
    return winograd.kernel_gradient(x, dy)
  if size == 3 and d <= _FEW and d < c:
    turned = _kernel_gradient(dy, kernel.swapaxes(2, 3), x)
    return jnp.flip(turned, (0, 1)).swapaxes(2, 3)
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  # Fused with the transpose that comes next, the padding takes half as long
  # again.
  padded = lax.optimization_barrier(padded)
  _, back = jax.vjp(lambda k: _lax(padded, k, border=0), kernel)
  return back(dy)[0]


def _lax(x: Array, kernel: Array, border: int, columns: int = 1) -> Array:
  """That of lax; `columns` is the stride along a row."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, columns),
    [(border, border)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
