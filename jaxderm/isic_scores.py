"""The scores of a classification as the scorer of the ISIC challenges has them.

github.com/ImageMarkup/isic-challenge-scoring, classification.py and metrics.py
at 1d1f2c6. What differs from `class_metrics`:

- A class is predicted where its own probability is above 0.5, so an image may
  be predicted to be of no class.
- A ratio of nothing to nothing is 1: of an empty prediction the precision
  (`ppv`) is perfect.
- In the balanced accuracy an image with two most probable classes is
  undecided, which is wrong.
- `auc_sens_80` is the area under the ROC above a sensitivity of 0.80, down
  to 0.

A class without an image, on which their scorer stops, has no scores here.
"""

import numpy as np

from jaxderm.ranking import auc_above, ranking

NAMES = (
  'accuracy',
  'sensitivity',
  'specificity',
  'dice',
  'ppv',
  'npv',
  'auc',
  'auc_sens_80',
  'ap',
)


def scores(
  labels: list[str],
  label: np.ndarray,
  probability: np.ndarray,
  weights: np.ndarray,
) -> dict[tuple[str, ...], np.ndarray]:
  """Scores of R data sets.

  Args:
    labels: Names of the classes, [C].
    label: True classes in 0..C-1, [N].
    probability: [N, C].
    weights: How often each image counts, [R, N].

  Returns:
    Under ('isic', 'balanced_accuracy'), ('isic', 'macro', name) and ('isic',
    'per_class', class, name) the values [R], NaN where there is none.
  """
  found = {}
  most = probability.max(1, keepdims=True)
  decided = (probability == most).sum(1) == 1
  right = decided & (probability.argmax(1) == label)
  of_classes, recalls = [], []
  for c, name in enumerate(labels):
    positive = label == c
    images = weights @ positive
    here = images > 0
    values = _of_class(positive, probability[:, c], weights)
    values = {k: np.where(here, v, np.nan) for k, v in values.items()}
    found |= {('isic', 'per_class', name, k): v for k, v in values.items()}
    of_classes.append([values[k] for k in NAMES])
    recall = weights @ (positive & right) / np.where(here, images, 1)
    recalls.append(np.where(here, recall, np.nan))
  found['isic', 'balanced_accuracy'] = _mean(np.array(recalls))
  for k, values in zip(NAMES, np.array(of_classes).swapaxes(0, 1), strict=True):
    found['isic', 'macro', k] = _mean(values)
  return found


def _of_class(
  positive: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
  called = score > 0.5
  tp, fp = weights @ (called & positive), weights @ (called & ~positive)
  fn, tn = weights @ (~called & positive), weights @ (~called & ~positive)
  auc, precision = ranking(positive, score, weights)
  values = (
    (tp + tn) / (tp + tn + fp + fn),
    _ratio(tp, tp + fn),
    _ratio(tn, tn + fp),
    _ratio(2 * tp, 2 * tp + fp + fn),
    _ratio(tp, tp + fp),
    _ratio(tn, tn + fn),
    auc,
    auc_above(positive, score, 0.8, weights),
    precision,
  )
  return dict(zip(NAMES, values, strict=True))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 1.0)


def _mean(values: np.ndarray) -> np.ndarray:
  """Over the classes that have a value, [C, R] to [R]; NaN if none has."""
  there = np.isfinite(values)
  total = np.where(there, values, 0).sum(0)
  return np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan)
