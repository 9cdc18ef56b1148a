"""One class against the rest, threshold by threshold, in NumPy.

An image is called positive where its score is at the threshold or above, so
images of one score pass together. Weights say how often each image counts:
one row of them for each data set that a bootstrap draws.
"""

import numpy as np

_ROUNDING = 1e-9  # of a share of weights that were added up


def steps(
  positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """What is called positive at each threshold, the highest first.

  Args:
    positive: bool [N].
    score: The higher, the more positive; [N].
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    The K different scores, descending, [K]; positive images found and negative
    ones taken for positive at each of them, [..., K].
  """
  weights = np.ones(len(score)) if weights is None else weights
  order = np.argsort(-score, kind='stable')
  score, positive = score[order], positive[order]
  last = np.append(score[1:] != score[:-1], True)
  weights = weights[..., order]
  found = np.cumsum(weights * positive, axis=-1)[..., last]
  false = np.cumsum(weights * ~positive, axis=-1)[..., last]
  return score[last], found, false


def ranking(
  positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """AUC and average precision of one class against the rest.

  The AUC is the share of the pairs of a positive and a negative image in which
  the positive one has the higher score, ties half (Mann and Whitney, 1947,
  doi:10.1214/aoms/1177730491). The average precision is the sum of
  (R_k - R_{k-1}) P_k over the thresholds.

  Args:
    positive: bool [N].
    score: The higher, the more positive; [N].
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    AUC, NaN without positives or negatives, and average precision, NaN without
    positives; each [...].
  """
  _, found, false = steps(positive, score, weights)
  new = np.diff(found, axis=-1, prepend=0)
  newly_false = np.diff(false, axis=-1, prepend=0)
  positives, negatives = found[..., -1], false[..., -1]
  pairs = np.sum(newly_false * (found - new / 2), axis=-1)
  called = found + false
  gain = np.sum(new * found / np.where(called > 0, called, 1), axis=-1)
  with np.errstate(invalid='ignore'):
    return pairs / (positives * negatives), gain / positives


def roc(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
  """The receiver operating characteristic.

  Args:
    positive: bool [N], of both kinds.
    score: The higher, the more positive; [N].

  Returns:
    One minus the specificity, the sensitivity, and the threshold, ascending in
    the first; [K + 1] each. The first point calls nothing positive.
  """
  thresholds, found, false = steps(positive, score)
  return (
    np.append(0, false) / false[-1],
    np.append(0, found) / found[-1],
    np.append(np.inf, thresholds),
  )


def precision_recall(
  positive: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Recall (ascending) and precision at each threshold, [K] each.

  Args:
    positive: bool [N], some True.
    score: The higher, the more positive; [N].
  """
  _, found, false = steps(positive, score)
  return found / found[-1], found / (found + false)


def auc_above(
  positive: np.ndarray,
  score: np.ndarray,
  sensitivity: float,
  weights: np.ndarray | None = None,
) -> np.ndarray:
  """Area under the part of the ROC that is at a sensitivity or above it.

  It is the area down to 0, as the ISIC challenges score it: not brought to
  [0.5, 1] as in McClish's correction. The curve is straight between its
  points.

  Args:
    positive: bool [N].
    score: The higher, the more positive; [N].
    sensitivity: Above 0, at most 1.
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    [...], from 0 to 1; NaN without positives or negatives.
  """
  _, found, false = steps(positive, score, weights)
  with np.errstate(invalid='ignore'):
    y, x = found / found[..., -1:], false / false[..., -1:]
  before, rise = y - np.diff(y, prepend=0), np.diff(y, prepend=0)
  # The share of each piece of the curve that is below.
  below = np.where(before < sensitivity, 1.0, 0.0)
  climbs = rise > 0
  below = np.where(
    climbs, (sensitivity - before) / np.where(climbs, rise, 1), below
  ).clip(0, 1)
  height = (before + below * rise + y) / 2
  return np.sum((1 - below) * np.diff(x, prepend=0) * height, axis=-1)


def threshold_at(
  positive: np.ndarray, score: np.ndarray, sensitivity: float
) -> float:
  """The highest threshold that finds that share of the positive images.

  Args:
    positive: bool [N], some True.
    score: The higher, the more positive; [N].
    sensitivity: Above 0, at most 1.
  """
  thresholds, found, _ = steps(positive, score)
  enough = found >= sensitivity * found[-1] - _ROUNDING
  return float(thresholds[np.argmax(enough)])


def specificity_at(
  positive: np.ndarray,
  score: np.ndarray,
  sensitivity: float,
  weights: np.ndarray | None = None,
) -> np.ndarray:
  """Specificity at the highest threshold that finds that share of positives.

  The threshold is chosen on the very images that are scored.

  Args:
    positive: bool [N].
    score: The higher, the more positive; [N].
    sensitivity: Above 0, at most 1.
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    [...]; NaN without positives or negatives.
  """
  _, found, false = steps(positive, score, weights)
  positives, negatives = found[..., -1:], false[..., -1:]
  enough = found >= sensitivity * positives - _ROUNDING
  first = np.argmax(enough, axis=-1)[..., None]
  with np.errstate(invalid='ignore'):
    value = 1 - np.take_along_axis(false, first, -1) / negatives
  return np.where(positives > 0, value, np.nan)[..., 0]


def rates(
  positive: np.ndarray,
  score: np.ndarray,
  threshold: float,
  weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Sensitivity and specificity at a threshold.

  Args:
    positive: bool [N].
    score: The higher, the more positive; [N].
    threshold: An image at it or above it is called positive.
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    [...] each; NaN without positives, and without negatives.
  """
  weights = np.ones(len(score)) if weights is None else weights
  called = score >= threshold
  with np.errstate(invalid='ignore'):
    return (
      weights @ (called & positive) / (weights @ positive),
      weights @ (~called & ~positive) / (weights @ ~positive),
    )
