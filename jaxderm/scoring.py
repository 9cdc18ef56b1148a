"""What evaluation keeps of each image, and makes of it, task by task.

Masks are scored at each image's own size: probabilities are brought there by
bilinear interpolation and cut at the threshold. A score at the network's own
size would flatter it.
"""

import pathlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from jaxderm import (
  boundary,
  class_metrics,
  class_report,
  metrics,
  report,
  sharding,
)
from jaxderm.data import pipeline
from jaxderm.data.index import Index
from jaxderm.rows import COUNTS, write_rows


def at_own_size(probability: np.ndarray, height: int, width: int) -> np.ndarray:
  """A probability map [h, w, 1] at the size of its image, float32 [H, W]."""
  map_ = np.asarray(probability, np.float32)[..., 0]
  return cv2.resize(map_, (width, height), interpolation=cv2.INTER_LINEAR)


class Scoring:
  """What all tasks promise to evaluation.

  Attributes:
    columns: What is measured on each image.
    needed: What rows cannot do without.
    facts: What a reader must know of the scores.
  """

  columns: Sequence[str]
  needed: Sequence[str]
  facts: Mapping

  def __init__(self, index: Index, threshold: float):
    """Takes the data's index, and where probabilities of lesion are cut."""
    raise NotImplementedError

  def measure(
    self, probability: np.ndarray, examples: pipeline.Examples, i: int
  ) -> Sequence[float]:
    """The numbers in `columns`, of example i."""
    raise NotImplementedError

  def rows(self, measured: np.ndarray, records: np.ndarray) -> dict:
    """Columns of rows from what was measured on those records of the index.

    Args:
      measured: [N, len(columns)].
      records: [N].
    """
    raise NotImplementedError

  def summarise(self, rows: Mapping, resamples: int) -> dict:
    """The scores, as `summary.json` has them."""
    raise NotImplementedError

  def pictures(self, rows: Mapping, examples: pipeline.Examples, mapper):
    """Pictures for the report; `mapper` is an `evaluate.Mapper`."""
    raise NotImplementedError

  def write_report(self, path: pathlib.Path, summary, curves, pictures) -> None:
    """Writes the report page; see `report.write_report`."""
    raise NotImplementedError

  def headlines(self, summary: Mapping) -> list[str]:
    """Lines that say how it went."""
    raise NotImplementedError

  def write_rows(self, path: pathlib.Path, rows: Mapping) -> None:
    """Writes `rows.csv`."""
    write_rows(path, rows, self.needed)

  def _ids(self, records: np.ndarray) -> dict:
    return {
      'image_id': np.asarray(self._index.image_id)[records],
      'lesion_id': np.asarray(self._index.lesion_id)[records],
    }

  def _picked(self, examples: pipeline.Examples, picks) -> pipeline.Examples:
    place = {self._index.image_id[r]: i for i, r in enumerate(examples.rows)}
    return examples.subset([place[pick.image_id] for pick in picks])


class Masks(Scoring):
  """Segmentation: counts of pixels and distances of outlines."""

  columns = ('height', 'width', *COUNTS, 'hausdorff', 'hd95')
  needed = COUNTS

  def __init__(self, index: Index, threshold: float):
    self._index, self._threshold = index, threshold
    own = "each image's own size"
    self.facts = {'scored_at': own, 'threshold': threshold}

  def measure(self, probability, examples, i):
    true = examples.record(i)['mask'][..., 0] > 0
    predicted = at_own_size(probability, *true.shape) > self._threshold
    counts = metrics.count(predicted[None], true[None])
    distances = boundary.hausdorff(predicted, true)
    pixels = [counts.tp[0], counts.fp[0], counts.fn[0], counts.tn[0]]
    return [*true.shape, *pixels, *distances]

  def rows(self, measured, records):
    rows = self._ids(records)
    for name, column in zip(self.columns, measured.T, strict=True):
      whole = name not in ('hausdorff', 'hd95')
      rows[name] = column.astype(np.int64) if whole else column
    return rows

  def summarise(self, rows, resamples):
    return metrics.summarise(rows, resamples=resamples)

  def pictures(self, rows, examples, mapper):
    """The best, the middle and the worst images."""
    picks = report.pick_examples(rows)
    chosen = self._picked(examples, picks)
    mine = list(mapper(chosen))
    order = sharding.gather_uneven(np.array([i for i, _ in mine], np.int64))
    side = mapper.size
    maps = np.array([m for _, m in mine], np.float32).reshape(-1, side, side, 1)
    maps = sharding.gather_uneven(maps)
    shown = []
    for i, map_ in sorted(zip(order, maps, strict=True), key=lambda x: x[0]):
      record = chosen.record(int(i))
      true = record['mask'][..., 0] > 0
      shown.append(
        {
          'title': picks[i].title,
          'caption': picks[i].caption,
          'image': record['image'],
          'truth': true,
          'prediction': at_own_size(map_, *true.shape) > self._threshold,
        }
      )
    return shown

  def write_report(self, path, summary, curves, pictures):
    report.write_report(path, summary, curves, pictures)

  def headlines(self, summary):
    names = ('dice', 'jaccard')
    return [_told(summary, k, names) for k in ('per_image', 'pooled')]


class Classes(Scoring):
  """Classification: the label and the probability of each class."""

  needed = ('label',)

  def __init__(self, index: Index, threshold: float):
    del threshold  # the most probable class needs none
    self._index = index
    self.columns = [class_metrics.PROBABILITY + name for name in index.labels]
    self.facts = {'classes': list(index.labels)}

  def measure(self, probability, examples, i):
    del examples, i
    return probability

  def rows(self, measured, records):
    names = np.asarray(self._index.labels)
    label = {'label': names[self._index.label[records]]}
    probabilities = dict(zip(self.columns, measured.T, strict=True))
    return self._ids(records) | label | probabilities

  def summarise(self, rows, resamples):
    return class_metrics.summarise(rows, resamples=resamples)

  def pictures(self, rows, examples, mapper):
    """The mistakes that the network is surest of."""
    del mapper
    picks = class_report.pick_mistakes(rows)
    chosen = self._picked(examples, picks)
    return [
      {
        'title': pick.title,
        'caption': pick.caption,
        'image': chosen.record(i)['image'],
      }
      for i, pick in enumerate(picks)
    ]

  def write_report(self, path, summary, curves, pictures):
    class_report.write_report(path, summary, curves, pictures)

  def headlines(self, summary):
    return [
      _told(summary, 'scores', ('accuracy', 'balanced_accuracy')),
      _told(summary, 'macro', ('f1', 'auc')),
    ]


SCORINGS: dict[str, type[Scoring]] = {
  'segmentation': Masks,
  'classification': Classes,
}


def _told(summary: Mapping, group: str, names: Sequence[str]) -> str:
  """Scores with their intervals, on one line; those that there are."""
  told = []
  for name in names:
    value, interval = summary[group][name], summary['intervals'][group][name]
    if value is not None:
      low, high = interval
      told.append(f'{name} {value:.4f} [{low:.4f}, {high:.4f}]')
  return f'{group}: ' + ', '.join(told)
