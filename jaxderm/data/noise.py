"""Gaussian noise on images that are scored: how far do the scores fall?"""

import math
from collections.abc import Callable

import numpy as np

from jaxderm.data import papers


def check(sigma: float) -> None:
  """Raises ValueError unless noise can have this deviation."""
  if not (sigma >= 0 and math.isfinite(sigma)):
    raise ValueError(
      f'evaluate.noise is {sigma!r}; it is a standard deviation on [0, 1], 0 '
      'for none.'
    )


def make(
  image_id: np.ndarray, sigma: float, seed: int
) -> Callable[[np.ndarray, int], np.ndarray]:
  """Noise for the images of a data set (doi:10.22044/jadm.2025.16467.2771).

  What is added to an image depends on the seed, its name and its size, and not
  on the batch or on the part that it is in. Another sigma scales it.

  Args:
    image_id: Names of all images, [N].
    sigma: Standard deviation where pixels are 0..1.
    seed: Another seed is other noise.

  Returns:
    (image uint8 [H, W, 3], its row in `image_id`) to such an image, rounded
    and clipped.
  """
  lots = papers.lots(image_id, f'{seed} noise')

  def add(image, row):
    rng = np.random.default_rng(lots[row])
    drawn = rng.standard_normal(image.shape, np.float32)
    noisy = np.rint(image + np.float32(255 * sigma) * drawn)
    return np.clip(noisy, 0, 255).astype(np.uint8)

  return add
