"""A folder of images to masks, overlays and a table."""

import csv
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxderm import ensemble, experiment, figures
from jaxderm.data import pipeline
from jaxderm.data.record import SUFFIXES, read_image
from jaxderm.scoring import at_own_size
from jaxderm.writer import say

COLUMNS = (
  'image',
  'status',
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


def find_images(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """The images in a folder, by name; folders in it are not entered.

  Raises:
    FileNotFoundError: No such folder, or no image in it.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'--images={folder} is not a folder.')
  found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
  if not found:
    raise FileNotFoundError(
      f'--images={folder} holds no image; looked for {", ".join(SUFFIXES)}.'
    )
  return sorted(found)


class _Pictures(pipeline.Examples):
  """Images read from files where training reads records."""

  def __init__(self, images: Sequence[np.ndarray], size: int):
    records = [
      {
        'image': image,
        'mask': np.zeros((1, 1, 1), np.uint8),
        'label': -1,
      }
      for image in images
    ]
    super().__init__(records, np.arange(len(records)), size)


def _names(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """A stem for the results of each image; a.jpg and a.png do not collide."""
  stems = [p.stem for p in paths]
  return {p: p.stem if stems.count(p.stem) == 1 else p.name for p in paths}


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


def _write(out: pathlib.Path, name: str, image, mask) -> dict:
  """Writes the mask and the overlay of one image; returns their names."""
  names = {'mask': f'{name}_mask.png', 'overlay': f'{name}_overlay.png'}
  overlay = figures.outline(image, mask, figures.PREDICTION)
  pictures = {
    'mask': mask.astype(np.uint8) * 255,
    'overlay': np.ascontiguousarray(overlay[..., ::-1]),
  }
  for kind, picture in pictures.items():
    path = out / names[kind]
    # imwrite says no more than False where the disk is full.
    path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
  return names


def predict(
  config: ConfigDict,
  workdir: pathlib.Path,
  images: str,
  out: str,
  checkpoint: str = 'best',
) -> int:
  """Segments every image of a folder.

  Args:
    config: Of the run.
    workdir: The run's folder.
    images: A folder of images of any sizes.
    out: Where `<name>_mask.png`, `<name>_overlay.png` and `predictions.csv`
      go.
    checkpoint: 'best', 'latest' or a step.

  Returns:
    0, or 1 if some image could not be read: the table says which.

  Raises:
    FileNotFoundError: No images, no run, no checkpoint.
    ValueError: There are several processes, or the run is no segmentation.
  """
  if config.task != 'segmentation':
    raise ValueError(
      f'predict draws masks; a run of {config.task} has none. Use '
      "--mode=evaluate: its rows.csv has each image's probabilities."
    )
  if jax.process_count() > 1:
    raise ValueError(
      'predict works in one process; cut the folder among several calls.'
    )
  paths = find_images(images)
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  made = experiment.make(config, workdir)
  variables, step = ensemble.load_member(made, workdir, checkpoint)
  say(f'{config.model.system}, step {step}, on {len(paths)} images')
  failed = 0
  with (folder / 'predictions.csv').open('w', newline='') as file:
    table = csv.DictWriter(file, COLUMNS)
    table.writeheader()
    for row in _rows(made, variables, paths, folder):
      table.writerow(row)
      file.flush()
      failed += row['status'] != 'ok'
  say(f'{len(paths) - failed} masks in {folder}, table predictions.csv')
  if failed:
    say(f'error: {failed} of {len(paths)} images could not be read')
  return 1 if failed else 0


def _rows(
  made: experiment.Experiment,
  variables: Mapping,
  paths: Sequence[pathlib.Path],
  folder: pathlib.Path,
) -> Iterator[dict]:
  """Reads, segments and writes some images at a time; a row for each."""
  config, names = made.config, _names(paths)
  count = config.evaluate.batch_size
  mapper = ensemble.Mapper(made, variables, count)
  for first in range(0, len(paths), count):
    read = {}
    for path in paths[first : first + count]:
      try:
        read[path] = read_image(path)[0]
      except (ValueError, OSError) as error:
        say(f'error: {error}')
        yield {'image': path.name, 'status': str(error)}
    if not read:
      continue
    images = list(read.items())
    for i, map_ in mapper(_Pictures(list(read.values()), config.data.size)):
      path, image = images[i]
      probability = at_own_size(map_, *image.shape[:2])
      mask = probability > config.evaluate.threshold
      row = {'image': path.name, 'status': 'ok'}
      row |= _write(folder, names[path], image, mask)
      yield row | _describe(mask, probability)
