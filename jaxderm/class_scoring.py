"""What evaluation keeps of an image that has a class, and makes of it."""

import numpy as np

from jaxderm import (
  class_figures,
  class_metrics,
  class_report,
  class_summary,
  pair_heads,
)
from jaxderm.data.index import Index
from jaxderm.scoring_base import Scoring, told


class Classes(Scoring):
  """Classification: the label and the probability of each class."""

  needed = ('label',)
  summarise = staticmethod(class_metrics.summarise)
  ranked_by = 'average precision, mean of the classes'
  chooses = True

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

  def finish(self, rows, validation, **settings):
    by = self._groups(rows)
    return class_summary.finish(rows, validation, by=by, **settings)

  def pictures(self, rows, examples, ensemble):
    """The mistakes that the network is surest of, and curves of all rows."""
    del ensemble
    picks = class_report.pick_mistakes(rows)
    chosen = self._picked(examples, picks)
    mistakes = [
      {
        'title': pick.title,
        'caption': pick.caption,
        'image': chosen.picture(i),
      }
      for i, pick in enumerate(picks)
    ]
    return mistakes, class_figures.of_rows(rows)

  def write_report(self, path, summary, curves, pictures):
    mistakes, plots = pictures
    class_report.write_report(path, summary, curves, mistakes, plots)

  def headlines(self, summary):
    return [
      told(summary, 'scores', ('accuracy', 'balanced_accuracy')),
      told(summary, 'macro', ('f1', 'auc')),
    ]


class Paired(Classes):
  """Classification by a network that was trained on pairs.

  It is ranked as its heads are.
  """

  def __init__(self, index: Index, threshold: float, size: int | None = None):
    super().__init__(index, threshold, size)
    if len(index.labels) == 2:
      self.ranked_by = f'average precision of {index.labels[1]}'

  def worth(self, outcomes):
    label, probability = outcomes[:, 0].astype(int), outcomes[:, 1:]
    return pair_heads.average_precision(label, probability)
