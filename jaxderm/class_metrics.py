"""Probabilities of classes and labels to scores, in NumPy.

An image is predicted to be of its most probable class, the first of several.
Scores of one class count it against all others. What is decided (SPEC 6):

- A ratio of nothing to nothing is 0, as where no image is predicted to be of a
  class.
- A class without an image has no scores: None, and means leave it out. `macro`
  is the plain mean over the classes that are there.
- Where all images are of one class there is no AUC: None, too.
- Intervals are of data sets drawn by lesion; a draw without a class says
  nothing about that class and is passed over for it.
"""

from collections.abc import Callable, Mapping

import numpy as np

from jaxderm import intervals
from jaxderm.ranking import ranking
from jaxderm.rows import Rows, columns

PROBABILITY = 'p_'  # the columns of probabilities are this and the class
RANKINGS = ('auc', 'average_precision')
TOP = (2, 3)


def confusion(
  label: np.ndarray,
  predicted: np.ndarray,
  classes: int,
  weights: np.ndarray | None = None,
) -> np.ndarray:
  """Counts images by true class (rows) and predicted class (columns).

  Args:
    label: True classes in 0..C-1, [N].
    predicted: Predicted classes, [N].
    classes: C.
    weights: How often each image counts, [..., N]; once if None.

  Returns:
    float64 [..., C, C].

  Raises:
    ValueError: If a class is not in 0..C-1.
  """
  cells = np.stack([label, predicted])
  if cells.size and not (cells.min() >= 0 and cells.max() < classes):
    raise ValueError(
      f'Classes must be in 0..{classes - 1}; found {cells.min()} to '
      f'{cells.max()}. Images without a label (-1) cannot be scored.'
    )
  weights = np.ones(len(label)) if weights is None else weights
  place = np.eye(classes**2)[cells[0] * classes + cells[1]]
  return (weights @ place).reshape(*weights.shape[:-1], classes, classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
  """Share of the images that are right; [..., C, C] to [...]."""
  right = np.trace(matrix, axis1=-2, axis2=-1)
  return _ratio(right, matrix.sum((-2, -1)))


def precision(matrix: np.ndarray) -> np.ndarray:
  """TP / (TP + FP) of each class; [..., C, C] to [..., C]."""
  return _ratio(_right(matrix), matrix.sum(-2))


def recall(matrix: np.ndarray) -> np.ndarray:
  """TP / (TP + FN) of each class; [..., C, C] to [..., C]."""
  return _ratio(_right(matrix), matrix.sum(-1))


def specificity(matrix: np.ndarray) -> np.ndarray:
  """TN / (TN + FP) of each class; [..., C, C] to [..., C]."""
  others = matrix.sum((-2, -1))[..., None] - matrix.sum(-1)
  false = matrix.sum(-2) - _right(matrix)
  return _ratio(others - false, others)


def f1(matrix: np.ndarray) -> np.ndarray:
  """2 TP / (2 TP + FP + FN) of each class; [..., C, C] to [..., C]."""
  return _ratio(2 * _right(matrix), matrix.sum(-2) + matrix.sum(-1))


_RATIOS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  f.__name__: f for f in (precision, recall, specificity, f1)
}


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
  """Mean recall of the classes that are there; [..., C, C] to [...]."""
  return macro(recall(matrix), present(matrix))


def present(matrix: np.ndarray) -> np.ndarray:
  """Whether a class has an image; [..., C, C] to bool [..., C]."""
  return matrix.sum(-1) > 0


def macro(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
  """Mean over the classes that are counted, NaN if none is.

  Args:
    values: Of each class, [..., C].
    counted: bool [..., C].
  """
  number = counted.sum(-1)
  mean = np.where(counted, values, 0).sum(-1) / np.maximum(number, 1)
  return np.where(number > 0, mean, np.nan)


def top_k(label: np.ndarray, probability: np.ndarray, k: int) -> np.ndarray:
  """Whether the true class is among the k most probable, bool [N].

  Args:
    label: [N].
    probability: [N, C]. Of equal ones the first class comes first.
    k: From 1 to C.
  """
  best = np.argsort(-probability, axis=1, kind='stable')[:, :k]
  return (best == label[:, None]).any(axis=1)


def macro_auc(label: np.ndarray, probability: np.ndarray) -> float:
  """Mean AUC of the classes against the rest, NaN if all images are of one.

  Args:
    label: Classes in 0..C-1, [N].
    probability: [N, C].
  """
  aucs = np.array(
    [ranking(label == c, column)[0] for c, column in enumerate(probability.T)]
  )
  return float(macro(aucs, np.isfinite(aucs)))


def summarise(
  rows: Rows, *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict:
  """Scores of a data set, with intervals over its lesions.

  Args:
    rows: One for each image, as a list of dicts or a dict of columns, with
      'image_id', 'lesion_id', 'label' (a class by name) and for each class the
      column 'p_<name>'.
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.
    level: Share of the draws that an interval holds.

  Returns:
    A dict that JSON can hold, with None where there is no score:
      scores: accuracy, balanced_accuracy (the mean recall),
        mean_sensitivity_specificity (what Do 2022, paper 002, calls so: the
        mean over classes of the mean of recall and specificity), top2, top3
        where there are more classes than that.
      macro: precision, recall, specificity, f1, auc, average_precision.
      per_class: {class: the same}.
      intervals: all these again, with [low, high] for each value.
      confusion: {'labels': [C], 'counts': [C][C]}; rows are true.
      absent: classes without an image.
      n_images, n_lesions, bootstrap: as in `metrics.summarise`.

  Raises:
    ValueError: If the rows are not as said.
  """
  table = columns(rows, ('label',))
  labels, label, probability = read(table)

  def score(weights):
    return _score(labels, label, probability, weights)

  summary = with_intervals(
    score, table['lesion_id'], resamples=resamples, seed=seed, level=level
  )
  matrix = confusion(label, probability.argmax(1), len(labels))
  absent = [
    k for k, here in zip(labels, present(matrix), strict=True) if not here
  ]
  return summary | {
    'confusion': {'labels': labels, 'counts': matrix.astype(int).tolist()},
    'absent': absent,
    'n_images': len(label),
    'n_lesions': len(np.unique(table['lesion_id'])),
    'bootstrap': {'resamples': resamples, 'seed': seed, 'level': level},
  }


def with_intervals(
  score: Callable[[np.ndarray], dict[tuple[str, ...], np.ndarray]],
  lesion_id: np.ndarray,
  *,
  resamples: int = 2000,
  seed: int = 0,
  level: float = 0.95,
) -> dict:
  """Scores of a data set as a tree, and under 'intervals' the tree of those.

  Args:
    score: Weights of images [R, N] to paths in the tree and their values [R],
      NaN where there is no score.
    lesion_id: Of each image, [N].
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.
    level: Share of the draws that an interval holds.
  """
  drawn = [
    score(weights)
    for weights in intervals.image_weights(
      lesion_id, resamples=resamples, seed=seed
    )
  ]
  summary: dict = {'intervals': {}}
  for key, (value,) in score(np.ones((1, len(lesion_id)))).items():
    draws = np.concatenate([block[key] for block in drawn])
    draws = draws[np.isfinite(draws)]
    interval = (
      intervals.percentile_interval(draws, level) if draws.size else None
    )
    _put(summary, key, float(value) if np.isfinite(value) else None)
    _put(summary['intervals'], key, interval)
  return summary


def read(table: Mapping) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Names of the classes, true classes [N] and probabilities [N, C].

  Args:
    table: Columns of rows; see `summarise`.

  Raises:
    ValueError: If they are not as said.
  """
  labels = [
    name.removeprefix(PROBABILITY)
    for name in table
    if name.startswith(PROBABILITY)
  ]
  if len(labels) < 2:
    raise ValueError(
      f"Columns 'p_<class>' of two or more classes are needed; got {labels}."
    )
  number = {name: i for i, name in enumerate(labels)}
  given = [str(name) for name in table['label']]
  if unknown := sorted(set(given) - set(labels)):
    raise ValueError(
      f"Column 'label' has {unknown[0]!r}, for which there is no column "
      f"'p_{unknown[0]}'; there are {', '.join(labels)}."
    )
  probability = np.stack(
    [np.asarray(table[PROBABILITY + name], np.float64) for name in labels], 1
  )
  if not ((probability >= 0) & (probability <= 1 + 1e-6)).all():
    raise ValueError('Probabilities must be numbers from 0 to 1.')
  return labels, np.array([number[k] for k in given], int), probability


def _score(labels, label, probability, weights) -> dict[tuple, np.ndarray]:
  """Scores of R data sets, [R] each, from weights [R, N]; NaN for none."""
  classes = len(labels)
  matrix = confusion(label, probability.argmax(1), classes, weights)
  here = present(matrix)
  values = {
    name: np.where(here, ratio(matrix), np.nan)
    for name, ratio in _RATIOS.items()
  }
  ranks = [
    ranking(label == c, probability[:, c], weights) for c in range(classes)
  ]
  for name, of_classes in zip(RANKINGS, zip(*ranks, strict=True), strict=True):
    values[name] = np.stack(of_classes, axis=-1)
  both = (values['recall'] + values['specificity']) / 2
  scores = {
    ('scores', 'accuracy'): accuracy(matrix),
    ('scores', 'balanced_accuracy'): balanced_accuracy(matrix),
    ('scores', 'mean_sensitivity_specificity'): macro(both, here),
  }
  for k in TOP:
    if k < classes:
      hits = weights @ top_k(label, probability, k)
      scores['scores', f'top{k}'] = hits / weights.sum(-1)
  for name, value in values.items():
    scores['macro', name] = macro(value, np.isfinite(value))
  for c, label_name in enumerate(labels):
    for name, value in values.items():
      scores['per_class', label_name, name] = value[:, c]
  return scores


def _put(tree: dict, path: tuple[str, ...], value) -> None:
  *above, name = path
  for key in above:
    tree = tree.setdefault(key, {})
  tree[name] = value


def _right(matrix: np.ndarray) -> np.ndarray:
  return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  return part / np.where(whole > 0, whole, 1)
