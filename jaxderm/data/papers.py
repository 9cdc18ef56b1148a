"""The splits that the papers used: a table of mode, data set and counts.

They are random by image and ignore lesions; that is how the printed numbers
came about, and `leaks.check` says how far each of them leaks. Numbers are the
papers', or the nearest that their arithmetic allows.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from jaxderm.data import oversampling
from jaxderm.data.index import Index

PARTS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How many images a paper put where.

  Attributes:
    train: Images to train on.
    validation: Images to choose the best epoch with.
    test: Images to score.
    of: Images drawn from; 0 for the sum of the parts that are drawn.
    official: Parts that are the publisher's and are not drawn.
    stratified: Whether parts have the classes' shares of the whole.
    turns: The part that argument `fold` of a split moves along.
    validation_is_test: Whether the paper chose its epoch on the test set.
    one_per_lesion: Whether `test` is drawn from one image of each lesion, of
      which there are `lesions`.
    lesions: Lesions in the published data set.
    with_age: Whether images of unknown age are left out.
    copies: How many copies of an image of each class were made before the
      split, so that they lie on both sides; () if none were.
  """

  train: int
  validation: int
  test: int
  of: int = 0
  official: tuple[str, ...] = ()
  stratified: bool = False
  turns: str = 'test'
  validation_is_test: bool = False
  one_per_lesion: bool = False
  lesions: int = 0
  with_age: bool = False
  copies: tuple[int, ...] = ()


# 720 of 900 for training, before augmentation: what the paper ought to have
# done. It split after it, see 'wei2020_leaky'.
_WEI2020 = Recipe(
  720, 180, 379, official=('test',), stratified=True, turns='validation'
)

PAPERS: dict[str, dict[str, Recipe]] = {
  # Printed: 160 + 40, and 2,570 + 200 of 2,594, which cannot be: 2,394 + 200.
  # A tenth of the training images is the validation set.
  'yang2021': {
    'ph2': Recipe(144, 16, 40),
    'isic2018_task1': Recipe(2155, 239, 200),
  },
  'wei2020': {'isic2016_part1': _WEI2020, 'isic2016_part3': _WEI2020},
  # 727 benign images three times and 173 malignant ones 13 times are the
  # printed 4,430, of which a fifth is for validation. How the 6,900 images for
  # segmentation were made is not known.
  'wei2020_leaky': {
    'isic2016_part3': dataclasses.replace(
      _WEI2020, train=3544, validation=886, copies=(3, 13)
    ),
  },
  # The 57 images of unknown age are not among the printed 9,958.
  'do2022': {
    'ham10000': Recipe(
      8962, 996, 996, stratified=True, validation_is_test=True, with_age=True
    ),
  },
  # Of its runs with augmentation, and of one with metadata.
  'do2022_augmented': {
    'ham10000': Recipe(
      8464, 1494, 1494, stratified=True, validation_is_test=True, with_age=True
    ),
  },
  # Printed for ISIC 2017: 1,400 + 150 + 600 of "2,000"; the last two are the
  # publisher's, so 600 of his 2,000 training images stay unused.
  'zarrin2025': {
    'ph2': Recipe(140, 20, 40),
    'isic2017_part1': Recipe(
      1400,
      150,
      600,
      of=2000,
      official=('validation', 'test'),
      turns='train',
    ),
    'isic2018_task1': Recipe(1815, 259, 520),
  },
  # A fifth of the 7,470 lesions is the test set, by one image each; all other
  # images, of the same lesions too, are for training.
  'le2020': {
    'ham10000': Recipe(
      6817,
      1704,
      1494,
      stratified=True,
      turns='validation',
      one_per_lesion=True,
      lesions=7470,
    ),
  },
}

PAPER_MODES = frozenset(PAPERS)


def validation_is_test(mode: str) -> bool:
  """Whether a paper's validation set is its test set."""
  return any(r.validation_is_test for r in PAPERS.get(mode, {}).values())


def copies(mode: str, name: str) -> tuple[int, ...]:
  """Copies of an image of each class that a split has; () if no copies."""
  recipe = PAPERS.get(mode, {}).get(name)
  return recipe.copies if recipe else ()


def has_official(index: Index) -> bool:
  """Whether the publisher says which images are for testing."""
  return {'train', 'test'} <= set(index.official.tolist())


def draw(
  index: Index, mode: str, seed: int, folds: int, fold: int
) -> tuple[tuple[np.ndarray, ...], str]:
  """A paper's split, its counts scaled if the data set is not as published.

  Args:
    index: The data set, one of `PAPERS[mode]`.
    mode: The paper.
    seed: Another seed is another draw.
    folds: Into how many turns the images are divided.
    fold: Which turn this is.

  Returns:
    Rows of train, validation and test, a row for each copy of an image; and a
    note.

  Raises:
    ValueError: If an official part is missing, or a part would be empty.
  """
  recipe = PAPERS[mode][index.name]
  index, source = _copied(index, recipe)
  parts = {p: np.flatnonzero(index.official == p) for p in recipe.official}
  rest = _pool(index, recipe)
  sizes, note = _sizes(index, recipe, rest)
  for part in ('test', 'validation', 'train'):
    if part not in sizes:
      continue
    among = rest
    if part == 'test' and recipe.one_per_lesion:
      among = _one_per_lesion(index, rest, seed)
    if part != 'train' or recipe.of:
      among = _order(index, among, f'{seed} {part}', recipe.stratified)
      turn = fold if part == recipe.turns else 0
      among = _window(among, sizes[part], folds, turn)
    parts[part] = among
    rest = np.setdiff1d(rest, among)
  if recipe.validation_is_test:
    parts['validation'] = parts['test']
    note = f'{note} The validation set is the test set, as in the paper.'
  empty = [p for p in PARTS if not len(parts[p])]
  if empty:
    raise ValueError(
      f'{index.name}: the split {mode!r} of {len(index)} images leaves '
      f'{" and ".join(empty)} without an image. Build the data set with its '
      "official parts and more images, or use mode 'grouped'."
    )
  return tuple(source[parts[p]] for p in PARTS), note.strip()


def lots(image_ids: Sequence[str], seed: str) -> np.ndarray:
  """A random number for each name, uint64 `[n]`, whatever stands beside it."""
  digests = [
    hashlib.blake2b(f'{seed}\n{i}'.encode(), digest_size=8).digest()
    for i in image_ids
  ]
  return np.frombuffer(b''.join(digests), np.uint64)


def _copied(index: Index, recipe: Recipe) -> tuple[Index, np.ndarray]:
  """The data with copies of what is drawn from, and each record's row."""
  if not recipe.copies:
    return index, np.arange(len(index))
  often = np.ones(len(index), np.int64)
  pool = _pool(index, recipe)
  often[pool] = oversampling.often(index.label[pool], recipe.copies)
  source = np.repeat(np.arange(len(index)), often)
  number = np.arange(len(source)) - np.repeat(np.cumsum(often) - often, often)
  names = [
    f'{index.image_id[r]} {k}' for r, k in zip(source, number, strict=True)
  ]
  columns = {
    field.name: getattr(index, field.name)[source]
    for field in dataclasses.fields(index)[3:]
  }
  return dataclasses.replace(index, image_id=np.array(names), **columns), source


def _pool(index: Index, recipe: Recipe) -> np.ndarray:
  """The rows that a paper drew from."""
  usable = np.ones(len(index), bool)
  if has_official(index):
    usable &= index.official == 'train'
  if recipe.with_age:
    usable &= ~np.isnan(index.age)
  return np.flatnonzero(usable)


def _sizes(index, recipe, pool) -> tuple[dict[str, int], str]:
  """How many images to draw for each part, and a note if not as printed."""
  printed = {p: getattr(recipe, p) for p in PARTS if p not in recipe.official}
  if recipe.validation_is_test:
    del printed['validation']
  published = recipe.of or sum(printed.values())
  if len(pool) == published:
    return printed, ''
  scale = len(pool) / published
  sizes = {p: round(n * scale) for p, n in printed.items()}
  if recipe.one_per_lesion:
    lesions = len(np.unique(index.lesion_id[pool]))
    sizes['test'] = round(recipe.test * lesions / recipe.lesions)
    left = (len(pool) - sizes['test']) / (published - recipe.test)
    sizes['validation'] = round(recipe.validation * left)
  return sizes, (
    f'{len(pool):,} images instead of the {published:,} published: counts are '
    'scaled in proportion.'
  )


def _one_per_lesion(index, rows, seed) -> np.ndarray:
  """One row of each lesion, by lot."""
  lot = lots(index.image_id[rows], f'{seed} lesion')
  rows = rows[np.argsort(lot, kind='stable')]
  return rows[np.unique(index.lesion_id[rows], return_index=True)[1]]


def _order(index, rows, seed, stratified) -> np.ndarray:
  """Shuffles rows; if stratified, any stretch has the classes' shares."""
  lot = lots(index.image_id[rows], seed)
  place = np.zeros(len(rows))
  if stratified:
    for label in np.unique(index.label[rows]):
      of_label = np.flatnonzero(index.label[rows] == label)
      of_label = of_label[np.argsort(lot[of_label], kind='stable')]
      place[of_label] = (np.arange(len(of_label)) + 0.5) / len(of_label)
  return rows[np.lexsort((lot, place))]


def _window(rows, size, folds, fold) -> np.ndarray:
  """`size` rows from the beginning of a fold; whole folds leave no row out."""
  start = len(rows) * fold // folds
  if size == len(rows) // folds:
    return rows[start : len(rows) * (fold + 1) // folds]
  return np.roll(rows, -start)[:size]
