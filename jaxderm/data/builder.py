"""The tfds builder that every data set shares.

A data set is a class with a few facts (labels, licence, counts) and one
method, `listing`, that finds its files; all else is decided here and in
record.py. Needs no TensorFlow.
"""

import collections
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tqdm import tqdm

from jaxderm.data import record
from jaxderm.data.record import Item, Listing

_SHARD_BYTES = 256 << 20


class LesionBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Builds a data set from a `Listing`; subclasses say which files.

  Attributes:
    LABELS: Class names, in the order of `label`.
    PUBLISHED: Images in each official split as the publisher has it.
    LICENCE: In the publisher's words, or nearly.
    HOW_TO_GET: Where the files are to be had and how to lay them out.
    OPTIONS: Dataclass of the arguments that a user may give, or None.
    NEEDS_FILES: False if the builder draws its images.
  """

  VERSION = tfds.core.Version('1.0.0')
  LABELS: ClassVar[tuple[str, ...]] = ()
  PUBLISHED: ClassVar[dict[str, int]] = {}
  LICENCE: ClassVar[str] = ''
  HOMEPAGE: ClassVar[str] = ''
  CITATION: ClassVar[str] = ''
  HOW_TO_GET: ClassVar[str] = ''
  OPTIONS: ClassVar[type | None] = None
  NEEDS_FILES: ClassVar[bool] = True

  def __init__(self, *, options: Any = None, **kwargs):
    """Creates it; nothing is read before `download_and_prepare`.

    Args:
      options: An instance of `OPTIONS`.
      **kwargs: Those of tfds, such as `data_dir`.
    """
    self.options = options or (self.OPTIONS and self.OPTIONS())
    super().__init__(**{'file_format': 'array_record', **kwargs})

  @classmethod
  def listing(cls, root: Path | None, options: Any = None) -> Listing:
    """Finds the files and reads the tables.

    Args:
      root: Folder that the user gave.
      options: An instance of `OPTIONS`.

    Raises:
      FileNotFoundError: Something that the publisher ships is missing.
      ValueError: Files and tables contradict each other.
    """
    raise NotImplementedError

  def encode(self, item: Item) -> dict[str, Any]:
    """The record of one item."""
    return record.encode(item)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=record.features(),
      homepage=self.HOMEPAGE,
      citation=self.CITATION,
      license=self.LICENCE,
      metadata=tfds.core.MetadataDict(),
    )

  def _log_download_bytes(self) -> None:
    """Says nothing: tfds would name a folder that is about to be moved."""

  def _log_download_done(self) -> None:
    """Says nothing, either."""

  def _download_and_prepare(self, *args, **kwargs) -> None:
    # Only a terminal gets the bar: logs stay readable.
    with tqdm(desc=self.name, unit=' images', disable=None) as self._bar:
      super()._download_and_prepare(*args, **kwargs)

  def _shard_iterators_per_split(self, dl_manager):
    root = Path(dl_manager.manual_dir) if self.NEEDS_FILES else None
    listing = self.listing(root, self.options)
    self._columns = {split: [] for split in listing.splits}
    self.info.metadata.update(
      labels=listing.labels,
      notes=listing.notes,
      published=self.PUBLISHED,
      columns=self._columns,
    )
    self._bar.reset(sum(map(len, listing.splits.values())))
    return {
      split: [partial(self._shard, split, some) for some in _shards(items)]
      for split, items in listing.splits.items()
    }

  def _shard(self, split: str, items: Sequence[Item]) -> Iterator:
    for values in _in_order(self.encode, items):
      # Kept beside the records, so that splitting need not read the images.
      self._columns[split].append(
        {k: v for k, v in values.items() if k not in record.PICTURES}
      )
      self._bar.update()
      yield values['image_id'], values


def _shards(items: Sequence[Item]) -> list[Sequence[Item]]:
  """Cuts items into runs of about 256 MiB of files each."""
  size = sum(item.image.stat().st_size for item in items if item.image)
  count = max(1, math.ceil(size / _SHARD_BYTES))
  ends = [len(items) * i // count for i in range(count + 1)]
  return [items[a:b] for a, b in itertools.pairwise(ends)]


def _in_order(work, items: Sequence[Item]) -> Iterator:
  """Maps on a few threads, holding few results: decoders release the GIL."""
  threads = min(8, os.cpu_count() or 1)
  pool = ThreadPoolExecutor(threads)
  pending = collections.deque()
  try:
    for item in items:
      pending.append(pool.submit(work, item))
      if len(pending) > 4 * threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
