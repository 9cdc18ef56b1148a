"""Batch normalisation: its set-ups, and its gradient beside flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.models import norm
from jaxderm.models.forms import compiler_options, use_form
from jaxderm.models.layers import BatchNorm, norm_momentum
from jaxderm.models.norm import normalise

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  'origin, epsilon, kept', [('keras', 1e-3, 0.99), ('torch', 1e-5, 0.9)]
)
def test_batch_norm_of_both_origins(origin, epsilon, kept):
  norm = BatchNorm(origin)
  x = jnp.array([0.0, 2.0]).reshape(2, 1, 1, 1)  # mean 1, variance 1
  variables = norm.init(KEY, x)
  assert set(variables['params']) == {'scale', 'bias'}
  _, updated = norm.apply(variables, x, True, mutable=['batch_stats'])
  np.testing.assert_allclose(updated['batch_stats']['mean'], [1 - kept])
  y = norm.apply(variables, x)
  np.testing.assert_allclose(y[1, 0, 0], 2 / np.sqrt(1 + epsilon), rtol=1e-6)


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(4, 5, 3, 6), (32, 6)])
@pytest.mark.parametrize('use_scale', [True, False])
def test_a_step_is_that_of_flax(precision, shape, use_scale):
  x, dy = (draw(k, *shape).astype(precision) for k in (0, 1))
  params = {'bias': draw(2, 6), 'scale': draw(3, 6)}
  params = {
    k: params[k].astype(precision) for k in list(params)[: 1 + use_scale]
  }
  ours = BatchNorm('torch', use_scale=use_scale)
  theirs = nn.BatchNorm(False, epsilon=1e-5, momentum=0.9, use_scale=use_scale)

  def step(norm, *how):
    stats = norm.init(KEY, x)['batch_stats']

    @quick_jit
    def run(params, x, dy):
      def apply(params, x):
        variables = {'params': params, 'batch_stats': stats}
        return norm.apply(variables, x, *how, mutable=['batch_stats'])

      y, back, updated = jax.vjp(apply, params, x, has_aux=True)
      return y, back(dy), updated

    return run(params, x, dy)

  found, expected = step(ours, True), step(theirs)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  near = 1e-5 if precision == 'float32' else 2e-2
  for mine, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    assert mine.dtype == other.dtype
    mine, other = (np.asarray(v, np.float32) for v in (mine, other))
    scale = np.abs(other).max()
    np.testing.assert_allclose(mine, other, rtol=near, atol=near * scale)


def test_of_half_precision_the_sums_are_float32():
  # 1 is lost where it is added to 512 in bfloat16.
  x = jnp.ones((4096, 2), jnp.bfloat16).at[::2].set(3)
  ones = jnp.ones(2, jnp.bfloat16)
  y, mean, var = normalise(x, ones, 0 * ones, 0.0)
  assert (y.dtype, mean.dtype, var.dtype) == (x.dtype, *2 * [jnp.float32])
  np.testing.assert_allclose([mean, var], [[2, 2], [1, 1]])
  y, back = jax.vjp(lambda *given: normalise(*given, 0.0)[0], x, ones, 0 * ones)
  dx, dscale, dbias = back(jnp.ones_like(y))
  assert {d.dtype for d in (dx, dscale, dbias)} == {x.dtype}
  np.testing.assert_allclose(dbias.astype(np.float32), 4096)
  np.testing.assert_allclose(dx.astype(np.float32), 0, atol=1e-6)


def test_a_channel_that_does_not_vary_has_no_gradient():
  x = jnp.full((6, 1), 2.0)

  def loss(x):
    return normalise(x, jnp.ones(1), jnp.ones(1), 1e-3)[0][0, 0]

  dx = jax.grad(loss)(x)
  assert np.isfinite(dx).all()
  np.testing.assert_allclose(dx.sum(), 0, atol=1e-5)


def test_norm_momentum_is_for_what_is_inside():
  x = jnp.full((2, 3, 3, 1), 10.0)
  norm = BatchNorm(momentum=0.999)
  variables = norm.init(KEY, x)

  def kept():
    _, updated = norm.apply(variables, x, True, mutable=['batch_stats'])
    return 1 - float(updated['batch_stats']['mean'][0]) / 10

  with norm_momentum(0.75):
    assert kept() == pytest.approx(0.75)
    with norm_momentum(None):
      assert kept() == pytest.approx(0.999)
  assert kept() == pytest.approx(0.999)
  with (
    pytest.raises(ValueError, match='1.0: expected'),
    norm_momentum(1.0),
  ):
    pass


@pytest.mark.parametrize(
  'shape, product',
  [
    ((32, 14, 14, 128), True),
    ((32, 14, 14, 256), False),  # too many numbers
    ((32, 17, 17, 8), False),  # too many rows
    ((32, 6), True),
  ],
)
def test_sums_of_small_maps_are_products(shape, product):
  x = jnp.asarray(np.random.default_rng(0).normal(1, 1, shape), jnp.float32)
  sums = jax.jit(norm._sums, static_argnums=1)
  assert ('dot_general' in sums.lower([x], 'cpu').as_text()) == product
  assert 'dot_general' not in sums.lower([x], 'lax').as_text()
  want = np.sum(np.asarray(x), tuple(range(x.ndim - 1)), np.float64)
  np.testing.assert_allclose(sums([x], 'cpu')[0], want, rtol=1e-5)


@pytest.fixture
def all_are_large(monkeypatch):
  """Maps of tests are treated as those are that no cache holds."""
  monkeypatch.setattr(norm, '_LARGE', 1)
  jax.clear_caches()  # the functions are traced once for a shape
  yield
  jax.clear_caches()


def results(x, dy, scale, bias, activation):
  """Of a step: forward, the statistics, and all gradients."""

  def run(x, scale, bias):
    y, *seen = normalise(x, scale, bias, 1e-3, activation)
    return y, seen

  y, back, seen = jax.vjp(run, x, scale, bias, has_aux=True)
  return y, *seen, *back(dy)


@pytest.mark.parametrize('activation', ['none', 'relu', 'relu6'])
@pytest.mark.parametrize('height', [8, 7, 12, 26, 13])  # 13: by itself
def test_large_maps_are_the_same(all_are_large, height, activation):
  x, dy = (draw(k, 3, height, 5, 6) for k in (0, 1))
  scale, bias = draw(2, 6), draw(3, 6)
  run = quick_jit(results, static_argnums=4)
  with use_form('cpu'):
    found = run(x, dy, scale, bias, activation)
  jax.clear_caches()
  y, back = jax.vjp(
    lambda *given: plain(*given, 1e-3, activation), x, scale, bias
  )
  expected = y, np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2)), *back(dy)
  for mine, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(
      mine, other, rtol=1e-5, atol=2e-5 * np.abs(other).max()
    )


def plain(x, scale, bias, epsilon, activation):
  """What autodiff makes of flax's and JAX's own functions."""
  axes = tuple(range(x.ndim - 1))
  y = jax.nn.standardize(x, axes, epsilon=epsilon) * scale + bias
  return {'none': lambda y: y, 'relu': nn.relu, 'relu6': nn.relu6}[activation](
    y
  )


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='XLA for the CPU')
@pytest.mark.parametrize('large, written', [(True, 2), (False, 3)])
def test_of_large_maps_only_results_are_written(large, written, request):
  if large:
    request.getfixturevalue('all_are_large')
  x = jnp.zeros((8, 16, 16, 32))
  given = x, x, jnp.ones(32), jnp.ones(32)
  with use_form('cpu'):
    program = jax.jit(results, static_argnums=4).lower(*given, 'relu')
  text = program.compile(compiler_options()).as_text()
  entry = text[text.index('ENTRY') :].splitlines()
  # The output, the gradient of x, and of a small one what relu lets through.
  made = [line for line in entry if ' = f32[8,16,16,32]' in line]
  assert sum(' fusion(' in line for line in made) == written


@pytest.mark.parametrize('activation', ['relu', 'relu6'])
def test_with_given_statistics_it_activates_too(activation):
  x = draw(0, 2, 4, 4, 6) * 2
  variables = BatchNorm().init(KEY, x)
  y = BatchNorm().apply(variables, x)
  found = BatchNorm(activation=activation).apply(variables, x)
  np.testing.assert_array_equal(found, getattr(nn, activation)(y))
  assert (found == 0).any()
  assert (found == 6).any() == (activation == 'relu6')


def test_it_says_which_activations_it_has():
  with pytest.raises(ValueError, match=r"'swish'.*none, relu, relu6"):
    BatchNorm(activation='swish').init(KEY, jnp.ones((1, 2, 2, 1)))


def test_each_form_has_its_own_program():
  given = jnp.ones((2, 4, 4, 8)), jnp.ones(8), jnp.ones(8)
  for form, product in [('lax', False), ('cpu', True), ('lax', False)]:
    with use_form(form):
      text = (
        jax.jit(lambda *x: norm.normalise(*x, 1e-3)).lower(*given).as_text()
      )
    assert ('dot_general' in text) == product
