"""How far the outline of a predicted lesion lies from the true one."""

import numpy as np
from scipy.spatial import KDTree

from jaxderm.metrics import as_mask


def boundary(mask: np.ndarray) -> np.ndarray:
  """The mask minus its erosion by a cross of five pixels.

  Outside the image there is no lesion, so a lesion that the frame cuts off has
  a boundary along the frame.

  Args:
    mask: 1 on the lesion, 0 off it, [H, W].

  Returns:
    The pixels of the mask that touch, by a side, a pixel off it, bool [H, W].
  """
  inside = np.pad(as_mask(mask), 1)
  core = inside[1:-1, 1:-1].copy()
  core &= inside[:-2, 1:-1] & inside[2:, 1:-1]
  core &= inside[1:-1, :-2] & inside[1:-1, 2:]
  return inside[1:-1, 1:-1] & ~core


def hausdorff(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
  """Hausdorff distance of two masks, and its 95th percentile.

  Each boundary pixel has a distance: to the nearest pixel of the other
  boundary. The Hausdorff distance is the greatest of all of them, both ways.
  HD95 is the 95th percentile (linear between ranks) of all of them in one set,
  as MedPy takes it. MONAI takes a percentile each way and the greater of the
  two, which differs a little: do not mix the two in one table.

  Args:
    predicted: 1 on the lesion, 0 off it, [H, W] or [H, W, 1].
    true: Shaped as `predicted`.

  Returns:
    (Hausdorff, HD95) in pixels of these masks. Two empty masks are 0 apart; an
    empty and a filled one are the image's diagonal, sqrt(H^2 + W^2), apart.

  Raises:
    ValueError: If a mask is not made of 0 and 1, or the shapes differ.
  """
  predicted, true = (_one_image(m) for m in (predicted, true))
  if predicted.shape != true.shape:
    raise ValueError(
      f'The masks differ in shape: predicted {predicted.shape}, true '
      f'{true.shape}. Resize the probabilities to the size of the true mask.'
    )
  if not predicted.any() and not true.any():
    return 0.0, 0.0
  if not predicted.any() or not true.any():
    diagonal = float(np.hypot(*true.shape))
    return diagonal, diagonal
  ours, theirs = (np.argwhere(boundary(m)) for m in (predicted, true))
  distances = np.concatenate(
    [KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]]
  )
  return float(distances.max()), float(np.percentile(distances, 95))


def _one_image(mask: np.ndarray) -> np.ndarray:
  mask = as_mask(mask)
  if mask.ndim == 3 and mask.shape[-1] == 1:
    mask = mask[..., 0]
  if mask.ndim != 2:
    raise ValueError(
      f'A mask of one image must be [H, W] or [H, W, 1]; got {mask.shape}.'
    )
  return mask
