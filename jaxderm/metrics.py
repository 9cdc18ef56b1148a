"""Pixels are counted per image; scores are ratios of counts, in NumPy.

Every score has its convention in its name's place:

- `per_image`: the score of each image, then the mean over images. This is the
  rule of the ISIC challenges.
- `pooled`: the pixels of all images are added up, then one score. Large
  lesions and large images weigh more.
- `two_class`: the mean of the lesion's score and the background's, each from
  the pooled counts: what Keras' MeanIoU gives. It flatters: a background is
  easy.
- `two_class_per_image`: that mean for each image, then the mean over images.

A ratio of nothing to nothing is 1, as in the ISIC challenge's scorer: an empty
prediction of an empty mask is perfect, sensitivity without a lesion and
specificity without a background are perfect too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxderm import intervals
from jaxderm.identities import check_consistency
from jaxderm.rows import Rows, columns, read_rows, write_rows  # noqa: F401

# Below this an outline is a failure (ISIC 2018, task 1).
FAILURE = 0.65
SCORES = ('dice', 'jaccard', 'accuracy', 'sensitivity', 'specificity')
CONVENTIONS = ('per_image', 'pooled', 'two_class', 'two_class_per_image')


@dataclasses.dataclass(frozen=True)
class Counts:
  """Pixels of each image, [N]: lesion found, false, missed; skin kept."""

  tp: np.ndarray
  fp: np.ndarray
  fn: np.ndarray
  tn: np.ndarray


def as_mask(mask: np.ndarray) -> np.ndarray:
  """The mask as bool.

  Raises:
    ValueError: If it has values other than 0 and 1: a probability or a PNG of
      0 and 255 would else be counted as lesion wherever it is not 0.
  """
  mask = np.asarray(mask)
  if mask.dtype == np.bool_:
    return mask
  is_lesion = mask == 1
  if not np.array_equal(is_lesion, mask):
    wrong = mask[is_lesion != mask].reshape(-1)[0]
    raise ValueError(
      f'A mask holds 0 and 1 only; found {wrong}. Cut probabilities at 0.5 '
      '(p > 0.5) and masks of 0 and 255 at 127.'
    )
  return is_lesion


def count(predicted: np.ndarray, true: np.ndarray) -> Counts:
  """Counts the pixels of masks.

  Args:
    predicted: 1 on the lesion (p > 0.5), 0 off it. [N, H, W], [N, H, W, 1], or
      one image [H, W].
    true: Shaped as `predicted`.

  Raises:
    ValueError: If a mask is not made of 0 and 1, or the shapes are wrong.
  """
  predicted, true = as_mask(predicted), as_mask(true)
  shape = predicted.shape
  if shape != true.shape:
    raise ValueError(f'Masks differ in shape: {shape} and {true.shape}.')
  layout = {2: True, 3: shape[-1] != 1, 4: shape[-1] == 1}
  if not layout.get(len(shape), False):
    raise ValueError(
      f'Masks must be [N, H, W], [N, H, W, 1] or [H, W]; got {shape}.'
    )
  images = 1 if len(shape) == 2 else shape[0]
  predicted, true = predicted.reshape(images, -1), true.reshape(images, -1)
  tp = np.sum(predicted & true, axis=1, dtype=np.int64)
  fp = np.sum(predicted, axis=1, dtype=np.int64) - tp
  fn = np.sum(true, axis=1, dtype=np.int64) - tp
  return Counts(tp, fp, fn, true.shape[1] - tp - fp - fn)


def count_on_device(
  probability: jax.Array, mask: jax.Array, threshold: float = 0.5
) -> dict[str, jax.Array]:
  """Counts the pixels of a batch on the accelerator.

  Sums are of integers: float32 stops counting at 2^24, which one image of 4096
  by 4096 reaches.

  Args:
    probability: Of lesion, [B, H, W, 1]. NaN counts as background.
    mask: 1 on the lesion, 0 off it, shaped as `probability`.
    threshold: A pixel is lesion above it, not at it.

  Returns:
    'tp', 'fp', 'fn' and 'tn', each int32 [B].

  Raises:
    ValueError: If the shapes differ.
  """
  if probability.shape != mask.shape or probability.ndim != 4:
    raise ValueError(
      'Probabilities and masks must both be [B, H, W, 1]; got '
      f'{probability.shape} and {mask.shape}.'
    )
  found, lesion = probability > threshold, mask > 0
  parts = {
    'tp': found & lesion,
    'fp': found & ~lesion,
    'fn': ~found & lesion,
    'tn': ~found & ~lesion,
  }
  return {
    k: jnp.sum(v, axis=(1, 2, 3), dtype=jnp.int32) for k, v in parts.items()
  }


def dice(c: Counts) -> np.ndarray:
  """2 TP / (2 TP + FP + FN) of each image, [N]."""
  return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def jaccard(c: Counts) -> np.ndarray:
  """Intersection over union, TP / (TP + FP + FN), of each image, [N]."""
  return _ratio(c.tp, c.tp + c.fp + c.fn)


def accuracy(c: Counts) -> np.ndarray:
  """Share of the pixels that are right, of each image, [N]."""
  return _ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def sensitivity(c: Counts) -> np.ndarray:
  """Share of the lesion that was found, of each image, [N]."""
  return _ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> np.ndarray:
  """Share of the background that was left alone, of each image, [N]."""
  return _ratio(c.tn, c.tn + c.fp)


def thresholded_jaccard(c: Counts, threshold: float = FAILURE) -> np.ndarray:
  """Jaccard of each image, 0 where it is below the threshold, [N].

  The rank of ISIC 2018, task 1, is its mean over images. It is a score of
  images: there is no pooled one.
  """
  values = jaccard(c)
  return np.where(values >= threshold, values, 0.0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
  part, whole = np.asarray(part), np.asarray(whole)
  return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def two_class(name: str, c: Counts) -> np.ndarray:
  """Mean of a score of the lesion and the same of the background, [N].

  Args:
    name: One of `SCORES`.
    c: Counts with the lesion as the positive class.
  """
  score = _SCORE[name]
  return (score(c) + score(Counts(c.tn, c.fn, c.fp, c.tp))) / 2


_SCORE = {
  'dice': dice,
  'jaccard': jaccard,
  'accuracy': accuracy,
  'sensitivity': sensitivity,
  'specificity': specificity,
}


def summarise(
  rows: Rows, *, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict:
  """Scores of a data set, with intervals over its lesions.

  Args:
    rows: One for each image, as a list of dicts or a dict of columns, with
      'image_id', 'lesion_id', 'tp', 'fp', 'fn' and 'tn'. 'hausdorff' and
      'hd95', in pixels, are averaged where they are there.
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.
    level: Share of the draws that an interval holds.

  Returns:
    A dict that JSON can hold:
      per_image, pooled, two_class, two_class_per_image: {score: value}; only
        per_image has thresholded_jaccard and the distances.
      intervals: the same with [low, high] for each value, and for failures.
      failures: share of the images with a Jaccard below 0.65.
      n_images, n_lesions: how many there are.
      bootstrap: resamples, seed and level.
      dice_histogram: 'edges' [21] and 'counts' [20] of the images' Dice.

  Raises:
    ValueError: If the rows are not as said, or the scores contradict.
  """
  table = columns(rows)
  counts = Counts(*(table[k] for k in ('tp', 'fp', 'fn', 'tn')))
  names, values = _per_image(table, counts)
  sums = intervals.lesion_sums(table['lesion_id'], values)

  def score(totals):
    return _score_totals(names, totals)

  draws = intervals.bootstrap(sums, score, resamples=resamples, seed=seed)
  summary: dict = {'intervals': {}}
  for (convention, name), value in score(sums.sum(0, keepdims=True)).items():
    interval = intervals.percentile_interval(draws[convention, name], level)
    _put(summary, convention, name, float(value[0]))
    _put(summary['intervals'], convention, name, interval)
  for part in (summary, summary['intervals']):
    part['failures'] = part['per_image'].pop('failures')
  bars, edges = np.histogram(dice(counts), bins=20, range=(0, 1))
  check_consistency(summary)
  return summary | {
    'n_images': len(table['image_id']),
    'n_lesions': len(sums),
    'bootstrap': {'resamples': resamples, 'seed': seed, 'level': level},
    'dice_histogram': {'edges': edges.tolist(), 'counts': bars.tolist()},
  }


def _put(tree: dict, convention: str, name: str, value) -> None:
  tree.setdefault(convention, {})[name] = value


def _per_image(table: dict, c: Counts) -> tuple[list[tuple], np.ndarray]:
  """What is added up over images: names [K] and values [N, K].

  Every score in every convention is a function of these sums, so one product
  of the draws with them scores all resampled data sets.
  """
  values: dict[tuple, np.ndarray] = {
    ('images',): np.ones(len(c.tp)),
    **{('count', f.name): getattr(c, f.name) for f in dataclasses.fields(c)},
    **{('per_image', k): score(c) for k, score in _SCORE.items()},
    ('per_image', 'thresholded_jaccard'): thresholded_jaccard(c),
    ('per_image', 'failures'): jaccard(c) < FAILURE,
    **{('two_class_per_image', k): two_class(k, c) for k in SCORES},
  }
  for name in ('hausdorff', 'hd95'):
    if name in table:
      values['per_image', name] = np.asarray(table[name], np.float64)
      if not np.isfinite(values['per_image', name]).all():
        raise ValueError(
          f'Column {name!r} must be finite; leave it out of all rows if it was '
          'not measured.'
        )
  return list(values), np.stack(list(values.values()), 1).astype(np.float64)


def _score_totals(names: list[tuple], totals: np.ndarray) -> dict:
  """Sums over images [R, K] to {(convention, score): [R]}."""
  total = dict(zip(names, totals.T, strict=True))
  images = total.pop(('images',))
  c = Counts(*(total.pop(('count', k)) for k in ('tp', 'fp', 'fn', 'tn')))
  return {
    **{key: value / images for key, value in total.items()},
    **{('pooled', k): score(c) for k, score in _SCORE.items()},
    **{('two_class', k): two_class(k, c) for k in SCORES},
  }
