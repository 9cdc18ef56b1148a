"""Images to masks and overlays: prediction by a network that segments."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from jaxderm import figures
from jaxderm.data import pipeline
from jaxderm.ensemble import Mapper
from jaxderm.experiment import Experiment
from jaxderm.scoring import at_own_size


class Masks:
  """What is made of images by a network that segments.

  Attributes:
    columns: Of the table.
    what: What is made, in a person's words.
  """

  columns = (
    'width',
    'height',
    'area',  # pixels of lesion
    'area_share',  # of the image
    'left',  # of the box around the lesion, pixels
    'top',
    'box_width',
    'box_height',
    'mean_confidence',  # mean over pixels of max(p, 1 - p)
    'mask',
    'overlay',
  )
  what = 'masks'

  def __init__(self, made: Experiment, mapper: Mapper, folder: pathlib.Path):
    """Takes the experiment, its trained network, and where pictures go."""
    self._threshold = made.config.evaluate.threshold
    self._mapper, self._folder = mapper, folder

  def inputs(self, paths: Sequence[pathlib.Path]) -> tuple[dict, list[str]]:
    """What the network is given beside the images, and each one's status."""
    return {}, ['ok'] * len(paths)

  def __call__(
    self,
    examples: pipeline.Examples,
    images: Sequence[np.ndarray],
    names: Sequence[str],
  ) -> Iterator[tuple[int, Mapping]]:
    """Writes the pictures of some images; yields which, and its columns.

    Args:
      examples: The images as the network takes them.
      images: As they are, uint8 [H, W, 3].
      names: Of the files of each, without suffix.
    """
    for i, map_ in self._mapper(examples):
      probability = at_own_size(map_, *images[i].shape[:2])
      mask = probability > self._threshold
      row = _write(self._folder, names[i], images[i], mask)
      yield i, row | _describe(mask, probability)


def _describe(mask: np.ndarray, probability: np.ndarray) -> dict:
  """The columns that are measured on the mask, at the image's own size."""
  left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
  confidence = np.maximum(probability, 1 - probability)
  return {
    'width': mask.shape[1],
    'height': mask.shape[0],
    'area': int(mask.sum()),
    'area_share': f'{mask.mean():.6f}',
    'left': left,
    'top': top,
    'box_width': width,
    'box_height': height,
    'mean_confidence': f'{float(confidence.mean()):.6f}',
  }


def _write(folder: pathlib.Path, name: str, image, mask) -> dict:
  """Writes the mask and the overlay of one image; returns their names."""
  names = {'mask': f'{name}_mask.png', 'overlay': f'{name}_overlay.png'}
  overlay = figures.outline(image, mask, figures.PREDICTION)
  pictures = {
    'mask': mask.astype(np.uint8) * 255,
    'overlay': np.ascontiguousarray(overlay[..., ::-1]),
  }
  for kind, picture in pictures.items():
    path = folder / names[kind]
    # imwrite says no more than False where the disk is full.
    path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
  return names
