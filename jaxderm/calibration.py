"""Whether probabilities are right as often as they say, in NumPy.

Conventions, as papers differ in them:

- The expected calibration error (ECE) is of the most probable class, in 15
  bins of equal width from 0 to 1, closed on the right (arXiv:1706.04599): the
  mean over images of |share that is right - mean probability| of their bin.
- The Brier score is the sum over classes of (p - truth)^2, in the mean over
  images: from 0 to 2 (Brier 1950). Of two classes it is twice what
  scikit-learn's `brier_score_loss` gives by default.
- The negative log-likelihood (NLL) is in nats; probabilities below 1e-30 count
  as that.

A temperature T makes softmax(logits / T) of softmax(logits). Logarithms of
probabilities are logits up to a constant, so the probabilities suffice. It
changes no ranking of the classes of an image.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize_scalar

from jaxderm import intervals

BINS = 15
SCORES = ('ece', 'brier', 'nll')
# Of a fit: where all predictions are right, or wrong, there is no minimum.
LOWEST, HIGHEST = 0.05, 20.0
_FLOOR = 1e-30


def check(temperature: str, task: str = 'classification') -> float | None:
  """The temperature that `evaluate.temperature` gives; None if it is fitted.

  Args:
    temperature: 'none', 'validation' or a number as text.
    task: What the network is for.

  Raises:
    ValueError: It is something else, or the network has no classes.
  """
  if task == 'segmentation' and temperature != 'none':
    raise ValueError(
      f'evaluate.temperature is {temperature!r}, but it is for networks that '
      'classify; masks are cut at evaluate.threshold. Leave it out.'
    )
  if temperature in ('none', 'validation'):
    return None if temperature == 'validation' else 1.0
  try:
    value = float(temperature)
  except ValueError:
    value = np.nan
  if not (np.isfinite(value) and value > 0):
    raise ValueError(
      f'evaluate.temperature is {temperature!r}; it must be none, validation '
      '(fitted on the validation images), or a number above 0.'
    )
  return value


def temper(probability: np.ndarray, temperature: float) -> np.ndarray:
  """Probabilities [N, C] at a temperature; those of 1 are left as they are."""
  if temperature == 1:
    return probability
  logits = _log(probability) / temperature
  raised = np.exp(logits - logits.max(1, keepdims=True))
  return raised / raised.sum(1, keepdims=True)


def fit(label: np.ndarray, probability: np.ndarray) -> float:
  """The temperature with the least NLL (arXiv:1706.04599).

  Args:
    label: True classes, [N], one or more.
    probability: Before any temperature, [N, C].

  Returns:
    From 0.05 to 20. The NLL is convex in 1 / T, so it is the one minimum, or
    the nearest to it in that range; where sure predictions are all right, one
    of those at which the NLL is 0 but for rounding.
  """
  logits = _log(probability)

  def loss(log_temperature):
    scaled = logits / np.exp(log_temperature)
    scaled = scaled - scaled.max(1, keepdims=True)
    total = np.log(np.exp(scaled).sum(1))
    return np.mean(total - scaled[np.arange(len(label)), label])

  bounds = (np.log(LOWEST), np.log(HIGHEST))
  found = minimize_scalar(
    loss, bounds=bounds, method='bounded', options={'xatol': 1e-7}
  )
  return float(np.exp(found.x))


def brier(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
  """Sum over classes of (p - truth)^2 of each image, [N]."""
  return np.sum((probability - np.eye(probability.shape[1])[label]) ** 2, 1)


def nll(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
  """Minus the logarithm of the true class's probability, [N]."""
  return -_log(probability)[np.arange(len(label)), label]


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
  """The bin of each probability; one at an edge is in the lower bin."""
  edges = np.linspace(0, 1, bins + 1)
  return np.searchsorted(edges[1:-1], confidence)


def reliability(
  label: np.ndarray, probability: np.ndarray, bins: int = BINS
) -> dict[str, list]:
  """What a reliability diagram shows.

  Args:
    label: True classes, [N].
    probability: [N, C].
    bins: Of equal width.

  Returns:
    'edges' [bins + 1]; of each bin 'counts', and 'confidence' (the mean
    probability of the predicted class) and 'accuracy' (the share that is
    right), None where the bin is empty.
  """
  sums = _binned(label, probability, bins).sum(0)
  counts, sure, right = sums.reshape(3, bins)
  return {
    'edges': np.linspace(0, 1, bins + 1).tolist(),
    'counts': counts.astype(int).tolist(),
    'confidence': _means(sure, counts),
    'accuracy': _means(right, counts),
  }


def summarise(
  label: np.ndarray,
  probability: np.ndarray,
  lesion_id: np.ndarray,
  *,
  resamples: int = 2000,
  seed: int = 0,
  level: float = 0.95,
) -> dict:
  """Calibration of a data set, with intervals over its lesions.

  Args:
    label: True classes, [N].
    probability: [N, C].
    lesion_id: [N].
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.
    level: Share of the draws that an interval holds.

  Returns:
    'ece', 'brier' and 'nll'; 'intervals' of each; and 'reliability', see there.
  """
  columns = np.concatenate(
    [
      _binned(label, probability, BINS),
      np.stack([brier(label, probability), nll(label, probability)], 1),
    ],
    axis=1,
  )
  sums = intervals.lesion_sums(lesion_id, columns)
  draws = intervals.bootstrap(sums, _scores, resamples=resamples, seed=seed)
  whole = _scores(sums.sum(0, keepdims=True))
  return {
    **{k: float(whole[k,][0]) for k in SCORES},
    'intervals': {
      k: intervals.percentile_interval(draws[k,], level) for k in SCORES
    },
    'reliability': reliability(label, probability),
  }


def _scores(totals: np.ndarray) -> Mapping[tuple[str, ...], np.ndarray]:
  """Sums over images [R, 3 bins + 2] to scores [R]."""
  counts, sure, right = np.split(totals[:, :-2], 3, axis=1)
  images = counts.sum(1)
  return {
    ('ece',): np.abs(right - sure).sum(1) / images,
    ('brier',): totals[:, -2] / images,
    ('nll',): totals[:, -1] / images,
  }


def _binned(
  label: np.ndarray, probability: np.ndarray, bins: int
) -> np.ndarray:
  """1, the probability and whether it is right, each in its bin, [N, 3 bins]."""
  confidence, predicted = probability.max(1), probability.argmax(1)
  place = np.eye(bins)[bin_of(confidence, bins)]
  right = predicted == label
  return np.concatenate(
    [place, place * confidence[:, None], place * right[:, None]], axis=1
  )


def _means(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
  pairs = zip(sums.tolist(), counts.tolist(), strict=True)
  return [total / count if count else None for total, count in pairs]


def _log(probability: np.ndarray) -> np.ndarray:
  return np.log(np.maximum(np.asarray(probability, np.float64), _FLOOR))
