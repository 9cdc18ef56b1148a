"""All that is said of a classification: scores, calibration, points, groups."""

from collections.abc import Mapping

import numpy as np

from jaxderm import calibration, class_metrics, groups, isic_scores, operating
from jaxderm.rows import columns

# What a group of patients is told of each class.
_OF_CLASS = ('recall', 'specificity', 'auc')


def finish(
  rows: Mapping,
  validation: Mapping | None = None,
  *,
  by: Mapping[str, np.ndarray] | None = None,
  temperature: str = 'none',
  smallest: int = groups.SMALLEST,
  resamples: int = 2000,
  seed: int = 0,
) -> tuple[dict, dict]:
  """Brings rows to a temperature and scores them.

  Args:
    rows: Columns; see `class_metrics.summarise`.
    validation: Likewise, of the images that a temperature and thresholds are
      chosen on; None if there are none.
    by: The groups that the images of `rows` are in; see `groups.facts`.
    temperature: 'none', 'validation' or a number as text.
    smallest: Images that a group must have to be scored.
    resamples: Data sets drawn for the intervals.
    seed: Of the draws.

  Returns:
    The rows at that temperature, and a dict that JSON can hold: what
    `class_metrics.summarise` has, and
      isic: `isic_scores`, with intervals.
      temperature: 'value'; 'from' ('none', 'given' or 'validation'); if it was
        fitted, of how many 'images' and how many of them are scored
        ('of_scored'), too.
      calibration: see `calibration.summarise`.
      uncalibrated: the same scores before the temperature, if there is one.
      operating_points: see `operating.summarise`.
      groups: see `groups.summarise`.

  Raises:
    ValueError: The rows are not as said, or a temperature is to be fitted and
      there are no validation images.
  """
  table = columns(rows, ('label',))
  labels, label, before = class_metrics.read(table)
  drawn = {'resamples': resamples, 'seed': seed}
  told = _temperature(rows, validation, temperature)
  rows = temper(rows, told['value'])
  _, _, probability = class_metrics.read(rows)
  lesions = table['lesion_id']
  summary = class_metrics.summarise(rows, **drawn)
  isic = class_metrics.with_intervals(
    lambda weights: isic_scores.scores(labels, label, probability, weights),
    lesions,
    **drawn,
  )
  summary['isic'] = isic['isic']
  summary['intervals']['isic'] = isic['intervals']['isic']
  summary['temperature'] = told
  summary['calibration'] = calibration.summarise(
    label, probability, lesions, **drawn
  )
  if told['value'] != 1:
    plain = calibration.summarise(label, before, lesions, resamples=1)
    summary['uncalibrated'] = {k: plain[k] for k in calibration.SCORES}
  others = None
  if validation is not None and not _shared(rows, validation):
    others = class_metrics.read(temper(validation, told['value']))[1:]
  summary['operating_points'] = operating.summarise(
    labels, (label, probability), lesions, others, **drawn
  )
  summary['groups'] = groups.summarise(
    rows, by or {}, lambda part: _of_group(part, drawn), smallest
  )
  return rows, summary


def temper(rows: Mapping, temperature: float) -> dict:
  """Rows whose probabilities are at a temperature."""
  if temperature == 1:
    return dict(rows)
  labels, _, probability = class_metrics.read(rows)
  named = [class_metrics.PROBABILITY + name for name in labels]
  tempered = calibration.temper(probability, temperature)
  return {**rows, **dict(zip(named, tempered.T, strict=True))}


def _shared(rows: Mapping, others: Mapping) -> int:
  """How many images are in both."""
  return len(
    set(map(str, rows['image_id'])) & set(map(str, others['image_id']))
  )


def _temperature(
  rows: Mapping, validation: Mapping | None, temperature: str
) -> dict:
  """The temperature to use, and where it is from."""
  value = calibration.check(temperature)
  if value is not None:
    return {
      'value': value,
      'from': 'none' if temperature == 'none' else 'given',
    }
  if validation is None:
    raise ValueError(
      "evaluate.temperature='validation' needs validation images, the same "
      'for all members; there are none. Give a number, or none.'
    )
  _, label, probability = class_metrics.read(validation)
  return {
    'value': calibration.fit(label, probability),
    'from': 'validation',
    'images': len(label),
    'of_scored': _shared(rows, validation),
  }


def _of_group(part: dict, drawn: Mapping) -> dict:
  """What is told of the images of a group."""
  whole = class_metrics.summarise(part, **drawn)
  counts = np.sum(whole['confusion']['counts'], axis=1).tolist()
  here = dict(zip(whole['confusion']['labels'], counts, strict=True))

  def chosen(tree):
    return {
      'scores': tree['scores'],
      'macro': tree['macro'],
      'per_class': {
        name: {k: values[k] for k in _OF_CLASS}
        for name, values in tree['per_class'].items()
      },
    }

  return {
    **chosen(whole),
    'intervals': chosen(whole['intervals']),
    'images_of_class': here,
    'absent': whole['absent'],
  }
