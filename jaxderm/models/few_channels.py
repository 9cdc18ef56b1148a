"""Convolutions that read few channels, such as those of images.

XLA's library for the CPU cuts the image into patches first, which for three
channels takes longer than the sums themselves. Here each channel is multiplied
by its taps and added, nine of them in a loop, whose numbers registers hold.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxderm.models.padding import Pads

Array = jax.Array
_AT_ONCE = 9  # products in a loop


def are_few(x: Array, kernel: Array) -> bool:
  """Whether this form is the faster: up to three channels, and taps to match.

  In bfloat16 sums taken apart would lose digits.
  """
  exact = x.dtype == kernel.dtype == jnp.float32
  return exact and x.shape[-1] <= 3 and kernel.shape[:2] == (3, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_few(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
  """Convolves [B, H, W, C] with a kernel [k, l, C, D], as `lax` does.

  Returns:
    [B, H', W', D].
  """
  return _forward(x, kernel, stride, pads)[0]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _forward(x: Array, kernel: Array, stride: int, pads: Pads):
  (kh, kw, channels, _), padded = kernel.shape, _pad(x, pads)
  rows, columns = (
    stride * ((n - k) // stride) + 1
    for n, k in zip(padded.shape[1:3], (kh, kw), strict=True)
  )
  places = list(np.ndindex(kh, kw, channels))
  total = jnp.zeros((), x.dtype)
  for first in range(0, len(places), _AT_ONCE):
    total = lax.optimization_barrier(total)
    for i, j, k in places[first : first + _AT_ONCE]:
      part = padded[:, i : i + rows : stride, j : j + columns : stride]
      total += part[..., k : k + 1] * kernel[i, j, k]
  return total, (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(stride: int, pads: Pads, saved, dy: Array):
  x, kernel = saved

  def plain(padded: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
      padded,
      kernel,
      (stride, stride),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  dx, dkernel = jax.vjp(plain, _pad(x, pads), kernel)[1](dy)
  back = [(-before, -after, 0) for before, after in ((0, 0), *pads, (0, 0))]
  return lax.pad(dx, jnp.zeros((), dx.dtype), back), dkernel


conv_few.defvjp(_forward, _backward)


def _pad(x: Array, pads: Pads) -> Array:
  # Padded in the loop that reads it, it takes twice as long.
  return lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
