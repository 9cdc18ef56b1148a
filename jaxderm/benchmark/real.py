"""Real input and several members: steps as training is given them."""

import pathlib

import flax.linen as nn
import jax
import numpy as np

from jaxderm import dispatch
from jaxderm.benchmark.ours import Batch, Ours, random_metadata
from jaxderm.data import build, pipeline, resident
from jaxderm.data import index as index_lib


def lesions(
  size: int, folder: pathlib.Path, network: nn.Module
) -> pipeline.Examples:
  """Generated lesions.

  Args:
    size: Pixels of each side.
    folder: Where the data set is built, once.
    network: What they are for; metadata are noise.
  """
  dataset = build.open_or_build(
    'synthetic', data_dir=folder, n=64, size=256, seed=0
  )
  index = index_lib.from_columns(
    dataset.name, dataset.labels, dataset.columns_by_split()
  )
  (records,) = dataset.sources.values()
  count = len(index.label)
  return pipeline.Examples(
    records,
    np.arange(count),
    size,
    columns=random_metadata(network, count),
  )


class Resident:
  """Steps on images that are on the device, many at once, of some members.

  Attributes:
    images: In each call's step, which is one dispatch.
  """

  def __init__(
    self,
    made: Ours,
    batch: Batch,
    examples: pipeline.Examples,
    members: int = 1,
  ):
    """Places the images; what compiles waits for the first step.

    Args:
      made: The workload.
      batch: Of the size that is trained on.
      examples: What is kept on the device.
      members: Seeds that are trained in one program.
    """
    count = len(batch['image'])
    columns = resident.load(examples, made.mesh)
    self._advance = dispatch.make_resident(
      made.update(), columns, made.mesh, together=True
    )
    order = pipeline.order(len(examples), seed=0, batch_size=count)
    rows = np.arange(len(examples), dtype=np.int32)
    self._feeds = [dispatch.row_feed(order, rows)] * members
    self._states = [
      made.plan_state(batch, seed).make() for seed in range(members)
    ]
    self._steps = dispatch.steps_per_dispatch(None, is_resident=True)
    self._done = 0
    self.images = count * self._steps * members

  def __call__(self, dispatches: int) -> None:
    for _ in range(dispatches):
      self._states, _ = self._advance(
        self._states, self._feeds, self._done, self._steps
      )
      self._done += self._steps
    jax.block_until_ready(self._states)
