"""What evaluation keeps of each image, and makes of it, task by task.

Masks are scored at each image's own size: probabilities are brought there by
bilinear interpolation and cut at the threshold. A score at the network's own
size flatters it, as there are no fine borders; papers that print such scores
are compared with by `evaluate.scored_at='network'`.
"""

import pathlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from jaxderm import (
  boundary,
  class_metrics,
  class_report,
  inference,
  metrics,
  report,
)
from jaxderm.data import pipeline
from jaxderm.data.index import Index
from jaxderm.rows import COUNTS, write_rows

# Where masks are scored, and how a summary tells it.
PLACES = {
  'own': "each image's own size",
  'network': "the network's size, {0} x {0} pixels",
}


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
    ranked_by: Which score says that one prediction is better than another.
  """

  columns: Sequence[str]
  needed: Sequence[str]
  facts: Mapping
  ranked_by: str

  def __init__(self, index: Index, threshold: float, size: int | None = None):
    """Takes what scores depend on.

    Args:
      index: Of the data.
      threshold: A pixel with a higher probability is lesion.
      size: Pixels of each side that masks are scored at; each image's own if
        None.
    """
    raise NotImplementedError

  def truth(self, examples: pipeline.Examples, i: int) -> np.ndarray:
    """What is true of example i, as it is scored."""
    raise NotImplementedError

  def place(self, probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A network's probability brought to where the truth is."""
    raise NotImplementedError

  def measure(
    self, probability: np.ndarray, truth: np.ndarray
  ) -> Sequence[float]:
    """The numbers in `columns`, of a probability that was placed."""
    raise NotImplementedError

  def outcome(
    self, probability: np.ndarray, truth: np.ndarray
  ) -> Sequence[float]:
    """What `worth` needs of one image; quicker than `measure`."""
    raise NotImplementedError

  def worth(self, outcomes: np.ndarray) -> float:
    """The score `ranked_by` of images with those outcomes [N, K], or NaN."""
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

  def pictures(self, rows: Mapping, examples: pipeline.Examples, ensemble):
    """Pictures for the report; `ensemble` is an `evaluate.Ensemble`."""
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
  ranked_by = 'mean Jaccard of the images'

  def __init__(self, index: Index, threshold: float, size: int | None = None):
    self._index, self._threshold, self._size = index, threshold, size
    place = PLACES['own' if size is None else 'network'].format(size)
    self.facts = {'scored_at': place, 'threshold': threshold}

  def truth(self, examples, i):
    mask = examples.record(i)['mask'][..., 0] > 0
    if self._size is None:
      return mask
    # EXACT takes the pixel in the middle; cv2's older nearest, the one at the
    # top left, moves a mask by half a pixel against its image.
    sides, how = (self._size, self._size), cv2.INTER_NEAREST_EXACT
    return cv2.resize(mask.astype(np.uint8), sides, interpolation=how) > 0

  def place(self, probability, truth):
    return at_own_size(probability, *truth.shape)

  def _counts(self, probability, truth) -> metrics.Counts:
    return metrics.count((probability > self._threshold)[None], truth[None])

  def measure(self, probability, truth):
    counts = self._counts(probability, truth)
    distances = boundary.hausdorff(probability > self._threshold, truth)
    pixels = [counts.tp[0], counts.fp[0], counts.fn[0], counts.tn[0]]
    return [*truth.shape, *pixels, *distances]

  def outcome(self, probability, truth):
    return metrics.jaccard(self._counts(probability, truth))

  def worth(self, outcomes):
    return float(np.mean(outcomes))

  def rows(self, measured, records):
    rows = self._ids(records)
    for name, column in zip(self.columns, measured.T, strict=True):
      whole = name not in ('hausdorff', 'hd95')
      rows[name] = column.astype(np.int64) if whole else column
    return rows

  def summarise(self, rows, resamples):
    return metrics.summarise(rows, resamples=resamples)

  def pictures(self, rows, examples, ensemble):
    """The best, the middle and the worst images, at their own size."""
    picks = report.pick_examples(rows)
    chosen = self._picked(examples, picks)
    found = ensemble.everywhere([pick.image_id for pick in picks])
    shown = []
    for i, pick in enumerate(picks):
      record = chosen.record(i)
      true = record['mask'][..., 0] > 0
      placed = [self.place(map_, true) for map_ in found[i]]
      fused = inference.weighted_mean(placed, ensemble.weights)
      shown.append(
        {
          'title': pick.title,
          'caption': pick.caption,
          'image': record['image'],
          'truth': true,
          'prediction': fused > self._threshold,
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
  ranked_by = 'average precision, mean of the classes'

  def __init__(self, index: Index, threshold: float, size: int | None = None):
    del threshold, size  # the most probable class needs none
    self._index = index
    self.columns = [class_metrics.PROBABILITY + name for name in index.labels]
    self.facts = {'classes': list(index.labels)}

  def truth(self, examples, i):
    return self._index.label[examples.rows[i]]

  def place(self, probability, truth):
    del truth  # probabilities of classes have no size
    return probability

  def measure(self, probability, truth):
    del truth  # the rows have it from the index
    return probability

  def outcome(self, probability, truth):
    return [truth, *probability]

  def worth(self, outcomes):
    label, probability = outcomes[:, 0].astype(int), outcomes[:, 1:]
    precisions = np.array(
      [
        class_metrics.ranking(label == c, column)[1]
        for c, column in enumerate(probability.T)
      ]
    )
    return float(class_metrics.macro(precisions, np.isfinite(precisions)))

  def rows(self, measured, records):
    names = np.asarray(self._index.labels)
    label = {'label': names[self._index.label[records]]}
    probabilities = dict(zip(self.columns, measured.T, strict=True))
    return self._ids(records) | label | probabilities

  def summarise(self, rows, resamples):
    return class_metrics.summarise(rows, resamples=resamples)

  def pictures(self, rows, examples, ensemble):
    """The mistakes that the network is surest of."""
    del ensemble
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
