"""Percentile intervals by resampling lesions, not images."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

# Draws held at once: 2^22 of them and their counts are about 64 MiB.
_DRAWS = 2**22

# Totals [R, K] of R samples to a flat table of scores, each [R].
Score = Callable[[np.ndarray], dict[tuple[str, ...], np.ndarray]]


def lesion_sums(
  lesion_id: Sequence[str] | np.ndarray, columns: np.ndarray
) -> np.ndarray:
  """Adds up what was measured on the images of each lesion.

  Args:
    lesion_id: Name of the lesion of each image, [N].
    columns: What is summed, [N, K].

  Returns:
    Sums in the alphabetical order of the lesions, float64 [L, K]. The order of
    the images therefore does not change which lesions a seed draws.
  """
  lesions, group = np.unique(np.asarray(lesion_id), return_inverse=True)
  sums = np.zeros((len(lesions), columns.shape[1]), np.float64)
  np.add.at(sums, group.reshape(-1), columns)
  return sums


def bootstrap(
  sums: np.ndarray, score: Score, *, resamples: int = 2000, seed: int = 0
) -> dict[tuple[str, ...], np.ndarray]:
  """Scores of data sets drawn with replacement from the lesions.

  Images of one lesion look alike. Drawing images one by one would count them
  as independent and give intervals that are too narrow, so a lesion is drawn
  with all its images or not at all: the cluster bootstrap (Field and Welsh,
  J. R. Statist. Soc. B 69 (2007), 369-390).

  Args:
    sums: One row for each lesion, [L, K]: see `lesion_sums`.
    score: Turns the totals of R drawn data sets, [R, K], into scores [R].
    resamples: How many data sets are drawn, each of L lesions.
    seed: Of the draws.

  Returns:
    The scores of all the drawn data sets, each [resamples].

  Raises:
    ValueError: If there is no lesion, or nothing is drawn.
  """
  if len(sums) == 0 or resamples < 1:
    raise ValueError(
      f'A bootstrap needs lesions and resamples; got {len(sums)} lesions and '
      f'{resamples} resamples.'
    )
  totals = [weights @ sums for weights in _weights(len(sums), resamples, seed)]
  return score(np.concatenate(totals))


def image_weights(
  lesion_id: Sequence[str] | np.ndarray, *, resamples: int, seed: int = 0
) -> Iterator[np.ndarray]:
  """How often each image is in the data sets that `bootstrap` draws.

  For scores that are no function of sums, such as the area under a curve.

  Args:
    lesion_id: Name of the lesion of each image, [N].
    resamples: As in `bootstrap`, and the same draws.
    seed: As in `bootstrap`.

  Yields:
    float64 [R, N], a block of resamples at a time.
  """
  lesions, group = np.unique(np.asarray(lesion_id), return_inverse=True)
  for weights in _weights(len(lesions), resamples, seed):
    yield weights[:, group.reshape(-1)]


def percentile_interval(values: np.ndarray, level: float = 0.95) -> list[float]:
  """The central `level` of the values [R], as [low, high]."""
  tail = 50.0 * (1.0 - level)
  return [float(v) for v in np.percentile(values, [tail, 100.0 - tail])]


def _weights(lesions: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
  """How often each lesion was drawn, a block of resamples at a time, [R, L]."""
  rng = np.random.default_rng(seed)
  block = max(1, _DRAWS // lesions)
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    drawn = rng.integers(lesions, size=(size, lesions))
    drawn += lesions * np.arange(size)[:, None]
    times = np.bincount(drawn.reshape(-1), minlength=size * lesions)
    yield times.reshape(size, lesions).astype(np.float64)
