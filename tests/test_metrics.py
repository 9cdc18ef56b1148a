import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_rows import row, some_rows
from sklearn import metrics as reference

from jaxderm import identities, intervals, metrics

SQUARE = np.zeros((1, 6, 6), np.uint8)
SQUARE[0, 1:3, 1:3] = 1
NOTHING = np.zeros_like(SQUARE)
ALL = np.ones_like(SQUARE)
SHIFTED = np.roll(SQUARE, 1, axis=2)


@pytest.mark.parametrize(
  'predicted, true, dice, jaccard, accuracy, sensitivity, specificity',
  [
    (SQUARE, SQUARE, 1, 1, 1, 1, 1),
    # 2 pixels of 4 shared: 2 found, 2 false, 2 missed, 30 kept.
    (SHIFTED, SQUARE, 4 / 8, 2 / 6, 32 / 36, 2 / 4, 30 / 32),
    (NOTHING, NOTHING, 1, 1, 1, 1, 1),
    (NOTHING, SQUARE, 0, 0, 32 / 36, 0, 1),
    (SQUARE, NOTHING, 0, 0, 32 / 36, 1, 32 / 36),
    (ALL, SQUARE, 8 / 40, 4 / 36, 4 / 36, 1, 0),
    (ALL, ALL, 1, 1, 1, 1, 1),
  ],
)
def test_scores_by_hand(
  predicted, true, dice, jaccard, accuracy, sensitivity, specificity
):
  c = metrics.count(predicted, true)
  expected = {
    'dice': dice,
    'jaccard': jaccard,
    'accuracy': accuracy,
    'sensitivity': sensitivity,
    'specificity': specificity,
  }
  got = {name: getattr(metrics, name)(c).tolist() for name in metrics.SCORES}
  assert got == {k: [v] for k, v in expected.items()}


def test_thresholded_jaccard_keeps_the_threshold_itself():
  # 13/20 is 0.65, which stays; 12/20 goes; the mean is over all images.
  c = metrics.Counts(*np.array([[13, 12, 20], [7, 8, 0], [0] * 3, [9] * 3]))
  assert metrics.thresholded_jaccard(c).tolist() == [0.65, 0.0, 1.0]


def test_two_class_by_hand():
  # Lesion 2/6; background 30 of 34.
  c = metrics.count(SHIFTED, SQUARE)
  np.testing.assert_allclose(
    metrics.two_class('jaccard', c), [(2 / 6 + 30 / 34) / 2], rtol=1e-15
  )
  # 4 found, 2 false, 30 kept. The background's sensitivity is the lesion's
  # specificity, so both names give their mean.
  c = metrics.count(SHIFTED | SQUARE, SQUARE)
  for name in ('sensitivity', 'specificity'):
    np.testing.assert_allclose(
      metrics.two_class(name, c), [(1 + 30 / 32) / 2], rtol=1e-15
    )
  assert metrics.two_class('accuracy', c).tolist() == [34 / 36]


def test_scores_agree_with_scikit_learn():
  rng = np.random.default_rng(1)
  true = rng.random((5, 9, 11)) < rng.random((5, 1, 1))
  predicted = true ^ (rng.random(true.shape) < 0.2)
  c = metrics.count(predicted, true)
  table = {k: getattr(c, k) for k in ('tp', 'fp', 'fn', 'tn')}
  table['image_id'] = table['lesion_id'] = list('abcde')
  got = metrics.summarise(table, resamples=2)
  scores = {
    'dice': reference.f1_score,
    'jaccard': reference.jaccard_score,
    'accuracy': reference.accuracy_score,
    'sensitivity': reference.recall_score,
    'specificity': lambda t, p: reference.recall_score(t, p, pos_label=0),
  }
  close = {'rtol': 0, 'atol': 1e-12}
  for name, score in scores.items():
    pairs = [
      (t.ravel(), p.ravel()) for t, p in zip(true, predicted, strict=True)
    ]
    each = [score(t, p) for t, p in pairs]
    np.testing.assert_allclose(getattr(metrics, name)(c), each, **close)
    np.testing.assert_allclose(got['per_image'][name], np.mean(each), **close)
    pooled = score(true.ravel(), predicted.ravel())
    np.testing.assert_allclose(got['pooled'][name], pooled, **close)
  for name in ('dice', 'jaccard'):
    both = [scores[name](t, p, average='macro') for t, p in pairs]
    np.testing.assert_allclose(
      got['two_class_per_image'][name], np.mean(both), **close
    )
    np.testing.assert_allclose(
      got['two_class'][name],
      scores[name](true.ravel(), predicted.ravel(), average='macro'),
      **close,
    )


def test_count_refuses_what_is_no_mask():
  with pytest.raises(ValueError, match=r'0 and 1 only; found 255'):
    metrics.count(SQUARE * 255, SQUARE)
  with pytest.raises(ValueError, match=r'found 0\.3'):
    metrics.count(SQUARE * 0.3, SQUARE)
  with pytest.raises(ValueError, match='differ in shape'):
    metrics.count(SQUARE[:, :5], SQUARE)
  # One image must not be taken for six.
  with pytest.raises(ValueError, match=r'\[N, H, W\]'):
    metrics.count(SQUARE[0, ..., None], SQUARE[0, ..., None])


@pytest.mark.parametrize('layout', [SQUARE[0], SQUARE, SQUARE[..., None]])
def test_count_takes_all_layouts(layout):
  c = metrics.count(layout, layout)
  got = [getattr(c, f.name).tolist() for f in dataclasses.fields(c)]
  assert got == [[4], [0], [0], [32]]


def test_count_on_device_agrees_and_half_is_background():
  rng = np.random.default_rng(2)
  probability = rng.choice([0.2, 0.5, 0.7], (3, 8, 7, 1)).astype(np.float32)
  mask = (rng.random(probability.shape) < 0.4).astype(np.uint8)
  c = metrics.count(probability > 0.5, mask)
  got = jax.jit(metrics.count_on_device)(probability, mask)
  for name, value in got.items():
    assert value.dtype == jnp.int32
    np.testing.assert_array_equal(value, getattr(c, name), name)


def test_count_on_device_counts_beyond_float32():
  # 2^24 + 4096 + 1 is no float32; the one odd pixel must not be lost.
  shape = (1, 4097, 4096, 1)
  mask = jnp.zeros(shape, jnp.uint8).at[0, 7, 7, 0].set(1)
  got = metrics.count_on_device(jnp.zeros(shape, jnp.bfloat16), mask)
  assert {k: int(v[0]) for k, v in got.items()} == {
    'tp': 0,
    'fp': 0,
    'fn': 1,
    'tn': 4097 * 4096 - 1,
  }


def test_summary_by_hand():
  got = metrics.summarise(
    [
      row('a', 'x', tp=8, fp=0, fn=2, tn=10, hausdorff=3.0, hd95=1.0),
      row('b', 'x', tp=2, fp=4, fn=4, tn=10, hausdorff=5.0, hd95=2.0),
    ]
  )
  assert got['per_image']['jaccard'] == pytest.approx((0.8 + 0.2) / 2)
  assert got['per_image']['thresholded_jaccard'] == pytest.approx(0.4)
  assert got['per_image']['hausdorff'] == 4.0
  assert got['per_image']['hd95'] == 1.5
  assert got['pooled']['jaccard'] == pytest.approx(10 / 20)
  assert got['pooled']['dice'] == pytest.approx(20 / 30)
  assert (got['n_images'], got['n_lesions'], got['failures']) == (2, 1, 0.5)
  assert sum(got['dice_histogram']['counts']) == 2
  assert set(metrics.CONVENTIONS) < set(got)
  for convention in metrics.CONVENTIONS:
    assert set(got[convention]) == set(got['intervals'][convention])


def test_equal_images_have_no_width():
  same = [row(f'{i}', tp=7, fp=2, fn=1, tn=5) for i in range(9)]
  for scores in metrics.summarise(same)['intervals'].values():
    pairs = scores.values() if isinstance(scores, dict) else [scores]
    for low, high in pairs:
      assert high - low < 1e-12


def test_one_lesion_has_no_width_though_its_images_differ():
  table = [r | {'lesion_id': 'only'} for r in some_rows()]
  got = metrics.summarise(table)
  low, high = got['intervals']['per_image']['dice']
  assert high - low < 1e-12
  assert low == pytest.approx(got['per_image']['dice'], abs=1e-12)


def test_two_lesions_have_the_exact_distribution():
  # Lesion a: one image of Dice 1. Lesion b: three of Dice 0. Both once: 1/4.
  sums = intervals.lesion_sums(
    ['b', 'a', 'b', 'b'], np.array([[0, 1], [1, 1], [0, 1], [0, 1]])
  )
  draws = intervals.bootstrap(
    sums, lambda t: {('mean',): t[:, 0] / t[:, 1]}, resamples=4000
  )['mean',]
  values, times = np.unique(draws, return_counts=True)
  assert values.tolist() == [0.0, 0.25, 1.0]
  # Shares 1/4, 1/2, 1/4, within 5 standard errors.
  np.testing.assert_allclose(times / 4000, [0.25, 0.5, 0.25], atol=0.04)


def test_interval_of_many_lesions_is_that_of_the_normal():
  # Per-image accuracy: half of the lesions 1, half 0; error 0.5 / sqrt(400).
  table = [row(f'{i}', tp=i % 2, fp=1 - i % 2) for i in range(400)]
  low, high = metrics.summarise(table)['intervals']['per_image']['accuracy']
  assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
  assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_intervals_do_not_depend_on_the_order_of_rows():
  table = some_rows()
  once = metrics.summarise(table)['intervals']['pooled']['dice']
  again = metrics.summarise(table[::-1])['intervals']['pooled']['dice']
  other = metrics.summarise(table, seed=1)['intervals']['pooled']['dice']
  np.testing.assert_allclose(once, again, rtol=1e-12)
  assert once != other


def test_blocks_of_draws_are_all_kept(monkeypatch):
  monkeypatch.setattr(intervals, '_DRAWS', 20)
  weights = list(intervals._weights(7, 5, seed=0))
  assert [len(w) for w in weights] == [2, 2, 1]
  assert np.concatenate(weights).sum(axis=1).tolist() == [7] * 5


@pytest.mark.parametrize(
  'convention, dice, jaccard, told',
  [
    ('per_image', 0.93, 0.96, 'cannot exceed'),
    ('pooled', 0.93, 0.96, 'cannot exceed'),
    ('two_class', 0.93, 0.96, 'cannot exceed'),
    ('pooled', 0.93, 0.87, r'D / \(2 - D\)'),
    ('pooled', 0.93, 0.86, r'D / \(2 - D\)'),
    ('per_image', 0.93, 0.86, 'at least'),
    ('per_image', float('nan'), 0.8, 'within 0 and 1'),
    ('per_image', 0.8, float('nan'), 'within 0 and 1'),
  ],
)
def test_impossible_scores_raise(convention, dice, jaccard, told):
  with pytest.raises(ValueError, match=told):
    metrics.check_consistency({convention: {'dice': dice, 'jaccard': jaccard}})


def test_possible_scores_pass():
  pooled = {'dice': 0.93, 'jaccard': 0.93 / (2 - 0.93)}
  identities.check_consistency(
    {
      'pooled': pooled,
      'per_image': {'dice': 0.93, 'jaccard': 0.89},
      'two_class': {'accuracy': 0.9},
      'failures': 0.1,
    }
  )
  printed = {'pooled': {'dice': 0.93, 'jaccard': 0.87}}
  metrics.check_consistency(printed, tolerance=0.01)


def test_summary_is_checked(monkeypatch):
  monkeypatch.setitem(metrics._SCORE, 'jaccard', metrics.accuracy)
  with pytest.raises(ValueError, match='impossible'):
    metrics.summarise(some_rows(), resamples=2)


@pytest.mark.parametrize(
  'change, told',
  [
    ({'image_id': 'i001'}, 'i001 has more than one row'),
    ({'tp': -1}, "'tp' must hold whole numbers"),
    ({'tp': 1.5}, "'tp' must hold whole numbers"),
    ({'lesion_id': ''}, "'lesion_id' has an empty cell"),
    ({'hd95': float('nan')}, "'hd95' must be finite"),
    ({'more': 1}, 'differ in their columns'),
  ],
)
def test_wrong_rows_raise(change, told):
  table = some_rows(3)
  table[0] |= change
  with pytest.raises(ValueError, match=told):
    metrics.summarise(table)


def test_no_rows_raise():
  with pytest.raises(ValueError, match='lack'):
    metrics.summarise([])
  table = some_rows(3)
  for r in table:
    del r['lesion_id']
  with pytest.raises(ValueError, match=r"lack \['lesion_id'\]"):
    metrics.summarise(table)
