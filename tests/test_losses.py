"""Losses: numbers worked by hand, identities, extremes and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jaxderm import losses

LOG2, E = np.log(2), np.e


def logit(p):
  return np.log(p) - np.log1p(-np.asarray(p, float))


# Two images of 1 x 4 pixels: probabilities and masks.
P = np.array([[0.9, 0.8, 0.3, 0.1], [0.5, 0.5, 0.5, 0.5]])[:, None, :, None]
Y = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], np.uint8)[:, None, :, None]
LOGITS = jnp.asarray(logit(P), jnp.float32)
MASK = jnp.asarray(Y)


def mean(*values):
  return float(np.mean(values))


BCE = [
  -mean(np.log(0.9), np.log(0.8), np.log(0.7), np.log(0.9)),
  LOG2,
]
# Overlaps 1.7 and 0.5; sums 2.1 + 2 and 2 + 1.
DICE = [1 - 4.4 / 5.1, 1 - 2 / 4]


@pytest.mark.parametrize(
  'name, constants, expected',
  [
    ('bce', {}, BCE),
    ('soft_dice', {}, DICE),
    ('soft_dice', {'smooth': 1e-5}, [1 - 3.4 / 4.1, 1 - 1 / 3]),
    # Over both images: overlap 2.2 and sum 7.1.
    ('soft_dice', {'batch_dice': True}, [1 - 5.4 / 8.1] * 2),
    ('bce_dice', {}, [b + d for b, d in zip(BCE, DICE, strict=True)]),
    (
      'bce_dice',
      {'alpha': 0.5, 'convex': True},
      [(b + d) / 2 for b, d in zip(BCE, DICE, strict=True)],
    ),
    (
      'bce_dice',
      {'alpha': 2.0, 'batch_dice': True},
      [2 * b + 1 - 5.4 / 8.1 for b in BCE],
    ),
    (
      'focal',
      {'alpha': 0.25, 'gamma': 2.0},
      [
        -mean(
          0.25 * 0.1**2 * np.log(0.9),
          0.25 * 0.2**2 * np.log(0.8),
          0.75 * 0.3**2 * np.log(0.7),
          0.75 * 0.1**2 * np.log(0.9),
        ),
        0.25 * LOG2 * mean(0.25, 0.75, 0.75, 0.75),
      ],
    ),
    (
      'focal',
      {'alpha': 0.25, 'gamma': 0.75, 'literal': True},
      [
        -mean(
          0.25 * 0.1**0.75 * np.log(0.9),
          0.25 * 0.2**0.75 * np.log(0.8),
          0.75 * 0.3**0.75 * 0.7 * np.log(0.7),
          0.75 * 0.1**0.75 * 0.9 * np.log(0.9),
        ),
        0.5**0.75 * LOG2 * mean(0.25, 0.375, 0.375, 0.375),
      ],
    ),
    (
      'exponential',
      {},
      [mean(*np.exp([-0.9, -0.8, -0.7, -0.9])), np.exp(-0.5)],
    ),
    # k is 1/2, then 1/4: the two class means are added.
    (
      'adapt_exp',
      {},
      [
        mean(*np.exp([-0.9, -0.8])) + mean(*np.exp([-0.7, -0.9])),
        2 * np.exp(-0.5),
      ],
    ),
    # True 1.7, false positives 0.4, false negatives 0.3; then 0.5, 1.5, 0.5.
    (
      'tversky',
      {'alpha': 0.3, 'beta': 0.7},
      [1 - 2.7 / (2.7 + 0.12 + 0.21), 1 - 1.5 / (1.5 + 0.45 + 0.35)],
    ),
    (
      'focal_tversky',
      {'alpha': 0.3, 'beta': 0.7, 'gamma': 2.0},
      np.sqrt([1 - 2.7 / (2.7 + 0.12 + 0.21), 1 - 1.5 / (1.5 + 0.45 + 0.35)]),
    ),
  ],
)
def test_segmentation_by_hand(name, constants, expected):
  actual = losses.make(name, **constants)(LOGITS, MASK)
  assert actual.shape == (2,)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def random_case(seed=0, shape=(3, 8, 7, 1)):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(rng.normal(0, 2, shape), jnp.float32)
  return logits, jnp.asarray(rng.uniform(size=shape) < 0.4, jnp.uint8)


def test_bce_against_scikit_learn():
  logits, mask = random_case()
  p = 1 / (1 + np.exp(-np.asarray(logits, float)))
  expected = [
    metrics.log_loss(y.ravel(), q.ravel()) for y, q in zip(mask, p, strict=True)
  ]
  np.testing.assert_allclose(losses.bce(logits, mask), expected, rtol=1e-5)


def test_clip_is_that_of_the_probability():
  logits = jnp.asarray([-40.0, -16.2, -3.0, 40.0]).reshape(1, 1, 4, 1)
  mask = jnp.asarray([1, 0, 1, 1]).reshape(1, 1, 4, 1)
  p = 1 / (1 + np.exp(-np.asarray(logits, float)))
  p = np.clip(p, 1e-7, 1 - 1e-7)
  expected = -np.mean(np.log(np.where(mask, p, 1 - p)))
  actual = losses.bce(logits, mask, clip=1e-7)
  np.testing.assert_allclose(actual, [expected], rtol=1e-6)
  grad = jax.grad(lambda z: losses.bce(z, mask, clip=1e-7).sum())(logits)
  assert grad[0, 0, 0, 0] == 0  # wrong, but beyond the clip
  grad = jax.grad(lambda z: losses.bce(z, mask).sum())(logits)
  np.testing.assert_allclose(grad[0, 0, 0, 0], -0.25)


def test_bce_is_exact_where_the_pixel_is_nearly_right():
  logits = jnp.full((1, 1, 1, 1), 20.0)
  np.testing.assert_allclose(
    losses.bce(logits, jnp.ones_like(logits)), np.exp(-20.0), rtol=1e-5
  )


def test_identities():
  logits, mask = random_case(1)
  np.testing.assert_allclose(
    losses.focal(logits, mask, alpha=0.5, gamma=0.0),
    losses.bce(logits, mask) / 2,
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    losses.tversky(logits, mask, alpha=0.5, beta=0.5, smooth=0.5),
    losses.soft_dice(logits, mask, smooth=1.0),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    losses.focal_tversky(logits, mask, gamma=1.0),
    losses.tversky(logits, mask),
    rtol=1e-6,
  )
  half = mask.at[:, :, ::2].set(1).at[:, :, 1::2].set(0)[:, :, :6]
  np.testing.assert_allclose(  # k = 1/2 weighs every pixel by 2
    losses.adapt_exp(logits[:, :, :6], half),
    2 * losses.exponential(logits[:, :, :6], half),
    rtol=1e-5,
  )


def test_tversky_weighs_what_it_says():
  """All lesion where there is none, and the other way round."""
  ones = jnp.ones((1, 2, 2, 1))
  more = losses.tversky(1e3 * ones, 0 * ones, alpha=0.3, beta=0.7)
  less = losses.tversky(-1e3 * ones, ones, alpha=0.3, beta=0.7)
  np.testing.assert_allclose(more, 1 - 1 / (1 + 0.3 * 4), rtol=1e-6)
  np.testing.assert_allclose(less, 1 - 1 / (1 + 0.7 * 4), rtol=1e-6)


@pytest.mark.parametrize('lesion', [1, 40, 1024, 4000])
def test_adapt_exp_is_the_sum_of_the_class_means(lesion):
  rng = np.random.default_rng(lesion)
  p = rng.uniform(0.01, 0.99, 64 * 64)
  y = rng.permutation(np.arange(64 * 64) < lesion)
  k, eps = lesion / 64**2, 1e-6
  expected = k / (k + eps) * np.mean(np.exp(-p[y]))
  expected += (1 - k) / (1 - k + eps) * np.mean(np.exp(p[~y] - 1))
  shape = (1, 64, 64, 1)
  actual = losses.adapt_exp(
    jnp.asarray(logit(p).reshape(shape), jnp.float32), y.reshape(shape)
  )
  np.testing.assert_allclose(actual, [expected], rtol=1e-5)


def test_adapt_exp_at_its_landmarks():
  mask = jnp.zeros((1, 256, 256, 1)).at[:, 50:150, 60:170].set(1)
  signs = 2 * mask - 1

  def at(logits, mask=mask):
    return float(losses.adapt_exp(logits, mask)[0])

  np.testing.assert_allclose(at(0 * mask), 1.2131, atol=5e-5)
  np.testing.assert_allclose(at(1e4 * signs), 2 / E, rtol=1e-4)
  np.testing.assert_allclose(at(-1e4 * signs), 2, rtol=1e-4)
  none = 0 * mask
  np.testing.assert_allclose(at(none - 1e4, none), 1 / E, rtol=1e-4)
  np.testing.assert_allclose(at(none + 1e4, none), 1, rtol=1e-4)
  np.testing.assert_allclose(at(none + 1e4, none + 1), 1 / E, rtol=1e-4)
  dot = none.at[0, 9, 9].set(1)  # SPEC 4.4: one pixel of 65,536
  np.testing.assert_allclose(at(1e4 * (2 * dot - 1), dot), 0.713, atol=5e-4)


CASES = [*losses.SEGMENTATION, 'bce_dice/batch_dice', 'focal/gamma']
EXTRA = {
  'bce_dice/batch_dice': {'batch_dice': True},
  'focal/gamma': {'gamma': 0.75, 'literal': True},
}


def case(name):
  return losses.make(name.split('/')[0], **EXTRA.get(name, {}))


@pytest.mark.parametrize('name', CASES)
def test_two_classes_equal_one(name):
  logits, mask = random_case(2)
  other = jnp.asarray(np.random.default_rng(3).normal(0, 3, logits.shape))
  two = jnp.concatenate([other, other + logits], axis=-1)
  p = jax.nn.softmax(two)[..., 1:]
  np.testing.assert_allclose(p, jax.nn.sigmoid(logits), rtol=1e-4)
  np.testing.assert_allclose(
    case(name)(two, mask), case(name)(logits, mask), rtol=1e-5
  )


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('classes', [1, 2])
def test_extremes_are_finite(name, classes):
  sides = np.array([-1e4, -100, -1, 0, 1, 100, 1e4])
  rows = [np.full(7, 0), np.full(7, 1), np.arange(7) % 2]
  mask = jnp.asarray(np.repeat(rows, 3, axis=0)).reshape(9, 1, 7, 1)
  z = np.stack([sides, np.full(7, -1e4), np.full(7, 1e4)] * 3)
  z = z.reshape(9, 1, 7, 1)
  logits = jnp.asarray(np.concatenate([-z, z][-classes:], -1), jnp.float32)
  value = case(name)(logits, mask)
  grad = jax.grad(lambda x: case(name)(x, mask).sum())(logits)
  assert np.all(np.isfinite(value))
  assert np.all(np.isfinite(grad))
  assert np.all(np.asarray(value) > -1e-6)


@pytest.mark.parametrize('name', CASES)
def test_gradients_by_finite_differences(name):
  logits, mask = random_case(4, (2, 3, 3, 1))
  direction = np.random.default_rng(5).normal(size=logits.shape)

  def along(t):
    return case(name)(logits + t * direction, mask).sum()

  actual = jax.grad(along)(0.0)
  expected = (along(0.01) - along(-0.01)) / 0.02
  assert abs(float(expected)) > 1e-3
  np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=3e-5)


def test_gradient_at_zero_logits():
  """A new network answers 0 everywhere and must still learn."""
  logits = jnp.zeros((1, 1, 2, 1))
  mask = jnp.asarray([1, 0]).reshape(1, 1, 2, 1)
  grad = jax.grad(lambda z: losses.bce(z, mask).sum())(logits)
  np.testing.assert_allclose(grad.ravel(), [-0.25, 0.25])


@pytest.mark.parametrize('name', losses.SEGMENTATION)
def test_values_belong_to_their_images(name):
  logits, mask = random_case(6)
  whole = losses.make(name)(logits, mask)
  padded = losses.make(name)(
    jnp.concatenate([logits, 0 * logits]), jnp.concatenate([mask, 0 * mask])
  )
  np.testing.assert_allclose(padded[:3], whole, rtol=1e-6)
  for i in range(3):
    alone = losses.make(name)(logits[i : i + 1], mask[i : i + 1])
    np.testing.assert_allclose(alone, whole[i : i + 1], rtol=1e-6)


@pytest.mark.parametrize('name', losses.SEGMENTATION)
def test_half_precision_is_computed_in_single(name):
  logits, mask = random_case(7)
  logits = logits.astype(jnp.bfloat16)
  actual = losses.make(name)(logits, mask)
  assert actual.dtype == jnp.float32
  expected = losses.make(name)(logits.astype(jnp.float32), mask)
  np.testing.assert_array_equal(actual, expected)


def test_shapes_that_would_broadcast_are_refused():
  with pytest.raises(ValueError, match=r'\[2, 1, 4, 1\], not \[2, 1, 4\]'):
    losses.bce(LOGITS, MASK[..., 0])
  with pytest.raises(ValueError, match=r'\[B, H, W, 2\], not \[2, 1, 4, 3\]'):
    losses.bce(jnp.zeros((2, 1, 4, 3)), MASK)
  with pytest.raises(ValueError, match=r'\[5, 3\] and \[5, 1\]'):
    losses.cross_entropy(jnp.zeros((5, 3)), jnp.zeros((5, 1), int))
  with pytest.raises(ValueError, match=r'each of 3 classes, not \[2\]'):
    losses.cross_entropy(jnp.zeros((1, 3)), jnp.zeros(1, int), weights=(1, 2))


# ------------------------------------------------------------ classification

CLASS_P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25]])
CLASS_LOGITS = jnp.log(CLASS_P) + jnp.asarray([3.0, -2.0, 0.0])[:, None]
LABEL = jnp.asarray([0, 1, 1])


def test_cross_entropy_by_hand_and_scikit_learn():
  actual = losses.cross_entropy(CLASS_LOGITS, LABEL)
  np.testing.assert_allclose(
    actual, -np.log([0.7, 0.1, 0.5]), rtol=1e-5, atol=1e-6
  )
  expected = metrics.log_loss(LABEL, CLASS_P, labels=[0, 1, 2])
  np.testing.assert_allclose(jnp.mean(actual), expected, rtol=1e-5)
  weights = (2.0, 0.5, 7.0)
  actual = losses.cross_entropy(CLASS_LOGITS, LABEL, weights=weights)
  np.testing.assert_allclose(
    actual, [-2 * np.log(0.7), -np.log(0.1) / 2, LOG2 / 2], rtol=1e-5
  )


def test_focal_cross_entropy_by_hand():
  actual = losses.focal_cross_entropy(
    CLASS_LOGITS, LABEL, alpha=[2.0, 0.5, 7.0], gamma=2.0
  )
  expected = [
    -2 * 0.3**2 * np.log(0.7),
    -0.5 * 0.9**2 * np.log(0.1),
    0.5 * 0.25 * LOG2,
  ]
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  np.testing.assert_allclose(
    losses.focal_cross_entropy(CLASS_LOGITS, LABEL, gamma=0.0),
    losses.cross_entropy(CLASS_LOGITS, LABEL),
    rtol=1e-6,
  )


@pytest.mark.parametrize('literal', [False, True])
def test_two_class_focal_is_the_binary_one(literal):
  z = jnp.asarray([-2.0, 0.3, 1.5, 4.0])
  label = jnp.asarray([0, 1, 0, 1])
  actual = losses.focal_cross_entropy(
    jnp.stack([0 * z, z], -1),
    label,
    alpha=(0.75, 0.25),
    gamma=0.75,
    literal=literal,
  )
  expected = losses.focal(
    z.reshape(4, 1, 1, 1),
    label.reshape(4, 1, 1, 1),
    alpha=0.25,
    gamma=0.75,
    literal=literal,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_literal_needs_two_classes():
  with pytest.raises(ValueError, match='2 classes, not 3'):
    losses.focal_cross_entropy(CLASS_LOGITS, LABEL, literal=True)


@pytest.mark.parametrize('name', losses.CLASSIFICATION)
def test_half_precision_classes_are_computed_in_single(name):
  logits = CLASS_LOGITS.astype(jnp.bfloat16)
  actual = losses.make(name)(logits, LABEL)
  assert actual.dtype == jnp.float32
  expected = losses.make(name)(logits.astype(jnp.float32), LABEL)
  np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize('name', losses.CLASSIFICATION)
def test_no_label_costs_nothing(name):
  label = jnp.asarray([0, -1, 1])
  loss = losses.make(name)
  actual = loss(CLASS_LOGITS, label)
  assert actual[1] == 0
  np.testing.assert_array_equal(
    actual[::2], loss(CLASS_LOGITS, LABEL)[np.array([0, 2])]
  )
  grad = jax.grad(lambda z: loss(z, label).sum())(CLASS_LOGITS)
  np.testing.assert_array_equal(grad[1], 0)


@pytest.mark.parametrize(
  'name, constants',
  [
    ('cross_entropy', {'weights': (1.0, 2.0, 3.0)}),
    ('focal_cross_entropy', {'gamma': 0.75, 'alpha': 0.5}),
    ('focal_cross_entropy', {}),
  ],
)
def test_classes_at_extremes_and_by_finite_differences(name, constants):
  loss = losses.make(name, **constants)
  extreme = jnp.asarray(
    [[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4], [0, 0, 0]], jnp.bfloat16
  )
  label = jnp.asarray([0, 0, 1, 2])
  value, grad = loss(extreme, label), jax.grad(lambda z: loss(z, label).sum())
  assert value.dtype == jnp.float32
  assert np.all(np.isfinite(value))
  assert np.all(np.isfinite(grad(extreme)))
  direction = jnp.asarray(np.random.default_rng(8).normal(size=(3, 3)))

  def along(t):
    return loss(CLASS_LOGITS + t * direction, LABEL).sum()

  expected = (along(0.01) - along(-0.01)) / 0.02
  np.testing.assert_allclose(jax.grad(along)(0.0), expected, rtol=2e-3)


# --------------------------------------------------------------------- table


def test_make_says_what_is_right():
  with pytest.raises(ValueError, match=r"'dice'.*soft_dice.*cross_entropy"):
    losses.make('dice')
  with pytest.raises(ValueError, match=r"'beta'.*alpha, gamma, literal"):
    losses.make('focal', beta=1.0)
  with pytest.raises(ValueError, match=r"'logits'.*takes none"):
    losses.make('exponential', logits=LOGITS)
  with pytest.raises(ValueError, match='between 0 and 1'):
    losses.make('bce_dice', convex=True)(LOGITS, MASK)


@pytest.mark.parametrize('name', [*losses.SEGMENTATION, *losses.CLASSIFICATION])
def test_every_constant_has_a_default_and_a_line_of_documentation(name):
  table = {**losses.SEGMENTATION, **losses.CLASSIFICATION}
  constants = table[name].__kwdefaults__ or {}
  losses.make(name, **constants)
  for constant in constants:
    assert f'\n    {constant}: ' in table[name].__doc__
