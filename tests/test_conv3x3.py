"""The forms of 3x3 convolutions are what lax computes, and are those meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import assert_forms_agree, normal, quick_jit

from jaxderm.models import conv3x3, forms, layers
from jaxderm.models.forms import use_form


def results(form, image, channels, features, dtype=jnp.float32):
  """Forward and both gradients."""
  x = normal(0, *image, channels).astype(dtype)
  kernel = normal(1, 3, 3, channels, features).astype(dtype)
  with use_form(form):
    y, back = jax.vjp(layers.conv, x, kernel)
    return y, *back(normal(2, *y.shape).astype(dtype))


# Images and channels; how forward and the gradient of the image are made.
CASES = [
  ((2, 8, 12), 8, 8),  # both in pairs
  ((2, 8, 12), 5, 26),  # neither, in pairs
  ((1, 7, 10), 20, 16),  # in pairs, neither
  ((2, 6, 7), 4, 8),  # an odd row has no pairs
  ((3, 5, 6), 40, 26),  # neither
  ((2, 7, 6), 30, 5),  # by taps, neither
  ((2, 4, 5), 1, 18),  # by products, by taps
  ((2, 5, 6), 3, 20),  # by products, in pairs
  ((2, 5, 7), 9, 2),  # neither, by products
  ((1, 32, 32), 176, 176),  # both by Winograd's, and the gradient of the kernel
]


@pytest.mark.parametrize('image, channels, features', CASES)
def test_equals_lax(image, channels, features):
  ours, theirs = quick_jit(
    lambda: [results(f, image, channels, features) for f in ('cpu', 'lax')]
  )()
  for a, b in zip(ours, theirs, strict=True):
    assert np.abs(a - b).max() < 3e-6 * np.abs(b).max()


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
  'stride, padding',
  [(2, 'SAME'), (2, [(1, 1)] * 2), (2, 'VALID'), (1, [(0, 2), (1, 0)])],
)
def test_few_channels_equal_lax(channels, stride, padding):
  assert_forms_agree(
    lambda x, k: layers.conv(x, k, stride, padding),
    channels=channels,
    kernel=(3, 3, channels, 8),
  )


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
    jaxpr = jax.make_jaxpr(conv3x3._convolve, static_argnums=2)(x, kernel, 1)
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
    ((2, 8, 12), 64, 24, (1, 2), (2, 8, 12, 64), (2, 8, 6, 48)),
    ((2, 8, 12), 8, 25, (1, 1), (2, 8, 12, 8), (2, 8, 12, 25)),
    ((2, 8, 11), 8, 8, (1, 1), (2, 8, 11, 8), (2, 8, 11, 8)),
  ],
)
def test_form(image, channels, features, strides, seen, made):
  assert windows(image, channels, features) == [(strides, seen, made)]


def products(dtype, *shapes):
  """Convolutions and products of matrices of 3x3 and its two gradients.

  Args:
    dtype: Of all.
    *shapes: Of the image and of the output.
  """
  x, dy = (jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
  size = (3, 3, x.shape[-1], dy.shape[-1])
  kernel = jax.ShapeDtypeStruct(size, dtype)

  def count(function, *arguments):
    text = str(jax.make_jaxpr(function)(*arguments))
    return text.count(' conv_general_dilated['), text.count(' dot_general[')

  return [
    count(lambda x, k: conv3x3._convolve(x, k, 1), x, kernel),
    count(conv3x3._backward, (x, kernel), dy),
  ]


# Of Winograd's, one product for each of 16 sums, and two for the sums of taps. In
# the gradient of the kernel lax has a second convolution, which nobody reads.
LARGE = (1, 32, 32, 176)


@pytest.mark.parametrize(
  'dtype, image, features, expected',
  [
    (jnp.float32, LARGE, 176, [(0, 18), (0, 36)]),
    (jnp.float32, (1, 16, 16, 176), 176, [(1, 0), (3, 0)]),  # too small
    (jnp.float32, (2, 8, 8, 3), 40, [(0, 0), (2, 1)]),  # products, taps
    (jnp.float32, (2, 128, 128, 64), 64, [(0, 18), (2, 18)]),  # few channels
    (jnp.float32, (2, 128, 128, 47), 60, [(1, 0), (3, 0)]),  # fewer
    (jnp.float32, (1, 8, 8, 704), 704, [(1, 0), (3, 0)]),  # few tiles
    (jnp.float32, (1, 8, 8, 30), 5, [(0, 1), (3, 0)]),  # by taps
    (jnp.float32, (1, 8, 8, 5), 30, [(1, 0), (2, 1)]),
    (jnp.float32, (1, 8, 8, 29), 5, [(1, 0), (3, 0)]),
    (jnp.bfloat16, LARGE, 176, [(1, 0), (3, 0)]),
    (jnp.bfloat16, (1, 8, 8, 30), 5, [(1, 0), (3, 0)]),
  ],
)
def test_which_form(dtype, image, features, expected):
  assert products(dtype, image, (*image[:3], features)) == expected


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
  x, kernel = normal(0, 1, 8, 8, 4), normal(1, kernel, kernel, 4, 3)
  with use_form('cpu'):
    program = str(
      jax.make_jaxpr(lambda x: layers.conv(x, kernel, stride, padding))(x)
    )
  assert ('custom_vjp' in program) == ours


@pytest.mark.parametrize(
  'channels, features, padded',
  [(3, 4, 3), (4, 4, 4), (5, 4, 4), (25, 24, 24), (26, 25, 26)],
)
def test_the_kernel_gradient_reads_a_padded_image(channels, features, padded):
  """Of the two maps, that of fewer channels where those made are few."""
  x, kernel = normal(0, 2, 8, 8, channels), normal(1, 3, 3, channels, features)
  dy = normal(2, 2, 8, 8, features)
  program = jax.make_jaxpr(conv3x3._kernel_gradient)(x, kernel, dy)
  *_, equation = [
    e for e in program.eqns if e.primitive.name == 'conv_general_dilated'
  ]
  assert equation.invars[0].aval.shape == (2, 10, 10, padded)
  assert equation.params['padding'] == ((0, 0), (0, 0))


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='XLA for the CPU')
def test_programs_keep_convolutions_from_ynnpack():
  x, kernel = normal(0, 2, 32, 32, 32), normal(1, 3, 3, 32, 32)
  lowered = jax.jit(conv3x3.conv_bordered).lower(x, kernel)
  options = forms.compiler_options()
  assert '__ynn' not in lowered.compile(compiler_options=options).as_text()
  if forms._knows_ynnpack():  # where XLA would use it, or the above is empty
    assert '__ynn' in lowered.compile().as_text()
