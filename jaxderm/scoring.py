"""What evaluation keeps of each image, and makes of it, task by task.

Masks are scored at each image's own size: probabilities are brought there by
bilinear interpolation and cut at the threshold. A score at the network's own
size flatters it, as there are no fine borders; papers that print such scores
are compared with by `evaluate.scored_at='network'`.
"""

import cv2
import numpy as np

from jaxderm import boundary, groups, inference, metrics, report
from jaxderm.class_scoring import Classes, Paired
from jaxderm.data.index import Index
from jaxderm.rows import COUNTS
from jaxderm.scoring_base import Scoring, told

# Where masks are scored, and how a summary tells it.
PLACES = {
  'own': "each image's own size",
  'network': "the network's size, {0} x {0} pixels",
}


def at_own_size(probability: np.ndarray, height: int, width: int) -> np.ndarray:
  """A probability map [h, w, 1] at the size of its image, float32 [H, W]."""
  map_ = np.asarray(probability, np.float32)[..., 0]
  return cv2.resize(map_, (width, height), interpolation=cv2.INTER_LINEAR)


class Masks(Scoring):
  """Segmentation: counts of pixels and distances of outlines."""

  columns = ('height', 'width', *COUNTS, 'hausdorff', 'hd95')
  needed = COUNTS
  summarise = staticmethod(metrics.summarise)
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

  def finish(
    self, rows, validation, *, resamples, temperature='none', smallest=30
  ):
    del validation, temperature  # outlines have none

    def of_group(part):
      whole = self.summarise(part, resamples=resamples)
      return {k: whole[k] for k in ('per_image', 'failures', 'intervals')}

    summary = self.summarise(rows, resamples=resamples)
    by = self._groups(rows)
    summary['groups'] = groups.summarise(rows, by, of_group, smallest)
    return rows, summary

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
    return [told(summary, k, names) for k in ('per_image', 'pooled')]


SCORINGS: dict[str, type[Scoring]] = {
  'segmentation': Masks,
  'classification': Classes,
  'pairwise': Paired,
}
