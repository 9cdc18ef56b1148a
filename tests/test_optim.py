"""Schedules and optimisers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxderm import optim, vectors


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
    # Down in 25 steps and up in 25, twice.
    (
      'cosine',
      {'final': 0.02, 'halves': 4},
      [(0, 0.1), (12.5, 0.06), (25, 0.02), (50, 0.1), (75, 0.02), (100, 0.1)],
    ),
    (
      'cosine',
      {'warmup': 0.1, 'halves': 2},
      [(5, 0.05), (10, 0.1), (55, 0.0), (100, 0.1)],
    ),
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


def test_cosines_waves_are_torchs():
  torch = pytest.importorskip('torch')
  weight = torch.nn.Parameter(torch.zeros(1))
  optimizer = torch.optim.AdamW([weight], lr=1e-3)
  scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
    optimizer, T_max=30, eta_min=1e-5
  )
  ours = optim.make_schedule('cosine', 1e-3, 300, final=1e-5, halves=10)
  rates = []
  for _ in range(300):
    rates.append(optimizer.param_groups[0]['lr'])
    optimizer.step()
    scheduler.step()
  assert ours(jnp.arange(300)) == pytest.approx(np.array(rates), rel=1e-3)


def test_half_a_half_wave_is_none():
  with pytest.raises(ValueError, match=r'schedule.halves is 0'):
    optim.make_schedule('cosine', 0.1, 10, halves=0)


def test_decay_of_convolutions_alone_and_of_everything():
  params = {
    'conv': {'kernel': jnp.full((1, 1, 1, 1), 2.0), 'bias': jnp.ones(1) * 2},
    'dense': {'kernel': jnp.full((1, 1), 2.0)},
    'norm': {'scale': jnp.full(1, 2.0)},
  }
  grads = jax.tree.map(jnp.zeros_like, params)

  def decayed(name):
    updates = _update(params, grads, name='sgd', weight_decay=0.5, decayed=name)
    # -0.1 * 0.5 * 2 where it decays.
    for x in jax.tree.leaves(updates):
      assert float(x.ravel()[0]) in (0.0, pytest.approx(-0.1))
    return {
      '/'.join(k.key for k in path)
      for path, x in jax.tree_util.tree_leaves_with_path(updates)
      if float(x.ravel()[0])
    }

  assert decayed('convolutions') == {'conv/kernel'}
  assert decayed('kernels') == {'conv/kernel', 'dense/kernel'}
  assert decayed('all') == {
    'conv/kernel',
    'conv/bias',
    'dense/kernel',
    'norm/scale',
  }
  with pytest.raises(ValueError, match=r'optim.decayed.*all, convolutions'):
    decayed('biases')


def test_adamw_is_torchs():
  """The protocol of UCM-Net: decay of 0.01 beside the gradient, of all."""
  torch = pytest.importorskip('torch')
  start = np.array([2.0, -1.0, 0.5], np.float32)
  weight = torch.nn.Parameter(torch.tensor(start))
  optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.01)
  tx = optim.make_optimizer(
    'adam',
    schedule=optim.constant(1e-3, 1),
    weight_decay=0.01,
    decoupled=True,
    decayed='all',
  )
  params = {'scale': jnp.asarray(start)}
  state = tx.init(params)
  rng = np.random.default_rng(0)
  for _ in range(20):
    grad = rng.normal(size=3).astype(np.float32)
    weight.grad = torch.tensor(grad)
    optimizer.step()
    updates, state = tx.update({'scale': jnp.asarray(grad)}, state, params)
    params = optax.apply_updates(params, updates)
  expected = weight.detach().numpy()
  assert np.abs(expected - start).max() > 3e-3
  np.testing.assert_allclose(params['scale'], expected, rtol=1e-5)


def test_clip_bounds_the_norm():
  grads = {'kernel': jnp.array([3.0]), 'bias': jnp.array([4.0])}
  updates = _update(PARAMS, grads, name='sgd', clip=1.0)
  np.testing.assert_allclose(updates['kernel'], -0.06, rtol=1e-5)
  np.testing.assert_allclose(updates['bias'], -0.08, rtol=1e-5)


TREE = {
  'conv': {'kernel': (3, 3, 2, 4), 'bias': (4,)},
  'lone': {'kernel': (5,)},  # a name that decays is no vector
  'norm': {'scale': (4,), 'slope': ()},
}


def tree(seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
    TREE,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def test_vectors_are_joined_and_parted():
  given = tree(0)
  joined = vectors.join(given)
  assert joined.vectors.shape == (4 + 4 + 1,)
  np.testing.assert_array_equal(joined.vectors[:4], given['conv']['bias'])
  others = [x.shape for x in jax.tree.leaves(joined.others)]
  assert others == [(3, 3, 2, 4), (5,)]
  parted = vectors.part(joined, given)
  jax.tree.map(np.testing.assert_array_equal, parted, given)
  bare = {'kernel': jnp.ones((2, 2))}
  jax.tree.map(
    np.testing.assert_array_equal, vectors.part(vectors.join(bare), bare), bare
  )


@pytest.mark.parametrize('decayed', ['kernels', 'all'])
def test_joined_vectors_are_updated_as_each_by_itself(decayed):
  schedule = optim.make_schedule('cosine', 0.1, 10)
  tx = optim.make_optimizer(
    'adam', schedule=schedule, weight_decay=0.3, decayed=decayed, clip=0.5
  )
  each = optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.add_decayed_weights(0.3, mask=optim.DECAYED[decayed]),
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(schedule),
  )

  def train(tx, arrange=lambda x: x):
    params = arrange(tree(0))
    state = tx.init(params)
    for seed in range(1, 5):
      updates, state = tx.update(arrange(tree(seed)), state, params)
      params = optax.apply_updates(params, updates)
    return params

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    vectors.part(train(tx, vectors.join), tree(0)),
    train(each),
  )
