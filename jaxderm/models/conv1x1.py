"""1x1 convolutions as products of matrices, with their own kernel gradient.

XLA's gradient of a product of matrices is fast; that of a 1x1 convolution is
not, nor is that of a product of maps (both up to six times slower on the CPU).
One thing it leaves open: the kernel's gradient is the transposed input times
the gradient that enters, or the transpose of their product the other way
about. On the CPU the product is up to twice as fast, at few shapes a little
slower, where the matrix that is read transposed is the narrower one.
"""

import jax
from jax import lax

from jaxderm.models.forms import form

Array = jax.Array


def conv1x1(x: Array, kernel: Array) -> Array:
  """Multiplies the pixels of [B, H, W, C] by [C, D], to [B, H, W, D]."""
  b, h, w, c = x.shape
  multiply = _product if form() == 'cpu' else lax.dot
  return multiply(x.reshape(b * h * w, c), kernel).reshape(b, h, w, -1)


@jax.custom_vjp
def _product(pixels: Array, kernel: Array) -> Array:
  return pixels @ kernel


def _forward(pixels: Array, kernel: Array):
  return pixels @ kernel, (pixels, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
  pixels, kernel = saved
  return dy @ kernel.T, _kernel_gradient(pixels, dy)


_product.defvjp(_forward, _backward)


def _kernel_gradient(pixels: Array, dy: Array) -> Array:
  if pixels.shape[1] <= dy.shape[1]:
    return pixels.T @ dy
  # Without the barrier XLA would turn the product about again.
  return lax.optimization_barrier(dy.T @ pixels).T
