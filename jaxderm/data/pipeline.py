"""From built data sets to batches: decoding and resizing on the host.

What step k sees is a pure function of (seed, k). The order of a whole run is
a list of indices that nobody holds: batch k is computed when it is wanted, so
restarting at step k needs no state, and each host decodes its own rows of the
same global batch. Augmentation is the step's (data/augment.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import grain
import numpy as np

from jaxderm import sharding
from jaxderm.data import dilation as dilation_lib

Example = dict[str, np.ndarray]
# (image of the network's size, its record) to such an image.
Change = Callable[[np.ndarray, int], np.ndarray]

# Above this many bytes of decoded pictures, they are decoded anew each time.
CACHE_BYTES = 4 << 30


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """Squeezes a picture into a square, as the papers do.

  Args:
    image: uint8 [H, W, 3].
    size: Pixels of each side.

  Returns:
    uint8 [size, size, 3]; areas are averaged where it shrinks.
  """
  height, width = image.shape[:2]
  if (height >= size) != (width >= size):
    # cv2 averages only where both sides shrink: first the one that does.
    first = (width, size) if height >= size else (size, height)
    image = cv2.resize(image, first, interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR
  else:
    how = cv2.INTER_AREA if height >= size else cv2.INTER_LINEAR
  return cv2.resize(image, (size, size), interpolation=how)


def crop(image: np.ndarray, size: int) -> np.ndarray:
  """Brings the largest square in the middle to a size, bilinear.

  As Keras' `smart_resize`, which `do2022` used: what lies left and right of the
  square is lost, and no shape is changed. Like it, this takes single pixels
  where a picture shrinks, and no means of areas.

  Args:
    image: uint8 [H, W, 3].
    size: Pixels of each side.

  Returns:
    uint8 [size, size, 3].
  """
  height, width = image.shape[:2]
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  image = image[top : top + side, left : left + side]
  return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


# How a picture becomes a square, by `data.fit`.
FITS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
  'squeeze': resize,
  'crop': crop,
}


def resize_mask(
  mask: np.ndarray, size: int, fit: str = 'squeeze'
) -> np.ndarray:
  """A mask [H, W] of any two values to uint8 [size, size, 1] of 0 and 1.

  A pixel is lesion if half of it is: the nearest source pixel alone would
  fray the border. `fit` is that of the image.
  """
  full = (mask > 0).astype(np.float32)
  return (FITS[fit](full, size) >= 0.5).astype(np.uint8)[..., None]


class Examples:
  """Records as examples of one size; a random-access source.

  Attributes:
    rows: Which records, in order; one may be there several times.
  """

  def __init__(
    self,
    records: Sequence[Mapping],
    rows: np.ndarray,
    size: int,
    change: Change | None = None,
    *,
    fit: str = 'squeeze',
    dilation: int = dilation_lib.OFF,
    columns: Mapping[str, np.ndarray] | None = None,
  ):
    """Reads nothing yet.

    Args:
      records: Decoded records (data/record.py), N of them.
      rows: Indices into `records`.
      size: Pixels of each side.
      change: What is done to each image once it has that size, such as noise.
      fit: A name in `FITS`, of images and masks; what is scored on masks at
        their own size needs 'squeeze', which loses nothing of them.
      dilation: Pixels at `size` that the lesion's mask grows by before all
        that is outside becomes black, noise included; -1 leaves images whole.
      columns: More entries of each example, by name: of all records, [N, ...].
    """
    self.rows = np.asarray(rows)
    self._records = records
    self._size = size
    self._change = change
    self._fit, self._dilation, self._columns = fit, dilation, columns or {}
    # By row: what is seen several times in an epoch is kept once.
    self._cache: dict[int, Example] = {}
    distinct = len(np.unique(self.rows))
    self._keeps = distinct * size * size * 4 <= CACHE_BYTES

  def __len__(self) -> int:
    return len(self.rows)

  def subset(self, positions: Sequence[int]) -> 'Examples':
    """Those at `positions`, in that order."""
    return self.with_rows(self.rows[list(positions)])

  def record(self, i: int) -> Mapping:
    """The record as stored, at its own size."""
    return self._records[int(self.rows[i])]

  def decode(self, i: int) -> Example:
    """The example at `i`, read anew and kept by nobody.

    Raises:
      ValueError: All of it would be black; see `dilation`.
    """
    record, row = self.record(i), int(self.rows[i])
    image = FITS[self._fit](record['image'], self._size)
    mask = self._mask(record)
    if self._change is not None:
      image = self._change(image, row)
    if self._dilation >= 0:
      image = image * self._region(record, row, mask)
    return {
      'image': image,
      'mask': mask,
      'label': np.int32(record['label']),
      'valid': np.float32(1),
      **{name: column[row] for name, column in self._columns.items()},
    }

  def picture(self, i: int) -> np.ndarray:
    """What the example at `i` shows, as large as it is stored.

    Returns:
      uint8 [h, w, 3]: the image, or the square in its middle where no more is
      shown; black where the example is. Without `change`.
    """
    record, row = self.record(i), int(self.rows[i])
    image = record['image']
    if self._fit != 'squeeze':
      image = FITS[self._fit](image, min(image.shape[:2]))
    if self._dilation < 0:
      return image
    region = self._region(record, row, self._mask(record))
    region = cv2.resize(
      region, image.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    return image * region[..., None]

  def _mask(self, record: Mapping) -> np.ndarray:
    return resize_mask(record['mask'][..., 0], self._size, self._fit)

  def _region(self, record: Mapping, row: int, mask: np.ndarray) -> np.ndarray:
    name = record.get('image_id', f'record {row}')
    return dilation_lib.region(mask, self._dilation, name)

  def _like(self, rows: np.ndarray, change: Change | None) -> 'Examples':
    return Examples(
      self._records,
      rows,
      self._size,
      change,
      fit=self._fit,
      dilation=self._dilation,
      columns=self._columns,
    )

  def with_rows(self, rows: np.ndarray) -> 'Examples':
    """Others of the same records."""
    return self._like(rows, self._change)

  def with_change(self, change: Change) -> 'Examples':
    """The same with their images changed."""
    return self._like(self.rows, change)

  def __getitem__(self, i: int) -> Example:
    row = int(self.rows[i])
    if row in self._cache:
      return self._cache[row]
    example = self.decode(i)
    if self._keeps:
      self._cache[row] = example
    return example


class Chain:
  """Several random-access sources, one after the other."""

  def __init__(self, sources: Sequence[Sequence]):
    """Takes the sources, such as the official parts of a data set."""
    self._sources = list(sources)
    self._ends = np.cumsum([len(s) for s in self._sources])

  def __getitem__(self, i: int):
    which = int(np.searchsorted(self._ends, i, side='right'))
    start = self._ends[which - 1] if which else 0
    return self._sources[which][int(i - start)]


def _stack(examples: Sequence[Example]) -> Example:
  return {k: np.stack([e[k] for e in examples]) for k in examples[0]}


def order(count: int, *, seed: int, batch_size: int) -> grain.MapDataset:
  """Which examples make each batch: `order(...)[k]` is int64 [batch_size].

  Every pass over the data is shuffled anew; a batch may span two passes, so
  that every image is seen equally often.

  Args:
    count: Examples there are.
    seed: Decides the order.
    batch_size: Of all hosts together.
  """
  shuffled = grain.MapDataset.range(count).seed(seed).shuffle()
  return shuffled.repeat(None).batch(batch_size)


def training_batches(
  examples: Examples,
  *,
  seed: int,
  batch_size: int,
  start: int = 0,
  threads: int = 2,
) -> Iterator[Example]:
  """Batches without end, from step `start` on: this process's rows of each.

  Args:
    examples: What to draw from.
    seed: Decides the order.
    batch_size: Of all hosts together.
    start: The step to begin at.
    threads: Host threads; 0 to work where it is asked for.
  """
  batches = order(len(examples), seed=seed, batch_size=batch_size)
  mine = sharding.own_rows(batch_size)
  loaded = batches.map(
    lambda indices: _stack([examples[int(i)] for i in indices[mine]])
  )
  options = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=4 if threads else 0
  )
  iterator = iter(loaded.to_iter_dataset(options))
  iterator.set_state({'next_index': start})
  return iterator


def evaluation_batches(
  examples: Examples, batch_size: int
) -> Iterator[tuple[np.ndarray, Example]]:
  """Every image once, in order; the last batch is filled with `valid` 0.

  Args:
    examples: What to evaluate.
    batch_size: Of all hosts together.

  Yields:
    Indices into `examples` of this process's rows (-1 for padding), and the
    rows.
  """
  mine = sharding.own_rows(batch_size)
  for first in range(0, len(examples), batch_size):
    indices = np.full(batch_size, -1)
    count = min(batch_size, len(examples) - first)
    indices[:count] = np.arange(first, first + count)
    indices = indices[mine]
    batch = _stack([examples[max(int(i), 0)] for i in indices])
    batch['valid'] = (indices >= 0).astype(np.float32)
    yield indices, batch
