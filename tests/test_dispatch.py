"""Many steps at once, and several members: each as it would be alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from test_step import SIZE, Net, make_batch, prepare

from jaxderm import dispatch, fresh_state, optim, sharding, step, task
from jaxderm.models import forms, layers

BATCH, STEPS, COUNT = 4, 3, 12
TASK = task.segmentation({'name': 'bce_dice'})
# What one loop and another round differently, in three steps of SGD. Adam
# would make whole steps of gradients that are rounding errors.
ROUNDING = 2e-6


class Images:
  """Resident data and rows of them, as a feed gives them."""

  def __init__(self, mesh):
    drawn = make_batch(5, COUNT)
    self.columns = jax.device_put(drawn, sharding.replicated(mesh))

  def feed(self, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, COUNT, (STEPS, BATCH)).astype(np.int32)
    return lambda first, steps: rows[first : first + steps]


@pytest.fixture(scope='module')
def images(mesh):
  return Images(mesh)


@functools.cache
def made(mesh, accumulate=1):
  """A maker of fresh states, the update, and its program: compiled once."""
  tx = optim.make_optimizer('sgd', schedule=optim.poly(0.05, 9))
  shape = {'image': jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
  update = step.make_update(Net(), TASK, tx, prepare, accumulate=accumulate)
  first = fresh_state.plan(Net(), TASK, tx, shape, 0, mesh).make()

  def fresh(seed, rate=1.0):
    state = jax.tree.map(jnp.copy, first)  # a program donates what it is given
    return state.replace(
      key=jax.random.fold_in(state.key, seed),
      params=jax.tree.map(lambda x: x * (1 + 0.5 * seed), state.params),
      rate=rate * state.rate,
    )

  return fresh, update, step.jit_update(update, mesh)


@functools.cache
def alone(seed, rate, images, mesh, accumulate=1):
  """Step by step, on batches that the host picks."""
  fresh, _, do = made(mesh, accumulate)
  state, told, feed = fresh(seed, rate), [], images.feed(seed)
  for k in range(STEPS):
    (rows,) = feed(k, 1)
    batch = {n: np.asarray(c)[rows] for n, c in images.columns.items()}
    state, scalars = do(state, sharding.place(batch, mesh))
    told.append(scalars)
  return state, {k: [float(t[k]) for t in told] for k in told[0]}


def assert_close(a, b, atol=ROUNDING):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.shape == y.shape
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_allclose(x, y, rtol=0, atol=atol)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_steps_at_once_are_steps_one_by_one(accumulate, images, mesh):
  """With dropout, augmentation, BatchNorm, a schedule and a lowered rate."""
  fresh, update, _ = made(mesh, accumulate)
  expected, scalars = alone(0, 0.5, images, mesh, accumulate)
  advance = dispatch.make_resident(update, images.columns, mesh)
  (state,), (told,) = advance([fresh(0, 0.5)], [images.feed(0)], 0, STEPS)
  assert int(state.step) == STEPS
  assert_close(state, expected)
  for name, values in scalars.items():
    np.testing.assert_allclose(told[name], values, rtol=1e-5)
    assert len(set(values)) == STEPS


def test_a_step_of_resident_data_is_that_of_the_host(images, mesh):
  """Bit for bit: on a CPU a resident run is the run that it was."""
  fresh, update, _ = made(mesh)
  expected, _ = alone(0, 1.0, images, mesh)
  advance = dispatch.make_resident(update, images.columns, mesh)
  state = fresh(0)
  for k in range(STEPS):
    (state,), _ = advance([state], [images.feed(0)], k, 1)
  assert_close(state, expected, atol=0)


@pytest.mark.parametrize('together', [True, False])
def test_members_at_once_are_members_alone(together, images, mesh):
  """Other seeds, other rows, another rate: nothing of one is in the other."""
  fresh, update, _ = made(mesh)
  seeds, rates = (0, 1), (1.0, 0.25)
  feeds = [images.feed(seed) for seed in seeds]
  advance = dispatch.make_resident(update, images.columns, mesh, together)
  starts = [fresh(s, r) for s, r in zip(seeds, rates, strict=True)]
  states, told = advance(starts, feeds, 0, STEPS)
  for k in range(2):
    expected, scalars = alone(seeds[k], rates[k], images, mesh)
    assert_close(states[k], expected)
    np.testing.assert_allclose(told[k]['loss'], scalars['loss'], rtol=1e-5)
  assert told[0]['loss'][0] != told[1]['loss'][0]


def test_the_first_bad_step_within_a_dispatch_is_named(images, mesh):
  fresh, update, _ = made(mesh)

  def spoiled(state, batch):
    """The second step and later ones see pictures of no numbers."""
    bad = jnp.where(state.step >= 1, jnp.nan, 1.0)
    return update(state, {**batch, 'valid': batch['valid'] * bad})

  advance = dispatch.make_resident(spoiled, images.columns, mesh, True)
  feeds = [images.feed(0), images.feed(1)]
  healthy = fresh(1)
  healthy = healthy.replace(step=healthy.step - STEPS)
  states, _ = advance([fresh(0), healthy], feeds, 0, STEPS)
  assert [int(s.bad_step) for s in states] == [1, -1]


@pytest.mark.parametrize('form', forms.FORMS)
@pytest.mark.parametrize(
  'net',
  [
    layers.Conv(8, 3, 2),
    layers.Conv(8, 3, 2, groups=4),
    layers.DepthwiseConv(3, 2),
  ],
  ids=['dense', 'grouped', 'depthwise'],
)
def test_vmap_goes_through_every_form_of_convolution(form, net):
  """Forward and gradient, of members whose kernels differ."""
  x = jax.random.normal(jax.random.key(0), (2, 3, 9, 9, 8))
  with forms.use_form(form):
    params = [net.init(jax.random.key(k), x[0]) for k in range(2)]

    def gradient(params, x):
      return jax.grad(lambda p, x: jnp.sum(net.apply(p, x) ** 3), (0, 1))(
        params, x
      )

    stacked = jax.tree.map(lambda *p: jnp.stack(p), *params)
    together = quick_jit(jax.vmap(gradient))(stacked, x)
    one = quick_jit(gradient)
    for k in range(2):
      expected = one(params[k], x[k])
      for a, b in zip(
        jax.tree.leaves(together), jax.tree.leaves(expected), strict=True
      ):
        np.testing.assert_allclose(a[k], b, rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------ where they end


@pytest.mark.parametrize(
  'between, total, most, expected',
  [
    (5, 10, 1, [*range(1, 11)]),
    (5, 10, 2, [2, 4, 5, 7, 9, 10]),  # never past an evaluation
    (5, 12, 16, [5, 10, 12]),  # nor past the end
    (4, 8, 4, [4, 8]),
    (7, 7, 3, [3, 6, 7]),
  ],
)
def test_where_dispatches_end(between, total, most, expected):
  ends, at = [], 0
  while at < total:
    at = dispatch.end(at, between, total, most)
    ends.append(at)
  assert ends == expected


def test_from_wherever_a_run_starts_it_meets_the_same_ends():
  ends = {dispatch.end(k, 50, 120, 16) for k in range(120)}
  assert sorted(ends) == [16, 32, 48, 50, 66, 82, 98, 100, 116, 120]


def test_steps_in_a_dispatch(monkeypatch):
  assert dispatch.steps_per_dispatch(None, True) == 1  # on a CPU
  assert dispatch.steps_per_dispatch(3, True) == 3
  assert dispatch.steps_per_dispatch(1, False) == 1
  with pytest.raises(ValueError, match=r'4.*data\.resident=True.*dispatch=1'):
    dispatch.steps_per_dispatch(4, False)
  with pytest.raises(ValueError, match='dispatch is 0'):
    dispatch.steps_per_dispatch(0, True)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert dispatch.steps_per_dispatch(None, True) == dispatch.STEPS
  assert dispatch.steps_per_dispatch(None, False) == 1
