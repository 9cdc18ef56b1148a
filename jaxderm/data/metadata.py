"""Age, sex and site of a patient as numbers for a network (SPEC 3.4)."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxderm.data import layout
from jaxderm.writer import write_json

# In alphabetical order. Keras' StringLookup, which the paper used, sorts by
# how often a name occurs; the order of inputs changes nothing that is learned.
SEXES = ('female', 'male', 'unknown')
# Those of HAM10000.
SITES = (
  'abdomen',
  'acral',
  'back',
  'chest',
  'ear',
  'face',
  'foot',
  'genital',
  'hand',
  'lower extremity',
  'neck',
  'scalp',
  'trunk',
  'unknown',
  'upper extremity',
)
# Age, and of each vocabulary its names and one place for all others: 21.
COLUMNS = 1 + (1 + len(SEXES)) + (1 + len(SITES))

# What `data.missing_age` may be.
MISSING_AGES = ('mean', 'median', 'drop')
FILE = 'metadata.json'

# What a user's table may call its columns; the first is HAM10000's.
_NAMES = {
  'image_id': ('image_id', 'image'),
  'age': ('age',),
  'sex': ('sex',),
  'localization': ('localization', 'site'),
}


def encode(
  age: Sequence[float],
  sex: Sequence[str],
  site: Sequence[str],
  *,
  missing_age: float,
  flag: bool = False,
) -> np.ndarray:
  """Facts of n patients as inputs of a network.

  Args:
    age: Years, [n]; NaN where missing.
    sex: [n]; '' counts as 'unknown', a name not in `SEXES` as one of its own.
    site: [n]; likewise, of `SITES`.
    missing_age: Years that a missing age counts as; `Encoding` knows them.
    flag: Whether one more column, the last, is 1 where the age is missing.

  Returns:
    float32 [n, 21], or [n, 22] with `flag`: the age in years, which the network
    standardises; sex as other, female, male, unknown; site as other and
    `SITES`; 1 where it is so and else 0.
  """
  age = np.asarray(age, np.float32)
  missing = np.isnan(age)
  columns = [
    np.where(missing, np.float32(missing_age), age)[:, None],
    _one_hot(sex, SEXES),
    _one_hot(site, SITES),
  ]
  if flag:
    columns.append(missing[:, None])
  return np.concatenate(columns, axis=1, dtype=np.float32)


def _one_hot(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
  """1 at 1 + the name's place, and at 0 for a text that is none of them."""
  place = [_place(text, names) for text in texts]
  return np.eye(1 + len(names), dtype=np.float32)[place]


def _place(text: str, names: Sequence[str]) -> int:
  text = text.strip().lower() or 'unknown'
  return names.index(text) + 1 if text in names else 0


def notes(sex: Sequence[str], site: Sequence[str]) -> list[str]:
  """What a person should know of texts that are not in the vocabularies."""
  told = []
  for what, others, names in _others(sex, site):
    if others:
      told.append(
        f'{len(others)} images have a {what} that is not one of '
        f'{", ".join(names)} ({layout.some(set(others))}); it counts as '
        '"other".'
      )
  return told


def status(sex: str, site: str) -> str:
  """'ok', and what of an image is in no vocabulary and counts as "other"."""
  told = [
    f'{what} {others[0]!r} counts as other'
    for what, others, _ in _others([sex], [site])
    if others
  ]
  return ', '.join(['ok', *told])


def _others(
  sex: Sequence[str], site: Sequence[str]
) -> Iterator[tuple[str, list[str], Sequence[str]]]:
  for what, texts, names in (('sex', sex, SEXES), ('site', site, SITES)):
    yield what, [text for text in texts if not _place(text, names)], names


def read(path: pathlib.Path) -> dict[str, tuple[float, str, str]]:
  """A user's table: image id to (age, sex, site).

  Args:
    path: A CSV with the columns image_id (or image), age, sex and localization
      (or site), in any order; others are ignored. Ages are years, and may be
      missing: nothing, 'unknown' or 'na'; such a text for sex or site is
      'unknown', too.

  Returns:
    By id, without the suffix of an image file: years (NaN if missing), sex and
    site ('' if unknown).

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: A column is missing or a value is wrong; names file, line,
      column and what was expected.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: there is no such file. It should be a CSV with the columns '
      f'{", ".join(_NAMES)}.'
    )
  named = _columns(path)
  rows = layout.table(path, tuple(named.values()), named['image_id'])
  return {
    name: (
      row.age(named['age']),
      row.text(named['sex']),
      row.text(named['localization']),
    )
    for name, row in layout.by_stem(rows).items()
  }


def _columns(path: pathlib.Path) -> dict[str, str]:
  """What the file calls each of `_NAMES`; the usual name if it has none."""
  with path.open(newline='', encoding='utf-8-sig', errors='replace') as file:
    first = file.readline()
  lines = csv.reader([first], delimiter='\t' if '\t' in first else ',')
  there = {name.strip() for name in next(lines, [])}
  return {
    usual: next((n for n in names if n in there), usual)
    for usual, names in _NAMES.items()
  }


@dataclasses.dataclass(frozen=True)
class Encoding:
  """How a run's network is told of patients; its training images decide.

  Attributes:
    missing_age: One of `MISSING_AGES`. 'median' adds the column that says that
      an age is missing. With 'drop' no image without an age is left in the
      data; where one is predicted, its age counts as the mean.
    age: Years that a missing age counts as.
    mean: Of the ages that the training images have.
    variance: Of the same, in years squared.
    count: How many there are.
  """

  missing_age: str
  age: float
  mean: float
  variance: float
  count: int

  @property
  def flag(self) -> bool:
    """Whether a column says that an age is missing."""
    return self.missing_age == 'median'

  def __call__(
    self, age: Sequence[float], sex: Sequence[str], site: Sequence[str]
  ) -> np.ndarray:
    """`encode` for this run, float32 [n, 21 or 22]."""
    return encode(age, sex, site, missing_age=self.age, flag=self.flag)

  def statistics(self) -> dict[str, np.ndarray]:
    """What the network's branch standardises ages with."""
    return {
      name: np.float32(getattr(self, name))
      for name in ('mean', 'variance', 'count')
    }

  def write(self, workdir: pathlib.Path) -> None:
    """Writes `metadata.json` into a run's folder."""
    write_json(workdir / FILE, dataclasses.asdict(self))


def columns(missing_age: str) -> int:
  """How many numbers a network is given of each patient.

  Raises:
    ValueError: It is none of `MISSING_AGES`.
  """
  if missing_age not in MISSING_AGES:
    raise ValueError(
      f'data.missing_age is {missing_age!r}; it must be one of '
      f'{", ".join(MISSING_AGES)}.'
    )
  return COLUMNS + (missing_age == 'median')


def fit(age: np.ndarray, missing_age: str, name: str) -> Encoding:
  """The encoding that training images of these ages decide.

  Args:
    age: Years of each training image, NaN where missing.
    missing_age: One of `MISSING_AGES`.
    name: Of the data set.

  Raises:
    ValueError: No image has an age.
  """
  known = np.asarray(age, np.float64)
  known = known[~np.isnan(known)]
  if not len(known):
    raise ValueError(
      f'{name}: none of {len(age)} training images has an age, which the '
      "network's metadata branch needs. Use data with ages, or a network "
      'without metadata (model.changes.metadata=0).'
    )
  mean = float(known.mean())
  filled = float(np.median(known)) if missing_age == 'median' else mean
  return Encoding(missing_age, filled, mean, float(known.var()), len(known))


def load(workdir: pathlib.Path) -> Encoding:
  """The encoding of a run that has started.

  Raises:
    FileNotFoundError: The run has none.
    ValueError: The file is not as `Encoding.write` leaves it.
  """
  path = pathlib.Path(workdir) / FILE
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: there is no such file. Training writes it where a network '
      'takes metadata; copy the whole folder of the run.'
    )
  try:
    content: Mapping = json.loads(path.read_text(encoding='utf-8'))
    return Encoding(**content)
  except (ValueError, TypeError) as error:
    wanted = ', '.join(f.name for f in dataclasses.fields(Encoding))
    raise ValueError(
      f'{path} is not a JSON object of {wanted}: {error}. Copy it from the '
      'run again.'
    ) from error
