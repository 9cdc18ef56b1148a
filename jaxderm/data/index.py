"""What is known of every record of a data set without decoding a picture."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

OFFICIAL = ('train', 'validation', 'test')
_BITS = 256
_TEXT = ('lesion_id', 'sha256', 'sex', 'site', 'diagnosis_method')


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """Columns over all N records of a built data set, part by part.

  Parts come in the order of `OFFICIAL`, records in that of storage.

  Attributes:
    name: Name of the data set.
    labels: Names of the classes.
    image_id: Unique names of the images, str `[N]`.
    lesion_id: Lesions they show, str `[N]`; the image's own name where the
      publisher has no lesions.
    label: Indices into `labels`, -1 where there is none, int64 `[N]`.
    official: The publisher's part, 'train', 'validation' or 'test', str `[N]`;
      '' throughout where the publisher has none.
    sha256: Hashes of the source files, str `[N]`, '' if unknown.
    phash: Perceptual hashes (`leaks.perceptual_hash`), bool `[N, 256]`; a row
      without a True is a picture without a hash and resembles no other.
    has_mask: bool `[N]`.
    age: Years, float32 `[N]`, NaN if unknown.
    sex: str `[N]`, '' if unknown.
    site: Place on the body, str `[N]`, '' if unknown.
    diagnosis_method: How the publisher knows the label, str `[N]`, '' if
      unknown.
  """

  name: str
  labels: tuple[str, ...]
  image_id: np.ndarray
  lesion_id: np.ndarray
  label: np.ndarray
  official: np.ndarray
  sha256: np.ndarray
  phash: np.ndarray
  has_mask: np.ndarray
  age: np.ndarray
  sex: np.ndarray
  site: np.ndarray
  diagnosis_method: np.ndarray

  def __post_init__(self):
    for field in dataclasses.fields(self)[2:]:
      shape = np.shape(getattr(self, field.name))
      wanted = (len(self), _BITS) if field.name == 'phash' else (len(self),)
      if shape != wanted:
        raise ValueError(
          f'{self.name}: column {field.name!r} has shape {list(shape)}, but '
          f'{len(self)} image ids ask for {list(wanted)}.'
        )
    repeated = _repeated(self.image_id)
    if repeated:
      raise ValueError(
        f'{self.name}: {len(repeated)} image ids occur more than once, first '
        f'{", ".join(repeated[:5])}. Names of images must be unique.'
      )

  def __len__(self) -> int:
    return len(self.image_id)

  @functools.cached_property
  def hash(self) -> str:
    """SHA-256 of the sorted (image_id, sha256, label, lesion_id), in hex.

    The order in which records are stored does not matter. The same number as
    `build.Dataset.hash`.
    """
    columns = (self.image_id, self.sha256, self.label, self.lesion_id)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    text = json.dumps(sorted(map(list, rows)))
    return hashlib.sha256(text.encode()).hexdigest()

  @functools.cached_property
  def _row_of(self) -> dict[str, int]:
    return {str(i): row for row, i in enumerate(self.image_id)}

  def rows(self, image_ids: Sequence[str]) -> np.ndarray:
    """Rows of the images named, int64 `[len(image_ids)]`, in that order.

    Raises:
      ValueError: If some are not in this data set.
    """
    absent = [i for i in image_ids if i not in self._row_of]
    if absent:
      raise ValueError(
        f'{len(absent)} of {len(image_ids)} image ids are not in the data set '
        f'{self.name} of {len(self)} images, first {", ".join(absent[:5])}. '
        'Build the data set that they come from, or make a new split.'
      )
    return np.array([self._row_of[i] for i in image_ids], np.int64)

  def take(self, rows: np.ndarray) -> 'Index':
    """The records at `rows`, in that order."""
    columns = {
      field.name: getattr(self, field.name)[rows]
      for field in dataclasses.fields(self)[2:]
    }
    return dataclasses.replace(self, **columns)


def from_columns(
  name: str,
  labels: Sequence[str],
  columns_by_split: Mapping[str, Mapping[str, Sequence]],
) -> Index:
  """An index of the columns that a built data set stores.

  Args:
    name: Name of the data set.
    labels: Names of the classes.
    columns_by_split: Columns of each stored part, by the names of the record's
      features. The index has the parts in the order of `OFFICIAL`. `image_id`
      and `label` are needed, the others may be absent. Texts are str or bytes;
      `phash` is 64 hexadecimal digits, or bits `[N, 256]`. A part 'train' alone
      means that the publisher has no split.

  Raises:
    ValueError: If a part or a column is not as it should be.
  """
  unknown = set(columns_by_split) - set(OFFICIAL)
  if unknown or not columns_by_split:
    raise ValueError(
      f'{name}: parts are named {", ".join(OFFICIAL)}, got '
      f'{sorted(columns_by_split) or "none"}.'
    )
  alone = set(columns_by_split) == {'train'}
  parts = [
    _part(f'{name}/{split}', columns_by_split[split], '' if alone else split)
    for split in OFFICIAL
    if split in columns_by_split
  ]
  joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
  index = Index(name=name, labels=tuple(labels), **joined)
  wrong = sorted(set(index.label[index.label >= len(labels)].tolist()))
  if wrong or (len(index) and index.label.min() < -1):
    raise ValueError(
      f'{name}: labels go from -1 (none) to {len(labels) - 1} '
      f'({", ".join(labels)}), got {wrong or int(index.label.min())}.'
    )
  return index


def _part(
  where: str, columns: Mapping[str, Sequence], official: str
) -> dict[str, np.ndarray]:
  for key in ('image_id', 'label'):
    if key not in columns:
      raise ValueError(f'{where}: column {key!r} is missing.')
  ids = _texts(columns['image_id'])
  n = len(ids)
  texts = {key: _texts(columns.get(key, [''] * n)) for key in _TEXT}
  if 'lesion_id' not in columns:
    texts['lesion_id'] = ids
  return {
    'image_id': ids,
    'label': np.asarray(columns['label'], np.int64),
    'official': np.array([official] * n, np.str_),
    'phash': _bits(where, columns.get('phash', [''] * n)),
    'has_mask': np.asarray(columns.get('has_mask', [0] * n)).astype(bool),
    'age': np.asarray(columns.get('age', [np.nan] * n), np.float32),
    **texts,
  }


def _texts(column: Sequence) -> np.ndarray:
  return np.array(
    [v.decode() if isinstance(v, bytes) else str(v) for v in column], np.str_
  )


def _bits(where: str, column: Sequence) -> np.ndarray:
  if isinstance(column, np.ndarray) and column.dtype == bool:
    return column
  bits = np.zeros((len(column), _BITS), bool)
  for row, text in enumerate(_texts(column)):
    if not text:
      continue
    try:
      packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
      packed = np.zeros(0, np.uint8)
    if packed.size * 8 != _BITS:
      raise ValueError(
        f'{where}: a perceptual hash is {_BITS // 4} hexadecimal digits, row '
        f'{row} has {text[:80]!r}. Build the data set again.'
      )
    bits[row] = np.unpackbits(packed).astype(bool)
  return bits


def _repeated(values: np.ndarray) -> list[str]:
  unique, counts = np.unique(values, return_counts=True)
  return [str(v) for v in unique[counts > 1]]
