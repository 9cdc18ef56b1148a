"""What a system of a paper is."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True)
class System:
  """One network of a paper.

  Attributes:
    name: 'paper/Name'.
    task: 'segmentation', 'classification' or 'pairwise'.
    make: Gives the network; its keywords are what may be changed.
    printed: Number of parameters in the paper.
    printed_kind: What that number counts: 'trainable' or 'all'.
    printed_mib: Size of its float32 variables in the paper, in MiB.
    printed_gmacs: "GFLOPs" in the paper, which are thousands of millions of
      what the profiler thop counts.
    gmacs_size: Side of the image that these are of, if not `size`.
    gmacs_changes: What differs in the network that these are of.
    size: Side of the image in the paper, in pixels.
    note: What a reader of the counts should know.
  """

  name: str
  task: str
  make: Callable[..., nn.Module]
  printed: int | None = None
  printed_kind: str = 'trainable'
  printed_mib: float | None = None
  printed_gmacs: float | None = None
  gmacs_size: int | None = None
  gmacs_changes: Mapping[str, Any] = dataclasses.field(
    default_factory=dict, hash=False
  )
  size: int = 256
  note: str = ''

  @property
  def paper(self) -> str:
    return self.name.partition('/')[0]

  @property
  def normalisation(self) -> str:
    """What the input needs: 'imagenet_mean', or 'none' where it is inside.

    A changed encoder may need another: see `network.encoder.normalisation`.
    """
    return self.make().encoder.normalisation
