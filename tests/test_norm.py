"""Batch normalisation: its set-ups, and its gradient beside torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from compiling import quick_jit

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


@pytest.mark.parametrize('shape', [(4, 5, 3, 6), (32, 6)])
@pytest.mark.parametrize('use_scale', [True, False])
def test_a_step_is_that_of_torch(shape, use_scale):
  x, dy = draw(0, *shape), draw(1, *shape)
  scale, bias = draw(2, 6), draw(3, 6)
  norm = BatchNorm('torch', use_scale=use_scale)
  variables = norm.init(KEY, x)
  params = {'scale': scale, 'bias': bias}
  params = {k: params[k] for k in variables['params']}

  @quick_jit
  def run(params, x, dy):
    def apply(params, x):
      given = variables | {'params': params}
      return norm.apply(given, x, True, mutable=['batch_stats'])

    y, back, updated = jax.vjp(apply, params, x, has_aux=True)
    return y, *back(dy), updated['batch_stats']

  y, dparams, dx, stats = run(params, x, dy)
  image = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
  theirs = torch.nn.BatchNorm1d(6) if x.ndim == 2 else torch.nn.BatchNorm2d(6)
  with torch.no_grad():
    theirs.bias.copy_(torch.tensor(bias))
    if use_scale:
      theirs.weight.copy_(torch.tensor(scale))
  made = theirs(image)
  made.backward(torch.tensor(np.moveaxis(dy, -1, 1)))
  near = {'rtol': 1e-4, 'atol': 1e-5}
  np.testing.assert_allclose(np.moveaxis(y, -1, 1), made.detach(), **near)
  np.testing.assert_allclose(np.moveaxis(dx, -1, 1), image.grad, **near)
  np.testing.assert_allclose(dparams['bias'], theirs.bias.grad, **near)
  if use_scale:
    np.testing.assert_allclose(dparams['scale'], theirs.weight.grad, **near)
  np.testing.assert_allclose(stats['mean'], theirs.running_mean, **near)
  # torch keeps the variance with n - 1 in the denominator.
  count = x.size // 6
  kept = 0.9 + (theirs.running_var.numpy() - 0.9) * (count - 1) / count
  np.testing.assert_allclose(stats['var'], kept, **near)


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
