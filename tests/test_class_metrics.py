"""Scores of classes: by hand, and against scikit-learn."""

import json

import numpy as np
import pytest

from jaxderm import class_metrics, intervals, rows

# Rows are true. Class 0: 3 of 4 right; class 1: 1 of 3; class 2: 2 of 3.
MATRIX = np.array([[3, 1, 0], [2, 1, 0], [0, 1, 2]])
NAMES = ('nv', 'mel', '2')


def drawn(images=60, classes=3, seed=0, digits=1):
  """Labels and probabilities; rounded, so that many are equal."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, classes, images)
  score = rng.random((images, classes)) + 0.4 * np.eye(classes)[label]
  return label, np.round(score / score.sum(1, keepdims=True), digits)


def table(label, probability, names=NAMES, lesions=None):
  ids = [f'i{i:03d}' for i in range(len(label))]
  columns = {f'p_{name}': probability[:, c] for c, name in enumerate(names)}
  return {
    'image_id': ids,
    'lesion_id': ids if lesions is None else lesions,
    'label': [names[c] for c in label],
  } | columns


# ------------------------------------------------------------------- by hand


def test_confusion_by_hand():
  label, predicted = [0, 0, 1, 2], [0, 1, 1, 0]
  expected = [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
  np.testing.assert_array_equal(
    class_metrics.confusion(label, predicted, 3), expected
  )
  twice = class_metrics.confusion(label, predicted, 3, np.array([[1, 0, 3, 2]]))
  np.testing.assert_array_equal(twice, [[[1, 0, 0], [0, 3, 0], [2, 0, 0]]])


@pytest.mark.parametrize('label', [-1, 3])
def test_an_image_without_a_class_is_refused(label):
  with pytest.raises(ValueError, match=f'0..2; found .*{label}'):
    class_metrics.confusion([0, label], [0, 1], 3)


@pytest.mark.parametrize(
  'score, expected',
  [
    (class_metrics.accuracy, 6 / 10),
    (class_metrics.precision, [3 / 5, 1 / 3, 2 / 2]),
    (class_metrics.recall, [3 / 4, 1 / 3, 2 / 3]),
    (class_metrics.specificity, [4 / 6, 5 / 7, 7 / 7]),
    (class_metrics.f1, [6 / 9, 2 / 6, 4 / 5]),
    (class_metrics.balanced_accuracy, (3 / 4 + 1 / 3 + 2 / 3) / 3),
  ],
)
def test_ratios_by_hand(score, expected):
  np.testing.assert_allclose(score(MATRIX), expected)
  stacked = np.stack([MATRIX, 2 * MATRIX])
  np.testing.assert_allclose(score(stacked), [expected] * 2)


def test_a_ratio_of_nothing_is_0_and_an_absent_class_is_in_no_mean():
  # Nobody is of class 1 or predicted to be of class 2.
  matrix = np.array([[3, 1, 0], [0, 0, 0], [1, 1, 0]])
  np.testing.assert_array_equal(class_metrics.recall(matrix), [3 / 4, 0, 0])
  np.testing.assert_array_equal(class_metrics.precision(matrix), [3 / 4, 0, 0])
  np.testing.assert_array_equal(class_metrics.f1(matrix), [3 / 4, 0, 0])
  assert class_metrics.balanced_accuracy(matrix) == (3 / 4 + 0) / 2
  alone = np.array([[2, 0], [0, 0]])
  np.testing.assert_array_equal(class_metrics.specificity(alone), [0, 1])


@pytest.mark.parametrize(
  'positive, score, auc, precision',
  [
    ([1, 1, 0, 0], [4, 3, 2, 1], 1, 1),
    ([0, 0, 1, 1], [4, 3, 2, 1], 0, (1 / 3 + 2 / 4) / 2),
    # Of four pairs, one is lost.
    ([1, 0, 1, 0], [4, 3, 2, 1], 3 / 4, (1 + 2 / 3) / 2),
    # A tie of a positive and a negative counts half.
    ([1, 1, 0, 0], [4, 2, 2, 1], 3.5 / 4, 0.5 * 1 + 0.5 * 2 / 3),
    ([1, 0, 1, 0], [1, 1, 1, 1], 1 / 2, 1 / 2),
  ],
)
def test_rankings_by_hand(positive, score, auc, precision):
  positive, score = np.array(positive, bool), np.array(score)
  order = np.random.default_rng(0).permutation(4)
  for i in (np.arange(4), order):
    actual = class_metrics.ranking(positive[i], score[i])
    np.testing.assert_allclose(actual, (auc, precision))


def test_a_weight_of_two_is_an_image_twice():
  label, probability = drawn(20, 2)
  weights = np.random.default_rng(1).integers(0, 4, (3, 20)).astype(float)
  positive, score = label == 1, probability[:, 1]
  together = class_metrics.ranking(positive, score, weights)
  for k in range(3):
    copies = np.repeat(np.arange(20), weights[k].astype(int))
    alone = class_metrics.ranking(positive[copies], score[copies])
    np.testing.assert_allclose([x[k] for x in together], alone)


def test_top_k_by_hand():
  probability = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
  label = np.array([1, 0, 2])
  for k, expected in [(1, [0, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1])]:
    hits = class_metrics.top_k(label, probability, k)
    np.testing.assert_array_equal(hits, np.array(expected, bool))


# ------------------------------------------------------ against scikit-learn


@pytest.mark.parametrize('classes, absent', [(2, None), (3, None), (4, 1)])
def test_summary_is_scikit_learns(classes, absent):
  sk = pytest.importorskip('sklearn.metrics')
  label, probability = drawn(80, classes, seed=classes, digits=2)
  if absent is not None:
    label[label == absent] = 0
  names = [f'c{i}' for i in range(classes)]
  got = class_metrics.summarise(table(label, probability, names), resamples=5)
  predicted = probability.argmax(1)
  here = sorted(set(label.tolist()))
  how = {'labels': here, 'zero_division': 0}
  parts = sk.precision_recall_fscore_support(label, predicted, **how)
  for name, expected in zip(('precision', 'recall', 'f1'), parts, strict=False):
    actual = [got['per_class'][names[c]][name] for c in here]
    np.testing.assert_allclose(actual, expected)
    assert got['macro'][name] == pytest.approx(np.mean(expected))
  for name, score in [
    ('auc', sk.roc_auc_score),
    ('average_precision', sk.average_precision_score),
  ]:
    expected = [score(label == c, probability[:, c]) for c in here]
    actual = [got['per_class'][names[c]][name] for c in here]
    np.testing.assert_allclose(actual, expected)
    assert got['macro'][name] == pytest.approx(np.mean(expected))
  assert got['scores']['accuracy'] == pytest.approx(
    sk.accuracy_score(label, predicted)
  )
  assert got['scores']['balanced_accuracy'] == pytest.approx(
    sk.recall_score(label, predicted, average='macro', **how)
  )
  np.testing.assert_array_equal(
    got['confusion']['counts'],
    sk.confusion_matrix(label, predicted, labels=range(classes)),
  )


@pytest.mark.parametrize('k', [2, 3])
def test_top_k_is_scikit_learns(k):
  sk = pytest.importorskip('sklearn.metrics')
  label, probability = drawn(50, 5, digits=9)  # no ties: their order is ours
  names = list('abcde')
  got = class_metrics.summarise(table(label, probability, names), resamples=2)
  expected = sk.top_k_accuracy_score(label, probability, k=k, labels=range(5))
  assert got['scores'][f'top{k}'] == pytest.approx(expected)


def test_macro_auc_is_scikit_learns():
  sk = pytest.importorskip('sklearn.metrics')
  label, probability = drawn(70, 3, digits=9)
  probability /= probability.sum(1, keepdims=True)
  expected = sk.roc_auc_score(label, probability, multi_class='ovr')
  actual = class_metrics.macro_auc(label, probability)
  assert actual == pytest.approx(expected)


# ----------------------------------------------------------------- summaries


def numbers(tree):
  """Every number of nested dicts and lists."""
  if isinstance(tree, dict | list):
    inner = tree.values() if isinstance(tree, dict) else tree
    return [x for part in inner for x in numbers(part)]
  return [tree] if isinstance(tree, int | float) else []


def test_summary_by_hand():
  label = np.array([0, 0, 0, 1])
  probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
  got = class_metrics.summarise(
    table(label, probability, ('nv', 'mel'), ['a', 'a', 'b', 'c']),
    resamples=10,
  )
  assert got['scores'] == {
    'accuracy': 3 / 4,
    'balanced_accuracy': pytest.approx((2 / 3 + 1) / 2),
    # The two classes mirror each other: (2/3 + 1)/2 twice.
    'mean_sensitivity_specificity': pytest.approx(5 / 6),
  }
  assert got['per_class']['mel'] == {
    'precision': 1 / 2,
    'recall': 1,
    'specificity': pytest.approx(2 / 3),
    'f1': pytest.approx(2 / 3),
    'auc': 1,
    'average_precision': 1,
  }
  assert got['macro']['specificity'] == pytest.approx(5 / 6)
  assert got['confusion'] == {
    'labels': ['nv', 'mel'],
    'counts': [[2, 1], [0, 1]],
  }
  assert (got['n_images'], got['n_lesions'], got['absent']) == (4, 3, [])


def test_summary_of_three_classes_by_hand():
  cells = np.repeat(np.arange(9), MATRIX.reshape(-1))
  got = class_metrics.summarise(
    table(cells // 3, np.eye(3)[cells % 3]), resamples=5
  )
  assert got['confusion']['counts'] == MATRIX.tolist()
  recall, specificity = (3 / 4, 1 / 3, 2 / 3), (4 / 6, 5 / 7, 1)
  assert got['scores']['balanced_accuracy'] == pytest.approx(np.mean(recall))
  assert got['macro']['specificity'] == pytest.approx(np.mean(specificity))
  assert got['scores']['mean_sensitivity_specificity'] == pytest.approx(
    (np.mean(recall) + np.mean(specificity)) / 2
  )


def test_absent_classes_are_named_and_nothing_is_nan():
  label, probability = drawn(30)
  label[label == 1] = 2
  got = class_metrics.summarise(table(label, probability), resamples=50)
  assert got['absent'] == ['mel']
  assert set(got['per_class']['mel'].values()) == {None}
  assert set(got['intervals']['per_class']['mel'].values()) == {None}
  for name, value in got['macro'].items():
    others = [got['per_class'][k][name] for k in ('nv', '2')]
    assert value == pytest.approx(np.mean(others))
  assert np.isfinite(numbers(got)).all()
  json.dumps(got, allow_nan=False)


def test_one_class_alone_has_no_auc():
  label, probability = drawn(10)
  got = class_metrics.summarise(table(0 * label, probability), resamples=50)
  assert got['macro']['auc'] is None
  assert got['intervals']['macro']['auc'] is None
  assert got['per_class']['nv']['average_precision'] == pytest.approx(1)
  assert got['scores']['balanced_accuracy'] == got['scores']['accuracy']
  json.dumps(got, allow_nan=False)
  assert np.isnan(class_metrics.macro_auc(0 * label, probability))


def test_intervals_are_of_lesions_and_pass_over_draws_without_a_class():
  # Ten lesions; only the last is of class 1, and it is right.
  label = np.array([0] * 9 + [1])
  probability = np.stack([1.0 - label, label], 1).astype(float)
  got = class_metrics.summarise(
    table(label, probability, ('nv', 'mel')), resamples=200
  )
  # A third of the draws lacks it; they would else give a recall of 0.
  assert got['intervals']['per_class']['mel']['recall'] == [1, 1]
  assert got['intervals']['macro']['auc'] == [1, 1]
  # One lesion with all the images has one data set to draw.
  label, probability = drawn(30)
  got = class_metrics.summarise(
    table(label, probability, lesions=['a'] * 30), resamples=20
  )
  for name, value in got['scores'].items():
    assert got['intervals']['scores'][name] == [value, value]


def test_intervals_are_those_of_the_bootstrap(monkeypatch):
  label, probability = drawn(40)
  lesions = [f'l{i % 13}' for i in range(40)]
  got = class_metrics.summarise(
    table(label, probability, lesions=lesions), resamples=300, seed=7
  )
  right = (probability.argmax(1) == label).astype(float)
  sums = intervals.lesion_sums(lesions, np.stack([right, np.ones(40)], 1))
  draws = intervals.bootstrap(
    sums, lambda t: {('a',): t[:, 0] / t[:, 1]}, resamples=300, seed=7
  )
  expected = intervals.percentile_interval(draws['a',])
  assert got['intervals']['scores']['accuracy'] == pytest.approx(expected)
  # However many draws are held at once.
  monkeypatch.setattr(intervals, '_DRAWS', 50)
  again = class_metrics.summarise(
    table(label, probability, lesions=lesions), resamples=300, seed=7
  )
  assert numbers(again) == pytest.approx(numbers(got))


def test_rows_come_back_from_the_disk(tmp_path):
  label, probability = drawn(12)
  names = ('0', '1', 'nan')  # text, whatever it looks like
  made = table(label, probability, names)
  path = tmp_path / 'rows.csv'
  rows.write_rows(path, made, ('label',))
  again = rows.read_rows(path, ('label',))
  assert [r['label'] for r in again] == made['label']
  assert class_metrics.summarise(again, resamples=9) == class_metrics.summarise(
    made, resamples=9
  )
  with pytest.raises(ValueError, match='lack.*tp'):
    rows.read_rows(path)


@pytest.mark.parametrize(
  'change, told',
  [
    ({'label': ['x'] * 5}, "'x'.*'p_x'; there are nv, mel, 2"),
    ({'label': [''] * 5}, "'label' has an empty cell"),
    ({'p_mel': [0.1, 0.2, np.nan, 0, 0]}, 'from 0 to 1'),
    ({'p_mel': [0.1, 0.2, 1.5, 0, 0]}, 'from 0 to 1'),
    ({'image_id': ['a'] * 5}, 'more than one row'),
  ],
)
def test_wrong_rows_are_refused(change, told):
  with pytest.raises(ValueError, match=told):
    class_metrics.summarise(table(*drawn(5)) | change)


def test_rows_without_probabilities_or_labels():
  made = table(*drawn(5))
  lone = {k: v for k, v in made.items() if k in ('image_id', 'lesion_id')}
  with pytest.raises(ValueError, match=r"lack \['label'\]"):
    class_metrics.summarise(lone)
  with pytest.raises(ValueError, match='two or more classes'):
    class_metrics.summarise(lone | {'label': made['label']})
