"""Where to call an image positive: specificity at a fixed sensitivity.

A clinic asks how many healthy people are sent on if 90 or 95 % of the
melanomas are to be found. The threshold must be chosen on other images than
those that are scored: one chosen on the very images flatters.
"""

import numpy as np

from jaxderm import intervals, ranking

SENSITIVITIES = (0.90, 0.95)

Labelled = tuple[np.ndarray, np.ndarray]  # classes [N], probabilities [N, C]


def summarise(
  labels: list[str],
  scored: Labelled,
  lesion_id: np.ndarray,
  validation: Labelled | None = None,
  *,
  resamples: int = 2000,
  seed: int = 0,
  level: float = 0.95,
) -> dict:
  """Operating points of each class against the rest.

  Args:
    labels: Names of the classes, [C].
    scored: What is scored.
    lesion_id: Of the images that are scored, [N].
    validation: Other images that thresholds are chosen on, if there are any.
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.
    level: Share of the draws that an interval holds.

  Returns:
    'validation' (thresholds chosen there; None without such images) and
    'scored' (chosen on the scored images, which flatters), each {class:
    {'0.90': point, '0.95': point}}. A point has 'threshold', and what it gives
    on the scored images: 'sensitivity', 'specificity' and 'intervals' of both.
    It is None where a class, or all others, have no image to choose or to
    score by.
  """
  label, probability = scored
  draws = list(
    intervals.image_weights(lesion_id, resamples=resamples, seed=seed)
  )
  found: dict = {'validation': None if validation is None else {}, 'scored': {}}
  for c, name in enumerate(labels):
    positive, score = label == c, probability[:, c]
    both = positive.any() and not positive.all()
    for where in [k for k, v in found.items() if v is not None]:
      chosen_by = (positive, score)
      if where == 'validation':
        chosen_by = (validation[0] == c, validation[1][:, c])
      found[where][name] = {
        f'{least:.2f}': _point(
          positive, score, chosen_by, least, draws, level, where == 'scored'
        )
        if both and chosen_by[0].any()
        else None
        for least in SENSITIVITIES
      }
  return found


def _point(
  positive: np.ndarray,
  score: np.ndarray,
  chosen_by: tuple[np.ndarray, np.ndarray],
  sensitivity: float,
  draws: list[np.ndarray],
  level: float,
  anew: bool,
) -> dict:
  """One point; `anew` chooses the threshold in every drawn data set."""
  threshold = ranking.threshold_at(*chosen_by, sensitivity)
  reached = ranking.rates(positive, score, threshold)
  of_draws = np.concatenate(
    [np.stack(ranking.rates(positive, score, threshold, w), 1) for w in draws]
  )
  if anew:
    of_draws[:, 1] = np.concatenate(
      [ranking.specificity_at(positive, score, sensitivity, w) for w in draws]
    )
  spans = [
    intervals.percentile_interval(x[np.isfinite(x)], level)
    if np.isfinite(x).any()
    else None
    for x in of_draws.T
  ]
  names = ('sensitivity', 'specificity')
  return {
    'threshold': threshold,
    **{k: float(v) for k, v in zip(names, reached, strict=True)},
    'intervals': dict(zip(names, spans, strict=True)),
  }
