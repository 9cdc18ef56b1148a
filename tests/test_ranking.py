"""One class against the rest: curves, points and the ISIC scorer's scores."""

import numpy as np
import pytest
import sklearn.metrics as sk

from jaxderm import isic_scores, operating, ranking

POSITIVE = np.array([1, 1, 0, 1, 0, 0, 1, 0], bool)
SCORE = np.array([9, 8, 7, 6, 5, 4, 3, 2]) / 10


def drawn(images=80, seed=0, digits=1):
  """Rounded scores, so that many are equal."""
  rng = np.random.default_rng(seed)
  positive = rng.random(images) < 0.4
  return positive, np.round(rng.random(images) + 0.3 * positive, digits)


@pytest.mark.parametrize(
  'sensitivity, threshold, specificity',
  [
    (0.5, 0.8, 1),  # two of four found, nobody else
    (0.51, 0.6, 3 / 4),
    (0.75, 0.6, 3 / 4),  # exactly three of four
    (0.76, 0.3, 1 / 4),
    (1.0, 0.3, 1 / 4),
  ],
)
def test_operating_points_by_hand(sensitivity, threshold, specificity):
  for order in (np.arange(8), np.random.default_rng(0).permutation(8)):
    given = POSITIVE[order], SCORE[order]
    assert ranking.threshold_at(*given, sensitivity) == threshold
    assert ranking.specificity_at(*given, sensitivity) == specificity
    reached, kept = ranking.rates(*given, threshold)
    assert reached >= sensitivity and kept == specificity


def test_images_of_one_score_pass_together():
  positive, score = np.array([1, 1, 0, 0], bool), np.array([2, 1, 1, 0])
  # The second positive cannot be had without the negative of its score.
  assert ranking.specificity_at(positive, score, 0.9) == 1 / 2
  assert ranking.threshold_at(positive, score, 0.9) == 1


@pytest.mark.parametrize('sensitivity', [0.3, 0.9, 0.95])
@pytest.mark.parametrize('digits', [1, 9])
def test_specificity_is_that_of_scikit_learns_curve(sensitivity, digits):
  positive, score = drawn(digits=digits)
  false, found, _ = sk.roc_curve(positive, score, drop_intermediate=False)
  expected = 1 - false[found >= sensitivity].min()
  actual = ranking.specificity_at(positive, score, sensitivity)
  assert actual == pytest.approx(expected)


@pytest.mark.parametrize('digits', [1, 9])
def test_curves_are_scikit_learns(digits):
  positive, score = drawn(digits=digits)
  expected = sk.roc_curve(positive, score, drop_intermediate=False)
  for a, b in zip(ranking.roc(positive, score), expected, strict=True):
    np.testing.assert_allclose(a, b)
  precision, recall, _ = sk.precision_recall_curve(positive, score)
  ours = ranking.precision_recall(positive, score)
  np.testing.assert_allclose(ours[0], recall[:-1][::-1])
  np.testing.assert_allclose(ours[1], precision[:-1][::-1])


def test_weights_are_copies_of_images():
  positive, score = drawn(20)
  weights = np.random.default_rng(1).integers(0, 4, (3, 20)).astype(float)
  for name, extra in (
    ('specificity_at', (0.7,)),
    ('auc_above', (0.8,)),
    ('rates', (0.6,)),
  ):
    score_of = getattr(ranking, name)
    together = np.moveaxis(
      np.asarray(score_of(positive, score, *extra, weights)), -1, 0
    )
    for k in range(3):
      copies = np.repeat(np.arange(20), weights[k].astype(int))
      alone = score_of(positive[copies], score[copies], *extra)
      np.testing.assert_allclose(together[k], alone, err_msg=name)


def test_without_positives_there_is_no_score():
  nobody, score = np.zeros(4, bool), np.arange(4.0)
  assert np.isnan(ranking.specificity_at(nobody, score, 0.9))
  assert np.isnan(ranking.auc_above(nobody, score, 0.8))
  assert np.isnan(ranking.specificity_at(~nobody, score, 0.9))


# ---------------------------------------------------------- the ISIC scorer


def isics_partial_auc(truth, score, least):
  """`auc_above_sensitivity` of isic-challenge-scoring, in its own words."""
  x, y, _ = sk.roc_curve(truth, score, drop_intermediate=False)
  first = y.searchsorted(least, side='left')
  cut = np.interp(least, y[first - 1 : first + 1], x[first - 1 : first + 1])
  return sk.auc(np.insert(x[first:], 0, cut), np.insert(y[first:], 0, least))


def test_area_above_a_sensitivity_by_hand():
  # The curve: up to 1/2, right to 1/2, up to 1, right to 1. Above 3/4 it is
  # the right half of the square.
  positive, score = np.array([1, 0, 1, 0], bool), np.array([4, 3, 2, 1])
  assert ranking.auc_above(positive, score, 0.75) == pytest.approx(1 / 2)
  # Ties make a straight line to the corner: of it, the piece above 3/4.
  line = ranking.auc_above(positive, np.ones(4), 0.75)
  assert line == pytest.approx(0.25 * (0.75 + 1) / 2)


@pytest.mark.parametrize('least', [0.5, 0.8, 1.0])
@pytest.mark.parametrize('seed', range(4))
def test_area_above_a_sensitivity_is_the_isic_scorers(least, seed):
  positive, score = drawn(30, seed)
  expected = isics_partial_auc(positive, score, least)
  actual = ranking.auc_above(positive, score, least)
  assert actual == pytest.approx(expected, abs=1e-12)


def test_isic_scores_by_hand():
  label = np.array([0, 0, 1, 1, 2])
  probability = np.array(
    [
      [0.6, 0.2, 0.2],
      [0.4, 0.4, 0.2],  # undecided, and nothing above 0.5
      [0.3, 0.6, 0.1],
      [0.7, 0.2, 0.1],
      [0.4, 0.3, 0.3],
    ]
  )
  found = isic_scores.scores(
    ['a', 'b', 'c'], label, probability, np.ones((1, 5))
  )
  got = {k: v[0] for k, v in found.items()}
  # Right are the first and the third image; argmax alone would have the second.
  expected = {
    ('isic', 'balanced_accuracy'): (1 / 2 + 1 / 2 + 0) / 3,
    ('isic', 'per_class', 'a', 'sensitivity'): 1 / 2,
    ('isic', 'per_class', 'a', 'specificity'): 2 / 3,
    ('isic', 'per_class', 'a', 'ppv'): 1 / 2,
    ('isic', 'per_class', 'a', 'npv'): 2 / 3,
    ('isic', 'per_class', 'a', 'dice'): 2 / 4,
    ('isic', 'per_class', 'a', 'accuracy'): 3 / 5,
    # Nothing is called c: its precision is perfect.
    ('isic', 'per_class', 'c', 'ppv'): 1,
    ('isic', 'per_class', 'c', 'sensitivity'): 0,
    ('isic', 'macro', 'sensitivity'): 1 / 3,
  }
  assert {k: got[k] for k in expected} == pytest.approx(expected)
  truth, score = label == 0, probability[:, 0]
  assert got['isic', 'per_class', 'a', 'auc_sens_80'] == pytest.approx(
    isics_partial_auc(truth, score, 0.8)
  )
  assert got['isic', 'per_class', 'a', 'ap'] == pytest.approx(
    sk.average_precision_score(truth, score)
  )
  assert np.isfinite(list(got.values())).all()


# --------------------------------------------------------- operating points


def test_thresholds_of_validation_are_used_elsewhere():
  label = POSITIVE.astype(int)
  probability = np.stack([1 - SCORE, SCORE], 1)
  # On validation 0.45 finds both melanomas: on the scored images it finds
  # three of four and takes two others (0.7 and 0.5) for one.
  others = np.array([1, 1, 0]), np.array([[0.1, 0.9], [0.55, 0.45], [0.8, 0.2]])
  got = operating.summarise(
    ['nv', 'mel'],
    (label, probability),
    np.array([f'l{i}' for i in range(8)]),
    others,
    resamples=50,
  )
  point = got['validation']['mel']['0.90']
  assert point['threshold'] == pytest.approx(0.45)
  assert (point['sensitivity'], point['specificity']) == (3 / 4, 2 / 4)
  point = got['scored']['mel']['0.95']
  assert point['threshold'] == pytest.approx(0.3)
  assert (point['sensitivity'], point['specificity']) == (1, 1 / 4)
  for name in ('sensitivity', 'specificity'):
    low, high = point['intervals'][name]
    assert 0 <= low <= point[name] <= high <= 1


def test_a_class_without_images_has_no_operating_point():
  label = np.array([0, 0, 1])
  probability = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
  got = operating.summarise(
    ['a', 'b', 'c'],
    (label, probability),
    np.array(['x', 'y', 'z']),
    (np.array([0, 2]), probability[:2]),
    resamples=5,
  )
  assert got['scored']['c'] == {'0.90': None, '0.95': None}
  assert got['validation']['b'] == {'0.90': None, '0.95': None}
  assert got['validation']['a']['0.90']['specificity'] == 1
