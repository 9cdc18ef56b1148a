"""Depthwise convolutions: what they compute, and that nothing is copied."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import assert_forms_agree, normal, quick_jit

from jaxderm.models import depthwise, layers
from jaxderm.models.forms import compiler_options, use_form

# Of the last some taps read nothing.
SIZES = [(8, 8), (7, 10), (2, 3)]


@pytest.fixture(params=[1, 2], ids=['one device', 'two devices'])
def devices(request, monkeypatch):
  """All images in one line, or each by itself, where devices share them out."""
  monkeypatch.setattr(depthwise.jax, 'device_count', lambda: request.param)
  jax.clear_caches()
  yield
  jax.clear_caches()


@pytest.mark.parametrize(
  'size, stride, padding',
  [
    (3, 1, 'SAME'),
    (5, 1, 'SAME'),
    (3, 2, 'SAME'),
    (5, 2, 'SAME'),
    (3, 2, ((0, 1), (1, 0))),
    (5, 2, ((2, 2), (2, 2))),
    (4, 1, 'SAME'),
    (1, 2, 'SAME'),
    (1, 1, ((2, 1), (0, 3))),  # more zeros than the kernel reaches
    (3, 1, ((-1, 2), (3, -1))),  # fewer than none: cut off
    (3, 2, ((5, 0), (-1, 4))),
  ],
)
def test_equals_lax(size, stride, padding, devices):
  """Forward and both gradients, at even, odd and non-square sizes."""
  assert_forms_agree(
    lambda x, k: layers.depthwise_conv(x, k, stride, padding),
    channels=3,
    kernel=(size, size, 1, 3),
    sizes=SIZES,
  )


@pytest.mark.parametrize('kernel', [(3, 3), (5, 2), (1, 3)])
@pytest.mark.parametrize('stride', [1, 2])
def test_valid_equals_lax(kernel, stride):
  assert_forms_agree(
    lambda x, k: layers.depthwise_conv(x, k, stride, 'VALID'),
    channels=3,
    kernel=(*kernel, 1, 3),
  )


@pytest.mark.parametrize('stride', [1, 2])
def test_what_is_not_finite_stays_where_it_is_read(stride, devices):
  """The line of pixels goes on: to the next row, and to the next image."""

  def both_ways(form, x, dy, kernel):
    with use_form(form):
      y, back = jax.vjp(lambda x: layers.depthwise_conv(x, kernel, stride), x)
      return y, *back(dy)

  side = 8 // stride
  x, dy = np.array(normal(0, 3, 8, 8, 2)), np.array(normal(1, 3, side, side, 2))
  for broken in x, dy:
    broken[1] = np.nan
    broken[0, 2, -1] = broken[2, 3, 0] = np.inf
  ours = both_ways('cpu', x, dy, normal(2, 3, 3, 1, 2))
  x, dy = (np.where(np.isfinite(broken), 0.0, 1.0) for broken in (x, dy))
  reads = both_ways('lax', x, dy, np.ones((3, 3, 1, 2)))
  for value, touched in zip(ours, reads, strict=True):
    np.testing.assert_array_equal(~np.isfinite(value), touched > 0.5)


@pytest.mark.parametrize('stride', [1, 2])
def test_second_derivatives_equal_those_of_lax(stride):
  """Of a gradient penalty, by image and by kernel."""

  def penalty(form, x, kernel):
    def value(x, kernel):
      y = layers.depthwise_conv(x, kernel, stride)
      return jnp.sum(jnp.sin(y))

    with use_form(form):
      gradients = jax.grad(value, (0, 1))(x, kernel)
    return sum(jnp.sum(g**3) for g in gradients)

  x, kernel = normal(0, 2, 6, 7, 3), normal(1, 3, 3, 1, 3)
  ours, theirs = quick_jit(
    lambda: [
      jax.grad(partial(penalty, form), (0, 1))(x, kernel)
      for form in ('cpu', 'lax')
    ]
  )()
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('size', [3, 5])
def test_no_map_is_copied(size):
  """Not padded either: the forward pass needs no memory beside its output."""
  x = jax.ShapeDtypeStruct((4, 32, 32, 32), jnp.float32)
  kernel = jax.ShapeDtypeStruct((size, size, 1, 32), jnp.float32)
  with use_form('cpu'):
    program = jax.jit(
      layers.depthwise_conv, compiler_options=compiler_options()
    ).lower(x, kernel)
  memory = program.compile().memory_analysis()
  whole = 4 * x.size
  assert memory.output_size_in_bytes == whole
  assert memory.temp_size_in_bytes < whole / 20


def test_no_map_is_transposed():
  """XLA would have the images of a pixel side by side, and copy each map."""

  def both_ways(x, kernel):
    y, back = jax.vjp(layers.depthwise_conv, x, kernel)
    return y, *back(y)

  x = jax.ShapeDtypeStruct((4, 16, 16, 32), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 1, 32), jnp.float32)
  with use_form('cpu'):
    program = jax.jit(both_ways, compiler_options=compiler_options())
    text = program.lower(x, kernel).compile().as_text()
  layouts = re.findall(r'f32\[4,16,16,32\]\{([\d,]+)\}', text)
  assert set(layouts) == {'3,2,1,0'}


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='XLA for the CPU')
@pytest.mark.parametrize('size, loops', [(3, 1), (5, 2)])
def test_rows_of_a_kernel_share_a_loop(size, loops):
  """Its gradient reads each map once for up to three columns of the kernel."""
  x = jax.ShapeDtypeStruct((4, 16, 16, 32), jnp.float32)
  kernel = jax.ShapeDtypeStruct((size, size, 1, 32), jnp.float32)

  def gradient(x, kernel, dy):
    _, back = jax.vjp(partial(layers.depthwise_conv, x), kernel)
    return back(dy)[0]

  with use_form('cpu'):
    program = jax.jit(gradient, compiler_options=compiler_options())
    text = program.lower(x, kernel, x).compile().as_text()
  # Loops that make several arrays, each of eight rows added up.
  made = re.findall(r'= \((f32\[.*)\) fusion\(', text)
  assert len(made) == loops
  for arrays in made:
    assert f'f32[4,2,16,{size},32]' in arrays


def test_sums_bfloat16_in_float32():
  # 1 + 24 * 2**-8 is 1.09375; bfloat16 drops each 2**-8 when added to 1.
  kernel = jnp.full((5, 5, 1, 1), 2.0**-8).at[0, 0].set(1.0)
  image = jnp.ones((1, 5, 5, 1), jnp.bfloat16)
  with use_form('cpu'):
    y = layers.depthwise_conv(image, kernel.astype(jnp.bfloat16), 1, 'VALID')
  assert y.dtype == jnp.bfloat16
  assert float(y[0, 0, 0, 0]) == 1.09375


@pytest.mark.parametrize(
  'kernel, stride, message',
  [((3, 3, 1, 3), 3, 'expected 1 or 2'), ((3, 3, 3, 1), 1, r'\[k, k, 1, 3\]')],
)
def test_refuses(kernel, stride, message):
  with pytest.raises(ValueError, match=message):
    layers.depthwise_conv(jnp.ones((1, 8, 8, 3)), jnp.ones(kernel), stride)
