"""Winograd's convolutions are nearly as exact as a plain sum of products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.models import layers, winograd
from jaxderm.models.forms import use_form


def plain(x, kernel):
  with use_form('lax'):
    return layers.conv(x, kernel)


def plain_gradient(x, dy):
  kernel = jnp.zeros((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
  return jax.vjp(lambda k: plain(x, k), kernel)[1](dy)[0]


def exact(x, kernel, dy):
  """The output and the gradient of the kernel, in float64."""
  h, w = x.shape[1:3]
  padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
  y, gradient = 0, np.zeros(kernel.shape)
  for i, j in np.ndindex(3, 3):
    seen = padded[:, i : i + h, j : j + w]
    y = y + seen @ kernel[i, j].astype(np.float64)
    gradient[i, j] = np.einsum('bhwc,bhwd->cd', seen, dy.astype(np.float64))
  return y, gradient


@pytest.mark.parametrize('side', [(6, 8), (7, 5), (1, 1), (2, 9)])
# Maps after ReLU have a mean, and differences of pixels are taken.
@pytest.mark.parametrize('mean', [0, 10])
def test_is_nearly_as_exact_as_the_plain_sum(side, mean):
  rng = np.random.default_rng(0)
  x = (mean + rng.normal(size=(2, *side, 40))).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 40, 24)).astype(np.float32)
  dy = rng.normal(size=(2, *side, 24)).astype(np.float32)
  found = quick_jit(
    lambda x, kernel, dy: (
      (winograd.convolve(x, kernel), winograd.kernel_gradient(x, dy)),
      (plain(x, kernel), plain_gradient(x, dy)),
    )
  )(x, kernel, dy)
  for ours, usual, right in zip(*found, exact(x, kernel, dy), strict=True):
    assert ours.shape == right.shape
    off, usually = (
      np.sqrt(np.mean((np.asarray(v) - right) ** 2)) for v in (ours, usual)
    )
    scale = np.sqrt(np.mean(right**2))
    assert off < max(3 * usually, 3e-7 * scale)


def test_by_hand():
  """A kernel that adds up its row: 1 2 3 4 becomes 3 6 9 7."""
  x = jnp.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[1].set(1)
  assert winograd.convolve(x, kernel).ravel().tolist() == [3, 6, 9, 7]
  # Each tap is multiplied by what it saw; the row above and below, by nothing.
  gradient = winograd.kernel_gradient(x, jnp.ones((1, 1, 4, 1)))
  assert gradient[..., 0, 0].tolist() == [[0] * 3, [6, 10, 9], [0] * 3]


@pytest.mark.parametrize(
  'shape, features, forward, gradient',
  [
    ((1, 32, 32, 176), 176, True, True),
    ((1, 31, 32, 176), 176, True, True),
    ((1, 16, 32, 176), 176, False, False),  # too few products
    ((8, 64, 64, 64), 64, True, False),
    ((8, 64, 64, 64), 95, True, False),
    ((8, 64, 64, 96), 96, True, True),
    ((8, 64, 64, 47), 400, False, False),  # too few channels
    ((8, 64, 64, 400), 47, False, False),
    ((2, 16, 16, 384), 384, False, False),  # as many taps as pixels
  ],
)
def test_where_it_pays(shape, features, forward, gradient):
  assert winograd.pays(shape, features) == forward
  assert winograd.pays(shape, features, gradient=True) == gradient
