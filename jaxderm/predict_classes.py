"""Images to probabilities and heat maps: prediction by one that classifies."""

import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxderm import calibration, class_figures
from jaxderm.checkpoint import load_json
from jaxderm.class_metrics import PROBABILITY
from jaxderm.data import build, layout, metadata, pipeline
from jaxderm.ensemble import Mapper
from jaxderm.experiment import Experiment
from jaxderm.explain import Explainer, as_seen

WITHOUT_METADATA = 'ok, without metadata'
_NOTHING_KNOWN = (math.nan, '', '')  # age, sex, site


class Classes:
  """What is made of images by a network that classifies.

  Attributes:
    columns: Of the table.
    what: What is made, in a person's words.
  """

  what = 'heat maps'

  def __init__(
    self,
    mapper: Mapper,
    folder: pathlib.Path,
    *,
    explainer: Explainer,
    names: Sequence[str],
    temperature: float = 1.0,
    patients: 'Patients | None' = None,
  ):
    """Takes all that it needs of a trained network.

    Args:
      mapper: Examples to probabilities.
      folder: Where pictures go.
      explainer: Examples to heat maps.
      names: Of the classes.
      temperature: Of the probabilities.
      patients: What is known of the patients, for networks that ask for it.
    """
    self._mapper, self._folder = mapper, folder
    self._explainer, self._names = explainer, list(names)
    self._temperature, self._patients = temperature, patients
    self.columns = (
      'predicted',
      'probability',  # of the predicted class
      *(PROBABILITY + name for name in names),
      'gradcam',
    )

  def inputs(self, paths: Sequence[pathlib.Path]) -> tuple[dict, list[str]]:
    """What the network is given beside the images, and each one's status."""
    if self._patients is None:
      return {}, ['ok'] * len(paths)
    return self._patients([path.stem for path in paths])

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
    plain = np.stack([p for _, p in self._mapper(examples)]).astype(np.float64)
    probability = calibration.temper(plain, self._temperature)
    best = probability.argmax(1)
    for i, heat in self._explainer(examples, best):
      name = self._names[best[i]]
      shown = as_seen(examples, i)
      picture = class_figures.explained(
        shown, heat, self._names, probability[i], f'Grad-CAM: {name}'
      )
      file = f'{names[i]}_gradcam.png'
      (self._folder / file).write_bytes(picture)
      shares = [f'{p:.6f}' for p in probability[i]]
      yield (
        i,
        {
          'predicted': name,
          'probability': shares[best[i]],
          **dict(zip(self.columns[2:-1], shares, strict=True)),
          'gradcam': file,
        },
      )


class Patients:
  """What is known of patients, as inputs of a network."""

  def __init__(self, encoding: metadata.Encoding, table: Mapping[str, tuple]):
    """Takes a run's encoding, and (age, sex, site) by name of the image."""
    self._encoding, self._table = encoding, table

  def __call__(self, names: Sequence[str]) -> tuple[dict, list[str]]:
    """Entries of a batch of those images, and the status of each.

    An image that is not in the table counts as one of unknown age, sex and
    site, and its status says so; likewise what the network was never told of.
    """
    facts = [self._table.get(name, _NOTHING_KNOWN) for name in names]
    status = [
      metadata.status(sex, site) if name in self._table else WITHOUT_METADATA
      for name, (_, sex, site) in zip(names, facts, strict=True)
    ]
    return {'metadata': self._encoding(*zip(*facts, strict=True))}, status


def open_patients(
  made: Experiment, workdir: pathlib.Path, path: str | None
) -> Patients | None:
  """The table of patients, if the network asks for one.

  Raises:
    ValueError: It asks for one and there is none, or the other way round.
    FileNotFoundError: There is no such file.
  """
  asked = 'metadata' in made.task.inputs
  if asked and path is None:
    raise ValueError(
      f'{made.name} was trained with age, sex and site. Give '
      '--metadata=FILE.csv with the columns image_id, age, sex and '
      'localization; images without a row count as unknown.'
    )
  if not asked:
    if path is not None:
      raise ValueError(
        f'{made.name} takes no metadata; leave --metadata={path} out.'
      )
    return None
  return Patients(metadata.load(workdir), metadata.read(pathlib.Path(path)))


def open_masks(
  made: Experiment, folder: str | None
) -> dict[str, pathlib.Path] | None:
  """Masks by name of the image, if the network was trained within masks.

  Raises:
    ValueError: It was and there are none, or the other way round.
    FileNotFoundError: There is no such folder.
  """
  radius = made.config.data.dilation
  if radius < 0:
    if folder is not None:
      raise ValueError(
        f'{made.name} was trained on whole images (data.dilation=-1); leave '
        f'--masks={folder} out.'
      )
    return None
  if folder is None:
    raise ValueError(
      f'{made.name} was trained on images that are black further than {radius} '
      f'pixels from the lesion (data.dilation={radius}). Give --masks=FOLDER '
      'with NAME_mask.png or NAME_segmentation.png of each image; '
      '--mode=predict of a network that segments writes the former.'
    )
  if not pathlib.Path(folder).is_dir():
    raise FileNotFoundError(f'--masks={folder} is not a folder.')
  return layout.masks(pathlib.Path(folder))


def class_names(made: Experiment, workdir: pathlib.Path) -> list[str]:
  """Names of the classes, as the run's evaluation or its data set has them.

  Raises:
    ValueError: Neither says them.
  """
  path, count = workdir / 'summary.json', made.network.classes
  told = load_json(path)['run'] if path.exists() else {}
  names = told.get('classes', build.DATASETS[made.config.data.name].LABELS)
  if len(names) != count:
    raise ValueError(
      f'{path} does not name the {count} classes of the network. Evaluate the '
      'run first: --mode=evaluate.'
    )
  return list(names)


def temperature(
  made: Experiment, workdir: pathlib.Path, about: Mapping
) -> float:
  """The temperature of the probabilities, as the config says it.

  One that is fitted on validation images is looked up in the run's summary:
  where a network is used there are no such images.

  Args:
    made: The experiment.
    workdir: The run's folder.
    about: What of the summary's 'run' must be so: step, views, head.

  Raises:
    ValueError: It is to be the fitted one, and that is not known.
  """
  value = calibration.check(made.config.evaluate.temperature)
  if value is not None:
    return value
  path = workdir / 'summary.json'
  told = load_json(path) if path.exists() else {'run': {}}
  found = told.get('temperature', {})
  same = all(told['run'].get(k) == v for k, v in about.items())
  if found.get('from') != 'validation' or not same:
    raise ValueError(
      f"evaluate.temperature is 'validation', but {path} has none that was "
      f'fitted for {dict(about)}. Evaluate the run so first: --mode=evaluate.'
    )
  return found['value']
