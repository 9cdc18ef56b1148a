"""Reading the folders and tables that publishers ship, and pairing them."""

import csv
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxderm.data.record import Item

_PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')
_MISSING = ('', 'unknown', 'na', 'n/a', 'nan', 'none')


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table.

  Attributes:
    values: Column to text, without surrounding blanks.
    file: The table.
    line: Counted from 1, the header included.
  """

  values: Mapping[str, str]
  file: Path
  line: int

  def __getitem__(self, column: str) -> str:
    return self.values[column]

  def text(self, column: str) -> str:
    """The text; '' where there is no such column or it says unknown."""
    value = self.values.get(column, '')
    return '' if value.lower() in _MISSING else value

  def fail(self, column: str, expected: str) -> NoReturn:
    """Raises ValueError that names file, line and column."""
    raise ValueError(
      f'{self.file}:{self.line}: {column} is {self.values[column]!r}, expected '
      f'{expected}. Correct that line.'
    )

  def age(self, column: str) -> float:
    """Years; NaN where missing."""
    text = self.text(column)
    if not text:
      return math.nan
    try:
      age = float(text)
    except ValueError:
      age = -1.0
    if not 0 <= age <= 120:
      self.fail(column, 'an age in years from 0 to 120, or nothing')
    return age

  def choice(self, column: str, names: Mapping[str, int]) -> int:
    """The number that the text stands for."""
    if self[column] not in names:
      self.fail(column, f'one of {", ".join(names)}')
    return names[self[column]]

  def flag(self, column: str) -> bool:
    """Whether it says 1 rather than 0."""
    try:
      number = float(self[column])
    except ValueError:
      number = math.nan
    if number not in (0, 1):
      self.fail(column, '0 or 1')
    return number == 1

  def one_hot(self, columns: Sequence[str]) -> str:
    """The one column that is 1."""
    on = [column for column in columns if self.flag(column)]
    if len(on) != 1:
      raise ValueError(
        f'{self.file}:{self.line}: {len(on)} of the columns '
        f'{", ".join(columns)} are 1, expected exactly one. Correct that line.'
      )
    return on[0]


def find(root: Path, *names: str) -> Path | None:
  """The first of several files or folders that is there.

  Archives often unpack into a folder of their own name; what is in that
  folder is taken, too.
  """
  for name in names:
    folder = Path(name).stem
    for path in (root / name / name, root / folder / name, root / name):
      if path.exists():
        return path
  return None


def need(root: Path, *names: str, get: str) -> Path:
  """As `find`.

  Args:
    root: Where to look.
    *names: What to look for, the usual one first.
    get: Where the data are to be had, for the message.

  Raises:
    FileNotFoundError: None of them is there.
  """
  path = find(root, *names)
  if path is None:
    raise FileNotFoundError(
      f'{root}: has no {" or ".join(names)}. Give the folder that contains it '
      f'as manual_dir. {get}'
    )
  return path


def pictures(
  *folders: Path, endings: Sequence[str] = (''), skip: str = '_superpixels'
) -> dict[str, Path]:
  """Image files by id, which is the name without suffix and ending.

  Args:
    *folders: Where they lie, not deeper.
    endings: What may follow the id, such as '_segmentation'.
    skip: Names that end so are not images.

  Raises:
    ValueError: No image, or two of one id.
  """
  found: dict[str, Path] = {}
  for folder in folders:
    for path in sorted(folder.iterdir()):
      stem = path.stem
      if path.suffix.lower() not in _PICTURES or stem.startswith('.'):
        continue
      if skip and stem.endswith(skip):
        continue
      ending = next((e for e in endings if e and stem.endswith(e)), '')
      name = stem.removesuffix(ending)
      if name in found:
        raise ValueError(
          f'{path}: {found[name]} is of the same image, {name}. Remove one.'
        )
      found[name] = path
  if not found:
    raise ValueError(
      f'{" and ".join(map(str, folders))}: no image inside, expected files '
      f'ending in {", ".join(_PICTURES)} (not in folders of their own).'
    )
  return found


def table(
  path: Path,
  columns: Sequence[str],
  key: str,
  *,
  header: bool = True,
) -> dict[str, Row]:
  """Rows of a comma- or tab-separated file, by id.

  Args:
    path: The file.
    columns: Those that must be there; all of them, if there is no header.
    key: The one with the id.
    header: Whether the first line names the columns.

  Raises:
    ValueError: A column is missing, a line is short or an id comes twice.
  """
  found: dict[str, Row] = {}
  with path.open(newline='', encoding='utf-8-sig', errors='replace') as file:
    tabs = '\t' in file.readline()
    file.seek(0)
    lines = csv.reader(file, delimiter='\t' if tabs else ',')
    names = [n.strip() for n in next(lines, [])] if header else list(columns)
    if missing := [c for c in columns if c not in names]:
      raise ValueError(
        f'{path}:1: has no column {", ".join(missing)}; its columns are '
        f'{", ".join(names) or "none"}. Use the file as it was published.'
      )
    for values in lines:
      if not any(values):
        continue
      if len(values) != len(names):
        raise ValueError(
          f'{path}:{lines.line_num}: has {len(values)} values, expected '
          f'{len(names)} ({", ".join(names)}). Correct that line.'
        )
      texts = dict(zip(names, map(str.strip, values), strict=True))
      row = Row(texts, path, lines.line_num)
      if row[key] in found:
        raise ValueError(
          f'{path}:{row.line}: {key} {row[key]} is in line '
          f'{found[row[key]].line} already. Remove one of them.'
        )
      found[row[key]] = row
  return found


def by_stem(rows: Mapping[str, Row]) -> dict[str, Row]:
  """The rows by id without the suffix of an image file, if it is written.

  Raises:
    ValueError: Two rows are of one image.
  """
  found: dict[str, Row] = {}
  for name, row in rows.items():
    path = Path(name)
    stem = path.stem if path.suffix.lower() in _PICTURES else name
    if stem in found:
      raise ValueError(
        f'{row.file}:{row.line}: {name} is in line {found[stem].line} already. '
        'Remove one of them.'
      )
    found[stem] = row
  return found


def some(names: Collection[str]) -> str:
  """The first five names, and how many more there are."""
  shown = ', '.join(sorted(names)[:5])
  return f'{shown} and {len(names) - 5} more' if len(names) > 5 else shown


def check_none(names: Collection[str], what: str, todo: str) -> None:
  """Raises ValueError, naming them, if there are any.

  Args:
    names: Ids that should not be.
    what: What is wrong with them.
    todo: What the user can do.
  """
  if names:
    raise ValueError(f'{len(names)} {what}: {some(names)}. {todo}')


def pair(
  images: Mapping[str, Path],
  masks: Mapping[str, Path] | None = None,
  rows: Mapping[str, Row] | None = None,
  describe: Callable[[Row], Mapping[str, Any]] = lambda row: {},
  *,
  need_masks: bool = True,
  need_rows: bool = True,
  name: str = '',
) -> tuple[list[Item], list[str]]:
  """Joins images, masks and rows by id.

  A row without its image means a copy smaller than the published one, and is
  noted; everything else that does not match is an error.

  Args:
    images: By id.
    masks: By id; None if the data set has none.
    rows: By id; None if the data set has none.
    describe: Row to fields of `Item`.
    need_masks: Whether an image without mask is an error.
    need_rows: Whether an image without row is an error.
    name: Of the split, for messages.

  Returns:
    Items in the order of their ids, and notes.

  Raises:
    ValueError: Images, masks and rows do not match.
  """
  where = f'in {name} ' if name else ''
  notes = []
  if rows is not None:
    table = next((row.file for row in rows.values()), 'the table')
    if need_rows:
      check_none(
        images.keys() - rows.keys(),
        f'images {where}have no row in {table}',
        'Add their rows or remove the images.',
      )
    if absent := rows.keys() - images.keys():
      notes.append(
        f'{len(absent)} rows of {table} have no image ({some(absent)}): left '
        'out'
      )
  if masks is not None:
    known = images.keys() | (rows.keys() if rows and need_rows else set())
    check_none(
      masks.keys() - known,
      f'masks {where}have no image',
      'Add the images or remove the masks.',
    )
    if need_masks:
      check_none(
        images.keys() - masks.keys(),
        f'images {where}have no mask',
        'Add the masks or remove the images.',
      )
  items = [
    Item(
      image_id=i,
      image=images[i],
      mask=(masks or {}).get(i),
      **(describe(rows[i]) if rows and i in rows else {}),
    )
    for i in sorted(images)
  ]
  return items, notes
