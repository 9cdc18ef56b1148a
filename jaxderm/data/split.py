"""Names of the images of each part of a data set, and their file."""

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable

from jaxderm.data import papers
from jaxderm.data.index import Index
from jaxderm.data.papers import PARTS


@dataclasses.dataclass(frozen=True)
class Split:
  """Names of the images of each part, sorted.

  Attributes:
    mode: How it was made: 'grouped', 'official', 'official_clean', 'deploy' or
      the name of a paper. Where the paper copied images before it split them,
      a name is there once for each copy.
    seed: Seed of the draw.
    folds: Number of folds.
    fold: Which of them this is.
    train: Image ids to train on.
    validation: Image ids to choose the best epoch with.
    test: Image ids to score.
    data_hash: `Index.hash` of the data that was split.
    note: What is worth knowing about it, '' if nothing.
  """

  mode: str
  seed: int
  folds: int
  fold: int
  train: tuple[str, ...]
  validation: tuple[str, ...]
  test: tuple[str, ...]
  data_hash: str
  note: str = ''

  def images(self, part: str) -> tuple[str, ...]:
    """The names of a part, each once."""
    return tuple(dict.fromkeys(getattr(self, part)))

  def without(self, image_ids: Iterable[str], what: str) -> 'Split':
    """The split less some images; its note counts those that were in it.

    Args:
      image_ids: The images to leave out.
      what: Why, for the note: 'unknown age'.
    """
    away = set(image_ids)
    gone = {i for part in PARTS for i in self.images(part)} & away
    if not gone:
      return self
    kept = {
      part: tuple(i for i in getattr(self, part) if i not in away)
      for part in PARTS
    }
    note = f'{self.note} Left out {len(gone):,} images of {what}.'.strip()
    return dataclasses.replace(self, **kept, note=note)

  def write(self, path: str | os.PathLike) -> None:
    """Writes JSON, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
      with os.fdopen(handle, 'w', encoding='utf-8') as file:
        json.dump(dataclasses.asdict(self), file, indent=1)
        file.write('\n')
      # mkstemp lets nobody else read; a split is no secret.
      os.chmod(temporary, 0o644)
      os.replace(temporary, path)
    except BaseException:
      os.unlink(temporary)
      raise

  @classmethod
  def read(cls, path: str | os.PathLike, index: Index) -> 'Split':
    """Reads a split and checks that it is one of `index`.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is not a split, if an image is in it twice or not in the
        data, or if the data changed since it was made.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise FileNotFoundError(f'No split at {path}; folds.make makes one.')
    try:
      content = json.loads(path.read_text(encoding='utf-8'))
      split = cls(**content | {part: _names(content[part]) for part in PARTS})
    except (ValueError, TypeError, KeyError) as error:
      wanted = ', '.join(field.name for field in dataclasses.fields(cls))
      raise ValueError(
        f'{path} is not a split, a JSON object of {wanted}: {error!r}. Delete '
        'it and make the split again.'
      ) from error
    try:
      split.verify(index)
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error
    return split

  def verify(self, index: Index) -> None:
    """Raises a ValueError unless this is a split of the data in `index`."""
    seen: dict[str, str] = {}
    copied = papers.copies(self.mode, index.name)
    for part in PARTS:
      index.rows(getattr(self, part))
      if part == 'test' and papers.validation_is_test(self.mode):
        seen = {i: p for i, p in seen.items() if p != 'validation'}
      if copied and part == 'validation':
        continue  # copies of one image lie on both sides
      for image_id in self.images(part) if copied else getattr(self, part):
        if image_id in seen:
          raise ValueError(
            f'image {image_id} is in the split twice, in {seen[image_id]} and '
            f'in {part}. Make the split again.'
          )
        seen[image_id] = part
    if self.data_hash != index.hash:
      raise ValueError(
        f'the split was made for other data (hash {self.data_hash[:12]}) than '
        f'{index.name} holds now (hash {index.hash[:12]}): images, labels or '
        'lesions changed. Make the split again, or build the data as it was.'
      )


def read(path: str | os.PathLike, index: Index) -> Split:
  """`Split.read`."""
  return Split.read(path, index)


def _names(value) -> tuple[str, ...]:
  if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
    raise TypeError(f'a part is a list of names of images, got {value!r:.80}')
  return tuple(value)
