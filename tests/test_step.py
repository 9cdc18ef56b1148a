"""The train step: what it promises about padding, parts, precision, restarts."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm import (
  checkpoint,
  control,
  fresh_state,
  optim,
  sharding,
  step,
  task,
)

SIZE = 16


class Net(nn.Module):
  """Two convolutions, with BatchNorm and dropout between them if wanted."""

  plain: bool = False

  @nn.compact
  def __call__(self, image, train):
    x = nn.Conv(8, (3, 3), name='conv')(image)
    if not self.plain:
      x = nn.BatchNorm(use_running_average=not train, name='norm')(x)
      x = nn.Dropout(0.3, deterministic=not train)(x)
    return nn.Conv(1, (1, 1), name='logits')(nn.relu(x))


def prepare(batch, key):
  image = batch['image'].astype(jnp.float32) / 255
  if key is not None:
    image = image + 0.01 * jax.random.normal(key, image.shape)
  return {**batch, 'image': image}


def still(batch, key):
  del key
  return prepare(batch, None)


def make_batch(seed=0, count=8):
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
  return {
    'image': image,
    'mask': (image[..., :1] > 128).astype(np.uint8),
    'valid': np.ones(count, np.float32),
  }


@pytest.fixture(scope='module')
def segmentation():
  return task.segmentation({'name': 'bce_dice'})


@functools.cache
def setup(mesh, segmentation, network=None, **settings):
  """What makes a fresh state, and the step: compiled once for all tests."""
  network = network or Net()
  tx = optim.make_optimizer('adam', schedule=optim.constant(0.01, 1))
  shape = {'image': jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
  first = fresh_state.plan(network, segmentation, tx, shape, 0, mesh).make()

  def fresh():
    return jax.tree.map(jnp.copy, first)  # the step donates what it is given

  how = {'prepare': prepare} | settings
  do = step.make_train_step(network, segmentation, tx, mesh=mesh, **how)
  return fresh, do


def leaves(state):
  return [np.asarray(x) for x in jax.tree.leaves(state.params)]


def run(do, state, first, last, mesh):
  for k in range(first, last):
    state, scalars = do(state, sharding.place(make_batch(k), mesh))
  return state, scalars


def test_it_learns(mesh, segmentation):
  fresh, do = setup(mesh, segmentation)
  state = fresh()
  state = state.replace(rate=5 * state.rate)  # placed as it was: no compiling
  state, first = run(do, state, 0, 1, mesh)
  _, last = run(do, state, 1, 40, mesh)
  assert float(last['loss']) < 0.7 * float(first['loss'])


def test_two_steps_saved_restored_and_two_more_are_four(
  mesh, segmentation, tmp_path
):
  fresh, do = setup(mesh, segmentation)
  whole, _ = run(do, fresh(), 0, 4, mesh)
  half, _ = run(do, fresh(), 0, 2, mesh)
  saved = checkpoint.Checkpoints(tmp_path / 'c')
  saved.save(half, control.Progress(best=1.5, best_step=2))
  saved.wait()
  restored, progress = saved.restore(fresh())
  saved.close()
  assert progress == control.Progress(best=1.5, best_step=2)
  assert int(restored.step) == 2
  again, _ = run(do, restored, 2, 4, mesh)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


def test_the_key_changes_what_is_seen(mesh, segmentation):
  fresh, do = setup(mesh, segmentation)
  other = fresh()
  other = other.replace(key=jax.random.fold_in(other.key, 7))
  a, _ = run(do, fresh(), 0, 1, mesh)
  b, _ = run(do, other, 0, 1, mesh)
  assert any((x != y).any() for x, y in zip(leaves(a), leaves(b), strict=True))


def test_parts_add_up_to_the_whole(mesh, segmentation):
  """Without BatchNorm and noise, four parts give the gradient of the whole."""
  once = setup(mesh, segmentation, Net(plain=True), prepare=still)
  parts = setup(
    mesh, segmentation, Net(plain=True), prepare=still, accumulate=4
  )
  a, loss_a = run(once[1], once[0](), 0, 1, mesh)
  b, loss_b = run(parts[1], parts[0](), 0, 1, mesh)
  np.testing.assert_allclose(loss_a['loss'], loss_b['loss'], rtol=1e-6)
  norms = [s['gradient_norm'] for s in (loss_a, loss_b)]
  np.testing.assert_allclose(*norms, rtol=1e-5)
  for x, y in zip(leaves(a), leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_bfloat16_computes_but_does_not_keep(mesh, segmentation):
  fresh, full = setup(mesh, segmentation)
  _, narrow = setup(mesh, segmentation, precision='bfloat16')
  _, a = run(full, fresh(), 0, 1, mesh)
  state, b = run(narrow, fresh(), 0, 1, mesh)
  kept = (state.params, state.batch_stats, state.opt_state[0].mu, b['loss'])
  assert {x.dtype for x in jax.tree.leaves(kept)} == {jnp.dtype('float32')}
  assert float(a['loss']) != float(b['loss'])
  np.testing.assert_allclose(a['loss'], b['loss'], rtol=0.02)


def test_the_rate_scales_updates(mesh, segmentation):
  fresh, do = setup(mesh, segmentation, Net(plain=True), prepare=still)
  start = leaves(fresh())
  a, _ = run(do, fresh(), 0, 1, mesh)
  slower = fresh()
  slower = slower.replace(rate=0.25 * slower.rate)
  b, _ = run(do, slower, 0, 1, mesh)
  for s, x, y in zip(start, leaves(a), leaves(b), strict=True):
    np.testing.assert_allclose(0.25 * (x - s), y - s, atol=1e-7)


def test_the_first_bad_step_is_named(mesh, segmentation):
  fresh, do = setup(mesh, segmentation)
  state, _ = run(do, fresh(), 0, 2, mesh)
  assert int(state.bad_step) == -1
  broken = jax.tree.map(lambda x: x * jnp.nan, state.params)
  state = state.replace(params=broken)
  state, _ = run(do, state, 2, 4, mesh)
  assert int(state.bad_step) == 2


def test_padding_changes_no_score(mesh, segmentation):
  fresh, _ = setup(mesh, segmentation)
  state = fresh()
  evaluate = step.make_eval_step(Net(), segmentation, prepare, mesh)
  batch = make_batch(3)
  padded = {k: v.copy() for k, v in batch.items()}
  padded['image'][5:] = 255
  args = (state.params, state.batch_stats)
  a = evaluate(*args, sharding.place(batch, mesh))
  b = evaluate(*args, sharding.place(padded, mesh))
  for name in a:
    np.testing.assert_array_equal(a[name][:5], b[name][:5])
  pixels = sum(np.asarray(a[k]) for k in ('tp', 'fp', 'fn', 'tn'))
  np.testing.assert_array_equal(pixels, SIZE * SIZE)


def test_padding_in_a_batch_bears_no_loss(mesh, segmentation):
  fresh, do = setup(mesh, segmentation, Net(plain=True), prepare=still)
  batch = make_batch(1)
  batch['valid'][6:] = 0
  other = {k: v.copy() for k, v in batch.items()}
  other['image'][6:] = 7
  _, a = do(fresh(), sharding.place(batch, mesh))
  _, b = do(fresh(), sharding.place(other, mesh))
  np.testing.assert_array_equal(a['loss'], b['loss'])
