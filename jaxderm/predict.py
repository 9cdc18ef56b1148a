"""A folder of images to pictures and a table.

What is made of an image is the task's: `predict_masks`, `predict_classes`.
"""

import csv
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxderm import ensemble, experiment, explain, predict_classes
from jaxderm.data import dilation, pipeline
from jaxderm.data.record import SUFFIXES, read_image, read_mask_of
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


def _read(
  path: pathlib.Path,
  name: str,
  masks: Mapping[str, pathlib.Path] | None,
  data: ConfigDict,
) -> dict:
  """An image read from a file, as a record; its mask where there are masks.

  Raises:
    ValueError, OSError: It or its mask cannot be read; there are masks and it
      has none, or one that shows no lesion.
  """
  image, mask = read_image(path)[0], np.zeros((1, 1), np.uint8)
  if masks is not None:
    if name not in masks:
      raise ValueError(
        f'{path.name} has no mask in --masks: expected {name}_mask.png or '
        f'{name}_segmentation.png.'
      )
    mask = read_mask_of(masks[name], path, image.shape[:2])
    small = pipeline.resize_mask(mask, data.size, data.fit)
    dilation.region(small, data.dilation, path.name)  # raises early
  return {
    'image_id': path.name,
    'image': image,
    'mask': mask[..., None],
    'label': -1,
  }


def _examples(
  records: Sequence[Mapping], data: ConfigDict, columns: Mapping
) -> pipeline.Examples:
  """Records of files as the network takes them."""
  return pipeline.Examples(
    records,
    np.arange(len(records)),
    data.size,
    fit=data.fit,
    dilation=data.dilation,
    columns=columns,
  )


def predict(
  config: ConfigDict,
  workdir: pathlib.Path,
  images: str,
  out: str,
  checkpoint: str = 'best',
  *,
  metadata: str | None = None,
  masks: str | None = None,
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
    masks: A folder of masks, for networks that see nothing outside them
      (`data.dilation`).
    tap: The feature map that Grad-CAM explains; see `gradcam.cut`.

  Returns:
    0, or 1 if some image (or the mask that it needs) could not be read: the
    table says which.

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
  lesions = None
  if config.task == 'segmentation':
    if metadata or masks or tap:
      raise ValueError(
        '--metadata, --masks and --tap are for networks that classify; this '
        'one segments.'
      )
    made, _, mapper, about = _open(made, workdir, checkpoint)
    predictor = Masks(made, mapper, folder)
  else:
    lesions = predict_classes.open_masks(made, masks)
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
    for read, row in _rows(predictor, config, paths, lesions):
      table.writerow(row)
      file.flush()
      failed += not read
  done = len(paths) - failed
  say(f'{done} {predictor.what} in {folder}, table predictions.csv')
  if failed:
    what = 'images could not be read'
    if lesions is not None:
      what = 'images or their masks could not be read'
    say(f'error: {failed} of {len(paths)} {what}')
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
    mapper,
    folder,
    explainer=explain.Explainer(made, variables, tap),
    names=names,
    temperature=predict_classes.temperature(made, workdir, about),
    patients=patients,
  )
  return predictor, about


def _rows(
  predictor: Predictor,
  config: ConfigDict,
  paths: Sequence[pathlib.Path],
  masks: Mapping[str, pathlib.Path] | None,
) -> Iterator[tuple[bool, dict]]:
  """Whether each image could be read, and its row; some images at a time."""
  names, count = _names(paths), config.evaluate.batch_size
  for first in range(0, len(paths), count):
    read = {}
    for path in paths[first : first + count]:
      try:
        read[path] = _read(path, names[path], masks, config.data)
      except (ValueError, OSError) as error:
        say(f'error: {error}')
        yield False, {'image': path.name, 'status': str(error)}
    if not read:
      continue
    there, records = list(read), list(read.values())
    columns, status = predictor.inputs(there)
    examples = _examples(records, config.data, columns)
    images = [record['image'] for record in records]
    stems = [names[path] for path in there]
    for i, row in predictor(examples, images, stems):
      yield True, {'image': there[i].name, 'status': status[i], **row}
