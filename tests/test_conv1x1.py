"""1x1 convolutions as products, and which way about their gradients are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.models import conv1x1
from jaxderm.models.forms import compiler_options, use_form


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def results(form, channels, features, dtype=jnp.float32):
  """Forward and both gradients."""
  x = normal(0, 2, 3, 5, channels).astype(dtype)
  kernel = normal(1, channels, features).astype(dtype)
  with use_form(form):
    y, back = jax.vjp(conv1x1.conv1x1, x, kernel)
    return y, *back(normal(2, *y.shape).astype(dtype))


def test_by_hand():
  x = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])
  kernel = jnp.array([[1.0], [10.0]])
  with use_form('cpu'):
    y, back = jax.vjp(conv1x1.conv1x1, x, kernel)
  assert y.tolist() == [[[[21.0], [43.0]]]]
  dx, dkernel = back(jnp.array([[[[1.0], [2.0]]]]))
  assert dx.tolist() == [[[[1.0, 10.0], [2.0, 20.0]]]]
  assert dkernel.tolist() == [[7.0], [10.0]]


@pytest.mark.parametrize('channels, features', [(6, 3), (3, 6), (4, 4)])
def test_equals_lax(channels, features):
  ours, theirs = quick_jit(
    lambda: [results(f, channels, features) for f in ('cpu', 'lax')]
  )()
  for a, b in zip(ours, theirs, strict=True):
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()


def test_bfloat16_stays():
  assert {a.dtype for a in results('cpu', 6, 3, jnp.bfloat16)} == {
    jnp.dtype('bfloat16')
  }


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='XLA for the CPU')
@pytest.mark.parametrize(
  'channels, features, product', [(24, 8, (8, 24)), (8, 24, (8, 24))]
)
def test_the_narrower_matrix_is_read_transposed(channels, features, product):
  """Also in what XLA makes of it, which turns products about if it may."""
  pixels, dy = normal(0, 64, channels), normal(1, 64, features)
  lowered = jax.jit(conv1x1._kernel_gradient).lower(pixels, dy)
  text = lowered.compile(compiler_options=compiler_options()).as_text()
  [dot] = [line for line in text.split('\n') if ' dot(' in line]
  assert f'f32[{product[0]},{product[1]}]' in dot.split(' dot(')[0]
