"""Pairs of a batch: who is whose partner, and how many are of one class."""

import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from programs import run

from jaxderm import dispatch, fresh_state, optim, sharding, step, task
from jaxderm.data import pairs

# The first half of a batch of 32 pairs, and two second halves.
FIRST = [0] * 19 + [1] * 13
SECOND = [0] * 8 + [1] * 8 + [0] * 16


def by_the_book(label, valid):
  """Method 1 as SPEC 2.3 tells it, in loops."""
  count = len(label)
  partner = list(range(count))
  free = [i for i in range(count) if valid[i]]
  for i in list(free):
    if i not in free:
      continue
    for j in free:
      if j > i and label[j] == label[i]:
        partner[i], partner[j] = j, i
        free.remove(i)
        free.remove(j)
        break
  for i, j in zip(free[::2], free[1::2], strict=False):
    partner[i], partner[j] = j, i
  return partner


def batch_of(*label, valid=None):
  count = len(label)
  valid = np.ones(count) if valid is None else np.asarray(valid)
  return {
    'label': np.array(label, np.int32),
    'valid': valid.astype(np.float32),
    'image': np.arange(count * 12, dtype=np.uint8).reshape(count, 2, 2, 3),
  }


arrange, partners = jax.jit(pairs.arrange), jax.jit(pairs.partners)


@pytest.mark.parametrize('classes', [1, 2, 7])
@pytest.mark.parametrize('count', [1, 8, 33])
def test_partners_are_those_of_the_loops(count, classes):
  rng = np.random.default_rng(count + classes)
  label = rng.integers(0, classes, (60, count)).astype(np.int32)
  valid = (rng.random((60, count)) < rng.choice([0.0, 0.7, 1.0], (60, 1))) * 1.0
  found = np.asarray(jax.jit(jax.vmap(pairs.partners))(label, valid))
  assert found.dtype == np.int32
  for k in range(60):
    assert found[k].tolist() == by_the_book(label[k], valid[k])
    np.testing.assert_array_equal(found[k][found[k]], np.arange(count))


def test_partners_by_hand():
  def of(*label):
    valid = jnp.ones(len(label))
    return partners(jnp.array(label), valid).tolist()

  # 0 with the next of its class, and so on; the third 0 with the lone 1.
  assert of(0, 1, 0, 0) == [2, 3, 0, 1]
  # Three are left over: the last of them is its own partner.
  assert of(5, 2, 2, 0, 1) == [3, 2, 1, 0, 4]
  assert of(4) == [0]


@pytest.mark.parametrize(
  'number, positive', [(0, 30), (1, 11), (4, 11), (5, 30)]
)
def test_positive_and_negative_pairs_of_a_known_batch(number, positive):
  """Method 1 of 19 and 13: all but the two left over, who are a pair.

  Method 2: 8 of (0, 0), 8 of (0, 1), 3 of (0, 0), 13 of (1, 0).
  """
  found = arrange(batch_of(*FIRST, *SECOND), jnp.int32(number))
  one, two = np.asarray(found['label']).reshape(2, 32)
  same = np.asarray(found['same']).reshape(2, 32)
  np.testing.assert_array_equal(same[0], one == two)
  np.testing.assert_array_equal(same[0], same[1])
  assert (same[0].sum(), (1 - same[0]).sum()) == (positive, 32 - positive)
  # What the first images are is the same in both.
  assert one.tolist() == FIRST


def test_one_step_in_five_is_of_method_1():
  batch = batch_of(*FIRST, *SECOND)
  positive = [
    int(arrange(batch, jnp.int32(k))['same'][:32].sum()) for k in range(15)
  ]
  assert positive == [30, 11, 11, 11, 11] * 3


def test_images_go_with_their_labels():
  batch = batch_of(0, 1, 1, 0, 1, 1, 1, 0)
  rows = {0: [0, 1, 2, 3, 3, 2, 1, 0], 3: [*range(8)]}
  for number, expected in rows.items():
    found = arrange(batch, jnp.int32(number))
    for name, column in batch.items():
      np.testing.assert_array_equal(found[name], column[expected], name)
      assert found[name].dtype == column.dtype


@pytest.mark.parametrize('number', [0, 1])
def test_padding_is_in_no_pair(number):
  """Neither as the first image nor as the second."""
  valid = [1, 1, 0, 1, 1, 0, 1, 1]
  found = arrange(
    batch_of(0, 0, 0, 0, 1, 1, 0, 0, valid=valid), jnp.int32(number)
  )
  # By Method 1, 0 and 1 are partners, 3 its own; by Method 2 padding spoils
  # the pairs (1, 5) and (2, 6).
  expected = {0: [1, 1, 0, 1], 1: [1, 0, 0, 1]}[number]
  assert np.asarray(found['valid']).tolist() == expected * 2
  one, two = np.asarray(found['image'])[:, 0, 0, 0].reshape(2, 4) // 12
  for i, j, kept in zip(one, two, expected, strict=True):
    assert not kept or (valid[i] and valid[j])


def test_an_odd_batch_is_refused():
  with pytest.raises(ValueError, match=r'3 images.*even data\.batch_size'):
    arrange(batch_of(0, 1, 0), jnp.int32(0))


# ----------------------------------------------------------------- in a step

SIZE, IMAGES, STEPS = 8, 24, 7  # two steps of Method 1


class Net(nn.Module):
  """As the discriminant network, but of a convolution."""

  @nn.compact
  def __call__(self, image, train):
    x = nn.Conv(4, (3, 3), name='encoder')(image)
    x = nn.BatchNorm(use_running_average=not train, name='norm')(x)
    x = nn.relu(x).mean((1, 2))
    x = nn.Dropout(0.3, deterministic=not train)(x)
    heads = [nn.Dense(2, name=f'logits{k}')(x) for k in (1, 2)]
    away = jnp.square(x - jnp.roll(x, len(x) // 2, axis=0))
    return jnp.stack(heads, axis=1), nn.Dense(2, name='logits_same')(away)


def prepare(batch, key):
  image = batch['image'].astype(jnp.float32) / 255
  if key is not None:
    image += 0.01 * jax.random.normal(key, image.shape)
  return {**batch, 'image': image}


@functools.cache
def made(accumulate=1):
  """The mesh, a maker of fresh states, resident data and an update."""
  mesh = sharding.make_mesh()
  rng = np.random.default_rng(0)
  columns = {
    'image': rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3)).astype(np.uint8),
    'label': rng.integers(0, 2, IMAGES).astype(np.int32),
    'valid': np.ones(IMAGES, np.float32),
  }
  tx = optim.make_optimizer('sgd', schedule=optim.constant(0.1, 9))
  of_pairs = task.pairwise({'name': 'cross_entropy'})
  shape = {'image': jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)}
  first = fresh_state.plan(Net(), of_pairs, tx, shape, 0, mesh).make()
  update = step.make_update(Net(), of_pairs, tx, prepare, accumulate=accumulate)
  columns = jax.device_put(columns, sharding.replicated(mesh))
  return mesh, lambda: jax.tree.map(jnp.copy, first), columns, update


def feed(first, steps):
  rows = np.random.default_rng(1).integers(0, IMAGES, (STEPS, 8))
  return rows[first : first + steps].astype(np.int32)


@functools.cache
def program():
  mesh, _, _, update = made()
  return step.jit_update(update, mesh)


@functools.cache
def one_by_one(steps=STEPS):
  mesh, fresh, columns, _ = made()
  state, do, losses = fresh(), program(), []
  for k in range(steps):
    (rows,) = feed(k, 1)
    batch = {n: np.asarray(c)[rows] for n, c in columns.items()}
    state, told = do(state, sharding.place(batch, mesh))
    losses.append(float(told['loss']))
  return state, losses


def assert_close(a, b, atol=2e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      np.testing.assert_allclose(x, y, rtol=0, atol=atol)


@pytest.mark.parametrize('number', [0, 1, 4, 5])
def test_the_step_of_the_state_says_which_method(number):
  """By Method 1 nothing of the second half of a batch is seen."""
  mesh, fresh, columns, _ = made()
  batch = {k: np.asarray(v)[:8].copy() for k, v in columns.items()}
  other = {k: v.copy() for k, v in batch.items()}
  other['image'][4:] = 255 - other['image'][4:]
  losses = []
  for seen in (batch, other):
    state = fresh()
    state = state.replace(step=state.step + number)
    _, told = program()(state, sharding.place(seen, mesh))
    losses.append(float(told['loss']))
  assert (losses[0] == losses[1]) == (number % 5 == 0)


def test_many_steps_at_once_have_the_methods_of_each():
  """From a step in between, as a run that goes on."""
  mesh, _, columns, update = made()
  expected, losses = one_by_one()
  state, _ = one_by_one(3)
  advance = dispatch.make_resident(update, columns, mesh)
  start = jax.tree.map(jnp.copy, state)
  (state,), (told,) = advance([start], [feed], 3, STEPS - 3)
  assert_close(state, expected)
  np.testing.assert_allclose(told['loss'], losses[3:], rtol=1e-5)


def test_members_at_once_have_pairs_of_their_own():
  """As `vmap` trains several seeds: each has its batch, and the step."""
  batches = [batch_of(*FIRST, *SECOND), batch_of(*SECOND, *FIRST)]
  stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
  together = jax.jit(jax.vmap(pairs.arrange))
  for number in (4, 5):
    found = together(stacked, jnp.full(2, number))
    for k, batch in enumerate(batches):
      expected = arrange(batch, jnp.int32(number))
      for name, column in expected.items():
        np.testing.assert_array_equal(found[name][k], column, name)


def test_a_batch_in_parts_keeps_its_pairs():
  """The interleaved halves of a part are those of the batch."""
  seen = {}

  class Task:
    inputs = ('image',)

    @staticmethod
    def loss(logits, batch):
      jax.debug.callback(
        lambda *x: seen.setdefault(len(seen), x), batch['image'], batch['same']
      )
      return jnp.zeros(len(batch['same']))

  class Nothing:
    @staticmethod
    def apply(variables, image, train, **how):
      return image, {}

  batch = arrange(batch_of(0, 1, 1, 0, 1, 1, 1, 0), jnp.int32(1))
  gradient = step.make_gradient(Nothing(), Task(), 'float32')
  gradient = step._accumulated(gradient, 2)
  jax.jit(gradient)({'x': jnp.zeros(1)}, {}, batch, jax.random.key(0))
  jax.effects_barrier()
  assert len(seen) == 2
  for image, same in seen.values():
    one, two = (np.asarray(image)[:, 0, 0, 0] // 12).astype(int).reshape(2, 2)
    np.testing.assert_array_equal(two - one, 4)
    expected = (
      np.asarray(batch['label'])[one] == np.asarray(batch['label'])[two]
    )
    np.testing.assert_array_equal(np.asarray(same).reshape(2, 2)[0], expected)


def test_partners_are_found_before_augmentation():
  """So that an image that is there twice is augmented in two ways."""
  _, fresh, columns, _ = made()
  seen = []

  def remember(batch, key):
    seen.append(set(batch))
    return prepare(batch, key)

  tx = optim.make_optimizer('sgd', schedule=optim.constant(0.1, 9))
  of_pairs = task.pairwise({'name': 'cross_entropy'})
  update = step.make_update(Net(), of_pairs, tx, remember)
  jax.eval_shape(update, fresh(), columns)
  assert seen == [{'image', 'label', 'valid', 'same'}]


def test_odd_parts_of_a_batch_are_refused():
  _, fresh, columns, update = made(accumulate=8)
  batch = {k: np.asarray(v)[:8] for k, v in columns.items()}
  with pytest.raises(ValueError, match=r'1 images.*optim\.accumulate'):
    jax.eval_shape(update, fresh(), batch)


_EIGHT = r"""
import re, sys
sys.path.insert(0, 'tests')
import jax, numpy as np
import test_pairs as t
from jaxderm import sharding, step
mesh, fresh, columns, update = t.made()
batch = {k: np.asarray(v)[:16] for k, v in columns.items()}
do = step.jit_update(update, mesh)
placed = sharding.place(batch, mesh)
text = do.lower(fresh(), placed).compile().as_text()
print(sorted(set(re.findall(r'f32\[(\d+),8,8,4\]', text))))
print(float(do(fresh(), placed)[1]['loss']))
"""


@pytest.mark.slow
def test_each_of_eight_devices_does_its_share():
  """Two of sixteen images: the pairs do not make one device do all."""
  done = run([sys.executable, '-c', _EIGHT], 8)
  sizes, loss = done.stdout.splitlines()[-2:]
  assert sizes == "['2']"
  _, fresh, columns, update = made()
  batch = {k: np.asarray(v)[:16] for k, v in columns.items()}
  _, told = quick_jit(update)(fresh(), batch)
  assert float(loss) == pytest.approx(float(told['loss']), rel=1e-5)
