"""The segmentation task: logits of one and two classes, heads, scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm import losses, metrics, task

LN3 = np.log(3)  # sigmoid(ln 3) is 3/4


@pytest.fixture(scope='module')
def bce():
  return task.segmentation({'name': 'bce'})


def random_logits(count=3, classes=1, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, (count, 4, 5, classes)).astype(np.float32)
  mask = rng.integers(0, 2, (count, 4, 5, 1)).astype(np.uint8)
  return jnp.asarray(logits), {'mask': jnp.asarray(mask)}


def one_pixel(*logits):
  """[1, 1, 1, classes]."""
  return jnp.asarray(logits, jnp.float32).reshape(1, 1, 1, -1)


def test_probabilities_by_hand(bce):
  cases = [
    (one_pixel(0), 0.5),
    (one_pixel(LN3), 0.75),
    (one_pixel(-LN3), 0.25),
    # Of two classes the second is the lesion, and only the difference counts.
    (one_pixel(0, LN3), 0.75),
    (one_pixel(LN3, 0), 0.25),
    (one_pixel(7, 7 + LN3), 0.75),
  ]
  for logits, expected in cases:
    actual = bce.probabilities(logits)
    assert actual.shape == (1, 1, 1, 1)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_losses_by_hand(bce):
  lesion = {'mask': jnp.ones((1, 1, 1, 1), jnp.uint8)}
  for logits in (one_pixel(LN3), one_pixel(0, LN3), one_pixel(-5, -5 + LN3)):
    loss = bce.loss(logits, lesion)
    assert loss.shape == (1,)
    np.testing.assert_allclose(loss, -np.log(0.75), rtol=1e-5)


def test_one_class_is_two_with_a_zero(bce):
  logits, batch = random_logits()
  two = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
  for one, other in [
    (bce.probabilities(logits), bce.probabilities(two)),
    (bce.loss(logits, batch), bce.loss(two, batch)),
  ]:
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize('classes', [1, 2])
def test_heads_are_averaged(bce, classes):
  heads, (batch, *_) = zip(
    *(random_logits(classes=classes, seed=s) for s in range(3)), strict=True
  )
  expected = np.mean([bce.loss(head, batch) for head in heads], axis=0)
  np.testing.assert_allclose(bce.loss(heads, batch), expected, rtol=1e-6)
  expected = np.mean([bce.probabilities(head) for head in heads], axis=0)
  actual = bce.probabilities(heads)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  # Probabilities are averaged, not logits: 3/4 and 1/2 are 5/8.
  two = (one_pixel(LN3), one_pixel(0))
  np.testing.assert_allclose(bce.probabilities(two), 5 / 8, rtol=1e-6)


def test_a_single_head_in_a_tuple_is_that_head(bce):
  logits, batch = random_logits()
  np.testing.assert_array_equal(
    bce.loss((logits,), batch), bce.loss(logits, batch)
  )
  np.testing.assert_array_equal(
    bce.probabilities((logits,)), bce.probabilities(logits)
  )


@pytest.mark.parametrize('name', losses.SEGMENTATION)
def test_the_loss_is_that_of_the_config(name):
  made = task.segmentation({'name': name})
  logits, batch = random_logits()
  expected = losses.SEGMENTATION[name](logits, batch['mask'])
  loss = made.loss(logits, batch)
  assert loss.shape == (3,)
  assert loss.dtype == jnp.float32
  np.testing.assert_array_equal(loss, expected)


def test_constants_reach_the_loss():
  logits, batch = random_logits()
  parts = {
    name: task.segmentation(constants).loss(logits, batch)
    for name, constants in {
      'bce': {'name': 'bce'},
      'dice': {'name': 'soft_dice', 'smooth': 2.0},
      'both': {'name': 'bce_dice', 'alpha': 3.0, 'smooth': 2.0},
    }.items()
  }
  np.testing.assert_allclose(
    parts['both'], 3 * parts['bce'] + parts['dice'], rtol=1e-5
  )
  with pytest.raises(ValueError, match='dise.*soft_dice'):
    task.segmentation({'name': 'dise'})
  with pytest.raises(ValueError, match="bce.*'smooth'"):
    task.segmentation({'name': 'bce', 'smooth': 1.0})


@pytest.mark.parametrize('name', losses.SEGMENTATION)
def test_padding_changes_no_other_image(name):
  """Losses and counts of an image do not depend on the rows beside it."""
  made = task.segmentation({'name': name})
  logits, batch = random_logits(count=4)
  padded = logits.at[2:].set(-1e4)
  empty = {'mask': batch['mask'].at[2:].set(0)}
  np.testing.assert_array_equal(
    made.loss(logits, batch)[:2], made.loss(padded, empty)[:2]
  )
  a = made.rows(made.probabilities(logits), batch)
  b = made.rows(made.probabilities(padded), empty)
  assert a.keys() == b.keys() == {'tp', 'fp', 'fn', 'tn'}
  for k in a:
    np.testing.assert_array_equal(a[k][:2], b[k][:2])


@pytest.mark.parametrize('threshold, found', [(0.5, 1), (0.25, 2), (0.75, 0)])
def test_lesion_is_above_the_threshold(threshold, found):
  made = task.segmentation({'name': 'bce'}, threshold)
  probability = jnp.asarray([0.25, 0.5, 0.75]).reshape(1, 1, 3, 1)
  batch = {'mask': jnp.ones_like(probability, jnp.uint8)}
  rows = made.rows(probability, batch)
  assert rows['tp'] == found
  assert rows['fn'] == 3 - found


def test_scores_are_those_of_metrics(bce):
  logits, batch = random_logits(count=6)
  probability = bce.probabilities(logits)
  columns = jax.device_get(bce.rows(probability, batch))
  predicted = (np.asarray(probability) > 0.5).astype(int)
  counts = metrics.count(predicted, np.asarray(batch['mask']))
  for name in ('tp', 'fp', 'fn', 'tn'):
    np.testing.assert_array_equal(columns[name], getattr(counts, name))
  rows = {k: columns[k] for k in ('tp', 'fp', 'fn', 'tn')}
  ids = [f'i{i}' for i in range(6)]
  summary = metrics.summarise(
    rows | {'image_id': ids, 'lesion_id': ids}, resamples=20
  )
  scores = bce.scores(columns)
  assert scores.keys() == {'dice', 'jaccard', 'accuracy'}
  for name, value in scores.items():
    assert isinstance(value, float)
    assert value == pytest.approx(summary['per_image'][name])


def test_scores_against_scikit_learn(bce):
  sk = pytest.importorskip('sklearn.metrics')
  logits, batch = random_logits(count=6, classes=2, seed=3)
  probability = bce.probabilities(logits)
  columns = jax.device_get(bce.rows(probability, batch))
  predicted = np.asarray(probability).reshape(6, -1) > 0.5
  true = np.asarray(batch['mask']).reshape(6, -1)
  scores = bce.scores(columns)
  for name, score in [
    ('dice', sk.f1_score),
    ('jaccard', sk.jaccard_score),
    ('accuracy', sk.accuracy_score),
  ]:
    expected = np.mean(
      [score(t, p) for t, p in zip(true, predicted, strict=True)]
    )
    assert scores[name] == pytest.approx(expected), name


def test_scores_by_hand(bce):
  """Means of scores of images, not scores of added pixels."""
  columns = {
    'tp': np.array([1, 0, 0]),
    'fp': np.array([1, 0, 2]),
    'fn': np.array([0, 0, 2]),
    'tn': np.array([2, 4, 0]),
  }
  # The second image has no lesion and none was found: perfect.
  assert bce.scores(columns) == {
    'dice': pytest.approx((2 / 3 + 1 + 0) / 3),
    'jaccard': pytest.approx((1 / 2 + 1 + 0) / 3),
    'accuracy': pytest.approx((3 / 4 + 1 + 0) / 3),
  }


def test_half_precision_is_computed_in_single(bce):
  logits, batch = random_logits()
  narrow = logits.astype(jnp.bfloat16)
  for classes in (narrow, jnp.concatenate([-narrow, narrow], axis=-1)):
    assert bce.probabilities(classes).dtype == jnp.float32
    np.testing.assert_array_equal(
      bce.probabilities(classes),
      bce.probabilities(classes.astype(jnp.float32)),
    )
    assert bce.loss(classes, batch).dtype == jnp.float32


def test_what_a_step_sees(bce):
  assert bce.name == 'segmentation'
  assert bce.inputs == ('image',)
  assert task.TASKS['segmentation'] is task.segmentation
