"""3x3 convolutions with their own gradients, as XLA's CPU likes them.

Two identical forms, both for the library that `forms.compiler_options` has XLA
hand them to:

- pairs: where few channels are made, two neighbouring pixels of a row are made
  at once, as twice the channels of a convolution of stride 2, whose kernel
  holds two shifted copies of the kernel and zeros;
- the gradient of the kernel reads an image that is padded beforehand: the
  library is up to four times slower where it has to pad by itself.

What was measured is in docs/benchmarks.md; `scripts/forms.py` measures again.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
_FEW = 16  # channels that are made in pairs


@jax.custom_vjp
def conv3x3(x: Array, kernel: Array) -> Array:
  """Convolves [B, H, W, C] with [3, 3, C, D], 'SAME', to [B, H, W, D]."""
  return _convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
  return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  x, kernel = saved
  flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  return _convolve(dy, flipped), _kernel_gradient(x, kernel, dy)


conv3x3.defvjp(_forward, _backward)


def _convolve(x: Array, kernel: Array) -> Array:
  if kernel.shape[3] > _FEW or x.shape[2] % 2:
    return _lax(x, kernel, padding='SAME')
  copies = [
    jnp.pad(kernel, ((0, 0), shift, (0, 0), (0, 0)))
    for shift in [(0, 1), (1, 0)]
  ]
  pairs = jnp.concatenate(copies, axis=-1)
  y = _lax(x, pairs, columns=2, padding=((1, 1), (1, 1)))
  return y.reshape(*x.shape[:3], -1)


def _kernel_gradient(x: Array, kernel: Array, dy: Array) -> Array:
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  # Fused with the transpose that comes next, the padding takes half as long
  # again.
  padded = lax.optimization_barrier(padded)
  _, back = jax.vjp(lambda k: _lax(padded, k, padding='VALID'), kernel)
  return back(dy)[0]


def _lax(x: Array, kernel: Array, padding, columns: int = 1) -> Array:
  """That of lax; `columns` is the stride along a row."""
  return lax.conv_general_dilated(
    x, kernel, (1, columns), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
