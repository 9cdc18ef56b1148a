"""Whether the parts of a split share a picture, a lesion or a file."""

import collections
import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from jaxderm.data.index import Index
from jaxderm.data.papers import PAPER_MODES
from jaxderm.data.phash import NEAR, near_duplicates, perceptual_hash

__all__ = [
  'NEAR',
  'Leak',
  'LeakError',
  'canonical_id',
  'check',
  'find_leaks',
  'near_duplicates',
  'overlap',
  'perceptual_hash',
]

_PAIRS = (('train', 'validation'), ('train', 'test'), ('validation', 'test'))
_ISIC = re.compile(r'(ISIC_\d+)(?!\d)', re.IGNORECASE)


class LeakError(ValueError):
  """Parts of a split that ought to be apart are not."""


@dataclasses.dataclass(frozen=True)
class Leak:
  """Two images, in two parts of a split, that show the same thing.

  Attributes:
    kind: 'same id', 'same file', 'same lesion' or 'near-duplicate'; the first
      of these that holds.
    first: Image id in the earlier part.
    second: Image id in the later part.
    where: The parts, for example 'train/test'.
  """

  kind: str
  first: str
  second: str
  where: str


def canonical_id(image_id: str) -> str:
  """The name without what copies add: ISIC_0000000_downsampled, .jpg."""
  isic = _ISIC.match(image_id)
  if isic:
    return isic.group(1).upper()
  return re.sub(r'(?i)(_downsampled)?(\.(jpe?g|png|bmp))?$', '', image_id)


def overlap(a: Index, b: Index, where: str = 'train/test') -> list[Leak]:
  """Pairs of images, one of `a` and one of `b`, that show the same thing.

  Also for two data sets, to learn whether one may test what the other trained.

  Args:
    a: The records of the earlier part.
    b: The records of the later part.
    where: What to call the two parts.

  Returns:
    One leak for each pair, of the first kind that holds, in order of `a`.
  """
  # The same lesion only if both were named by one publisher: PH2's lesion and
  # a user's may both be called 1. Images' own names count as 'same id'.
  kinds = {
    'same id': _equal(_canonical(a.image_id), _canonical(b.image_id)),
    'same file': _equal(a.sha256, b.sha256),
    'same lesion': _equal(a.lesion_id, b.lesion_id) if a.name == b.name else (),
    'near-duplicate': ((i, j) for i, j, _ in near_duplicates(a.phash, b.phash)),
  }
  found = {}
  for kind, pairs in kinds.items():
    for pair in pairs:
      found.setdefault(pair, kind)
  return [
    Leak(kind, str(a.image_id[i]), str(b.image_id[j]), where)
    for (i, j), kind in sorted(found.items())
  ]


def _canonical(image_ids: np.ndarray) -> list[str]:
  return [canonical_id(i) for i in image_ids]


def _equal(a, b) -> Iterator[tuple[int, int]]:
  """Pairs of rows with equal texts that are not empty."""
  rows = collections.defaultdict(list)
  for j, text in enumerate(b):
    rows[text].append(j)
  for i, text in enumerate(a):
    if text:
      for j in rows.get(text, ()):
        yield i, j


def find_leaks(index: Index, split) -> list[Leak]:
  """Leaks between train and validation, train and test, validation and test.

  Args:
    index: The data set.
    split: A `folds.Split` of it.

  Raises:
    ValueError: If the split names images that the data set does not have.
  """
  parts = {
    name: index.take(index.rows(split.images(name)))
    for name in ('train', 'validation', 'test')
  }
  return [
    leak
    for first, second in _PAIRS
    for leak in overlap(parts[first], parts[second], f'{first}/{second}')
  ]


def check(
  index: Index, split, mode: str | None = None
) -> tuple[list[Leak], str]:
  """Refuses a split that leaks, unless it is a paper's.

  Args:
    index: The data set.
    split: A `folds.Split` of it.
    mode: How the split was made, `split.mode` if None.

  Returns:
    The leaks of a paper's split (none of another), and a line to print.

  Raises:
    LeakError: If the split leaks and `mode` is not one of `PAPER_MODES`.
  """
  mode = split.mode if mode is None else mode
  leaks = find_leaks(index, split)
  if not leaks:
    return [], f'{mode}: no image or lesion is in two parts of the split.'
  if mode not in PAPER_MODES:
    raise LeakError(_complaint(index.name, mode, leaks))
  return leaks, f"{mode}: the paper's split leaks: {_shares(split, leaks)}."


def _complaint(name: str, mode: str, leaks: list[Leak]) -> str:
  counts = collections.Counter((leak.where, leak.kind) for leak in leaks)
  remedy = (
    "Use mode 'official_clean', which leaves these images out of training"
    if mode == 'official'
    else "Make the split with mode 'grouped', which keeps them together"
  )
  lines = [
    f'{name}: the split ({mode}) has {len(leaks)} pairs of images of one '
    'thing in two of its parts: '
    + ', '.join(f'{n} {kind} in {w}' for (w, kind), n in counts.items())
    + f'. {remedy}.'
  ]
  lines += [
    f'  {leak.where}: {leak.first} and {leak.second} ({leak.kind})'
    for leak in leaks[:10]
  ]
  if len(leaks) > 10:
    lines.append(f'  and {len(leaks) - 10} more')
  return '\n'.join(lines)


def _shares(split, leaks: list[Leak]) -> str:
  texts = []
  for first, second in sorted(_PAIRS, key=lambda pair: pair[1] != 'test'):
    where = f'{first}/{second}'
    images = {leak.second for leak in leaks if leak.where == where}
    total = len(split.images(second))
    if images:
      texts.append(
        f'{len(images):,} of {total:,} {second} images '
        f'({100 * len(images) / total:.1f} %) have a sibling in {first}'
      )
  return '; '.join(texts)
