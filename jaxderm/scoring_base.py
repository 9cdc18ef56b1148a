"""What every task promises to evaluation."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxderm import groups
from jaxderm.data import pipeline
from jaxderm.data.index import Index
from jaxderm.rows import write_rows


class Scoring:
  """What all tasks promise to evaluation.

  Attributes:
    columns: What is measured on each image.
    needed: What rows cannot do without.
    summarise: (rows, resamples=) to scores with intervals; tables join members
      by it.
    facts: What a reader must know of the scores.
    ranked_by: Which score says that one prediction is better than another.
    chooses: Whether something is chosen on validation images before scoring.
  """

  columns: Sequence[str]
  needed: Sequence[str]
  summarise: Callable[..., dict]
  facts: Mapping
  ranked_by: str
  chooses = False

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

  def finish(
    self,
    rows: Mapping,
    validation: Mapping | None,
    *,
    resamples: int,
    temperature: str = 'none',
    smallest: int = groups.SMALLEST,
  ) -> tuple[Mapping, dict]:
    """The rows as they are kept, and the scores as `summary.json` has them.

    Args:
      rows: What `rows` made.
      validation: Those of the validation images, if it `chooses` something.
      resamples: Data sets drawn for intervals.
      temperature: See `calibration.check`.
      smallest: Images that a group of patients must have to be scored.
    """
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

  def _groups(self, rows: Mapping) -> dict:
    return groups.facts(self._index, self._index.rows(rows['image_id']))

  def _picked(self, examples: pipeline.Examples, picks) -> pipeline.Examples:
    place = {self._index.image_id[r]: i for i, r in enumerate(examples.rows)}
    return examples.subset([place[pick.image_id] for pick in picks])


def told(summary: Mapping, group: str, names: Sequence[str]) -> str:
  """Scores with their intervals, on one line; those that there are."""
  parts = []
  for name in names:
    value, interval = summary[group][name], summary['intervals'][group][name]
    if value is not None:
      low, high = interval
      parts.append(f'{name} {value:.4f} [{low:.4f}, {high:.4f}]')
  return f'{group}: ' + ', '.join(parts)
