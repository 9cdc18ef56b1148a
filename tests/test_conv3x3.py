"""The forms of 3x3 convolutions are what lax computes, and are those meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.models import conv3x3, forms, layers
from jaxderm.models.forms import use_form


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def results(form, image, channels, features, dtype=jnp.float32):
  """Forward and both gradients."""
  x = normal(0, *image, channels).astype(dtype)
  kernel = normal(1, 3, 3, channels, features).astype(dtype)
  with use_form(form):
    y, back = jax.vjp(layers.conv, x, kernel)
    return y, *back(normal(2, *y.shape).astype(dtype))


# Images and channels; which of the three convolutions is made in pairs.
CASES = [
  ((2, 8, 12), 8, 8),  # forward and the gradient of the image
  ((2, 8, 12), 3, 24),  # the gradient of the image only
  ((1, 7, 10), 20, 16),  # forward only
  ((2, 6, 7), 4, 8),  # an odd row has no pairs
  ((3, 5, 6), 40, 24),  # none
]


@pytest.mark.parametrize('image, channels, features', CASES)
def test_equals_lax(image, channels, features):
  ours, theirs = quick_jit(
    lambda: [results(f, image, channels, features) for f in ('cpu', 'lax')]
  )()
  for a, b in zip(ours, theirs, strict=True):
    assert np.abs(a - b).max() < 3e-6 * np.abs(b).max()


@pytest.mark.parametrize('image, channels, features', CASES[:2] + CASES[4:])
def test_bfloat16_is_as_near_as_that_of_lax(image, channels, features):
  exact, ours, theirs = quick_jit(
    lambda: [
      results('lax', image, channels, features),
      results('cpu', image, channels, features, jnp.bfloat16),
      results('lax', image, channels, features, jnp.bfloat16),
    ]
  )()
  for right, a, b in zip(exact, ours, theirs, strict=True):
    assert a.dtype == jnp.bfloat16
    off, usual = (
      np.abs(np.asarray(v, np.float32) - right).max() for v in (a, b)
    )
    assert off <= 1.5 * usual


def windows(image, channels, features):
  """Strides and output channels of the convolutions of a forward pass."""
  x, kernel = normal(0, *image, channels), normal(1, 3, 3, channels, features)
  with use_form('cpu'):
    jaxpr = jax.make_jaxpr(conv3x3._convolve)(x, kernel)
  return [
    (
      e.params['window_strides'],
      e.invars[0].aval.shape,
      e.outvars[0].aval.shape,
    )
    for e in jaxpr.eqns
    if e.primitive.name == 'conv_general_dilated'
  ]


@pytest.mark.parametrize(
  'image, channels, features, strides, seen, made',
  [
    ((2, 8, 12), 8, 8, (1, 2), (2, 8, 12, 8), (2, 8, 6, 16)),
    ((2, 8, 12), 64, 16, (1, 2), (2, 8, 12, 64), (2, 8, 6, 32)),
    ((2, 8, 12), 8, 17, (1, 1), (2, 8, 12, 8), (2, 8, 12, 17)),
    ((2, 8, 11), 8, 8, (1, 1), (2, 8, 11, 8), (2, 8, 11, 8)),
  ],
)
def test_form(image, channels, features, strides, seen, made):
  assert windows(image, channels, features) == [(strides, seen, made)]


@pytest.mark.parametrize(
  'kernel, stride, padding, ours',
  [
    (3, 1, 'SAME', True),
    (3, 1, ((1, 1), (1, 1)), True),
    (3, 1, [(1, 1), (1, 1)], True),
    (3, 2, 'SAME', False),
    (3, 1, 'VALID', False),
    (3, 1, ((0, 1), (1, 1)), False),
    (5, 1, 'SAME', False),
  ],
)
def test_only_what_it_is_for(kernel, stride, padding, ours):
  x, kernel = normal(0, 1, 8, 8, 2), normal(1, kernel, kernel, 2, 3)
  with use_form('cpu'):
    program = str(
      jax.make_jaxpr(lambda x: layers.conv(x, kernel, stride, padding))(x)
    )
  assert ('custom_vjp' in program) == ours


def test_the_kernel_gradient_reads_a_padded_image():
  x, kernel = normal(0, 2, 8, 8, 3), normal(1, 3, 3, 3, 4)
  dy = normal(2, 2, 8, 8, 4)
  program = jax.make_jaxpr(conv3x3._kernel_gradient)(x, kernel, dy)
  *_, equation = [
    e for e in program.eqns if e.primitive.name == 'conv_general_dilated'
  ]
  assert equation.invars[0].aval.shape == (2, 10, 10, 3)
  assert equation.params['padding'] == ((0, 0), (0, 0))


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='XLA for the CPU')
def test_programs_keep_convolutions_from_ynnpack():
  x, kernel = normal(0, 2, 32, 32, 32), normal(1, 3, 3, 32, 32)
  lowered = jax.jit(conv3x3.conv3x3).lower(x, kernel)
  options = forms.compiler_options()
  assert '__ynn' not in lowered.compile(compiler_options=options).as_text()
  if forms._knows_ynnpack():  # where XLA would use it, or the above is empty
    assert '__ynn' in lowered.compile().as_text()
