"""What a table of a paper compares."""

import dataclasses
from collections.abc import Mapping, Sequence

Changes = Mapping[str, object]  # keys of a config, 'loss.name', to values


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of a table.

  Attributes:
    printed: What the paper calls it, as its first columns have it.
    system: What follows the ':' of the config.
    changes: What is not as in the config.
    columns: Printed column of a score, where a line prints several results.
    members: Systems whose probabilities are averaged, instead of one system.
    ensemble: Whether the folds of the system are averaged to one prediction of
      test images that they share.
    config: File under configs/, where it is not that of the table.
  """

  printed: str
  system: str = ''
  changes: Changes = dataclasses.field(default_factory=dict)
  columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
  members: Sequence[str] = ()
  ensemble: bool = False
  config: str = ''

  @property
  def systems(self) -> tuple[str, ...]:
    """Its system, or those of its members."""
    return tuple(self.members) or (self.system,)


@dataclasses.dataclass(frozen=True)
class Plan:
  """A table of a paper.

  Attributes:
    title: What it compares.
    configs: File under configs/ for each data set.
    rows: In the order of the paper.
    scores: What each printed column is: 'convention.score' of a summary.
    scale: What a printed score is multiplied by: 1, or 100 for per cent.
    section: What the first column calls each data set, in a table of several.
    one_seed: Whether a row is one member, whatever seeds and folds are asked.
    splits: Split of a protocol, where it is not that of the paper's other
      tables.
    sizes: Printed column of the number of parameters, in a table of sizes. With
      no scores nothing is trained.
  """

  title: str
  configs: Mapping[str, str]
  rows: Sequence[Row]
  scores: Mapping[str, str]
  scale: float = 1.0
  section: Mapping[str, str] = dataclasses.field(default_factory=dict)
  one_seed: bool = False
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  sizes: str = ''
