"""Schedules and optimisers by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm import optim


@pytest.mark.parametrize(
  'name, settings, steps_and_rates',
  [
    ('constant', {}, [(0, 0.1), (100, 0.1)]),
    ('plateau', {}, [(0, 0.1), (100, 0.1)]),
    # 0.1 * (1 - 50 / 100) ** 0.9
    ('poly', {}, [(0, 0.1), (50, 0.1 * 0.5**0.9), (100, 0.0)]),
    ('poly', {'power': 2.0}, [(50, 0.025)]),
    ('cosine', {}, [(0, 0.1), (50, 0.05), (100, 0.0)]),
    ('cosine', {'final': 0.02}, [(0, 0.1), (50, 0.06), (100, 0.02)]),
    ('cosine', {'warmup': 0.1}, [(0, 0.0), (5, 0.05), (10, 0.1), (55, 0.05)]),
  ],
)
def test_schedules(name, settings, steps_and_rates):
  schedule = optim.make_schedule(name, 0.1, 100, **settings)
  for step, rate in steps_and_rates:
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-7)


def test_wrong_names_and_settings_are_told():
  with pytest.raises(ValueError, match="'exp'.*constant, cosine"):
    optim.make_schedule('exp', 0.1, 10)
  with pytest.raises(ValueError, match=r'schedule\.powr.*power'):
    optim.make_schedule('poly', 0.1, 10, powr=2)
  with pytest.raises(ValueError, match="'adm'.*adam"):
    optim.make_optimizer('adm', schedule=optim.constant(0.1, 1))


def _update(params, grads, **settings):
  schedule = optim.constant(0.1, 1)
  tx = optim.make_optimizer(schedule=schedule, **settings)
  updates, _ = tx.update(grads, tx.init(params), params)
  return updates


PARAMS = {'kernel': jnp.array([2.0]), 'bias': jnp.array([2.0])}
GRADS = {'kernel': jnp.array([1.0]), 'bias': jnp.array([1.0])}


def test_first_step_of_adam_is_the_rate():
  updates = _update(PARAMS, GRADS, name='adam')
  np.testing.assert_allclose(updates['kernel'], -0.1, rtol=1e-5)


def test_epsilon_reaches_adam():
  updates = _update(PARAMS, GRADS, name='adam', settings={'eps': 1.0})
  np.testing.assert_allclose(updates['bias'], -0.05, rtol=1e-5)


def test_decay_is_of_kernels_alone():
  updates = _update(PARAMS, GRADS, name='sgd', weight_decay=0.5)
  # -0.1 * (1 + 0.5 * 2) and -0.1 * 1
  np.testing.assert_allclose(updates['kernel'], -0.2, rtol=1e-6)
  np.testing.assert_allclose(updates['bias'], -0.1, rtol=1e-6)


def test_decoupled_decay_is_outside_adam():
  updates = _update(
    PARAMS, GRADS, name='adam', weight_decay=0.5, decoupled=True
  )
  np.testing.assert_allclose(updates['kernel'], -0.1 * (1 + 1.0), rtol=1e-5)


def test_clip_bounds_the_norm():
  grads = {'kernel': jnp.array([3.0]), 'bias': jnp.array([4.0])}
  updates = _update(PARAMS, grads, name='sgd', clip=1.0)
  np.testing.assert_allclose(updates['kernel'], -0.06, rtol=1e-5)
  np.testing.assert_allclose(updates['bias'], -0.08, rtol=1e-5)
