"""A folder of images to pictures and a table.

What is made of an image is the task's: `predict_masks`, `predict_classes`.
"""

import csv
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxderm import ensemble, experiment, explain, predict_classes
from jaxderm.data import pipeline
from jaxderm.data.record import SUFFIXES, read_image
from jaxderm.predict_masks import Masks
from jaxderm.writer import say

Predictor = Masks | predict_classes.Classes


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


def _names(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
  """A stem for the results of each image; a.jpg and a.png do not collide."""
  stems = [p.stem for p in paths]
  return {p: p.stem if stems.count(p.stem) == 1 else p.name for p in paths}


def _examples(
  images: Sequence[np.ndarray], data: ConfigDict, columns: dict
) -> pipeline.Examples:
  """Images read from files where training reads records."""
  nothing = {'mask': np.zeros((1, 1, 1), np.uint8), 'label': -1}
  records = [{'image': image, **nothing} for image in images]
  rows = np.arange(len(records))
  return pipeline.Examples(
    records, rows, data.size, fit=data.fit, columns=columns
  )


def predict(
  config: ConfigDict,
  workdir: pathlib.Path,
  images: str,
  out: str,
  checkpoint: str = 'best',
  *,
  metadata: str | None = None,
  tap: str | None = None,
) -> int:
  """Says of every image of a folder what a run has learnt.

  Args:
    config: Of the run.
    workdir: The run's folder.
    images: A folder of images of any sizes.
    out: Where `predictions.csv` goes, and of every image `<name>_mask.png` and
      `<name>_overlay.png`, or `<name>_gradcam.png`.
    checkpoint: 'best', 'latest' or a step.
    metadata: A table of the patients, for networks that ask for it.
    tap: The feature map that Grad-CAM explains; see `gradcam.cut`.

  Returns:
    0, or 1 if some image could not be read: the table says which.

  Raises:
    FileNotFoundError: No images, no run, no checkpoint, no table.
    ValueError: There are several processes, or something is asked for that the
      network cannot do.
  """
  if jax.process_count() > 1:
    raise ValueError(
      'predict works in one process; cut the folder among several calls.'
    )
  paths, folder = find_images(images), pathlib.Path(out)
  made = experiment.make(config, workdir)
  if config.task == 'segmentation':
    if metadata or tap:
      raise ValueError(
        '--metadata and --tap are for networks that classify; this one '
        'segments.'
      )
    made, _, mapper, about = _open(made, workdir, checkpoint)
    predictor = Masks(made, mapper, folder)
  else:
    predictor, about = _classes(
      made, workdir, checkpoint, folder, metadata, tap
    )
  folder.mkdir(parents=True, exist_ok=True)
  say(f'{config.model.system}, step {about["step"]}, on {len(paths)} images')
  failed = 0
  columns = ('image', 'status', *predictor.columns)
  with (folder / 'predictions.csv').open('w', newline='') as file:
    table = csv.DictWriter(file, columns)
    table.writeheader()
    for read, row in _rows(predictor, config, paths):
      table.writerow(row)
      file.flush()
      failed += not read
  done = len(paths) - failed
  say(f'{done} {predictor.what} in {folder}, table predictions.csv')
  if failed:
    say(f'error: {failed} of {len(paths)} images could not be read')
  return 1 if failed else 0


def _open(
  made: experiment.Experiment, workdir: pathlib.Path, checkpoint: str
) -> tuple:
  """The experiment as it answers, its variables, its mapper, and which it is."""
  variables, step = ensemble.load_member(made, workdir, checkpoint)
  made, head = ensemble.with_one_head(made, workdir, step)
  settings = made.config.evaluate
  mapper = ensemble.Mapper(made, variables, settings.batch_size)
  about = {'step': step, 'views': list(settings.views), **head}
  return made, variables, mapper, about


def _classes(
  made: experiment.Experiment,
  workdir: pathlib.Path,
  checkpoint: str,
  folder: pathlib.Path,
  metadata: str | None,
  tap: str | None,
) -> tuple[predict_classes.Classes, dict]:
  """A predictor of classes, and which state of the run it is."""
  # Before the checkpoint, which takes longer to read.
  patients = predict_classes.open_patients(made, workdir, metadata)
  names = predict_classes.class_names(made, workdir)
  made, variables, mapper, about = _open(made, workdir, checkpoint)
  predictor = predict_classes.Classes(
    made,
    mapper,
    folder,
    explainer=explain.Explainer(made, variables, tap),
    names=names,
    temperature=predict_classes.temperature(made, workdir, about),
    patients=patients,
  )
  return predictor, about


def _rows(
  predictor: Predictor, config: ConfigDict, paths: Sequence[pathlib.Path]
) -> Iterator[tuple[bool, dict]]:
  """Whether each image could be read, and its row; some images at a time."""
  names, count = _names(paths), config.evaluate.batch_size
  for first in range(0, len(paths), count):
    read = {}
    for path in paths[first : first + count]:
      try:
        read[path] = read_image(path)[0]
      except (ValueError, OSError) as error:
        say(f'error: {error}')
        yield False, {'image': path.name, 'status': str(error)}
    if not read:
      continue
    there, images = list(read), list(read.values())
    columns, status = predictor.inputs(there)
    examples = _examples(images, config.data, columns)
    stems = [names[path] for path in there]
    for i, row in predictor(examples, images, stems):
      yield True, {'image': there[i].name, 'status': status[i], **row}
