"""Finding the files that publishers ship, and pairing them with their rows.

What reads the tables is in `tables`, and is reached through this module too.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxderm.data.record import SUFFIXES, Item
from jaxderm.data.tables import Row, table

__all__ = [
  'Row',
  'by_stem',
  'check_none',
  'find',
  'masks',
  'need',
  'pair',
  'pictures',
  'some',
  'table',
]


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
  *folders: Path,
  endings: Sequence[str] = (''),
  skip: str | tuple[str, ...] = '_superpixels',
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
      if path.suffix.lower() not in SUFFIXES or stem.startswith('.'):
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
      f'ending in {", ".join(SUFFIXES)} (not in folders of their own).'
    )
  return found


def masks(folder: Path) -> dict[str, Path]:
  """Masks by id, in a folder of a publisher or of `--mode=predict`.

  The latter has NAME_mask.png, and NAME_overlay.png beside it.

  Raises:
    ValueError: No mask, or two of one id.
  """
  return pictures(
    folder,
    endings=('_segmentation', '_mask'),
    skip=('_superpixels', '_overlay'),
  )


def by_stem(rows: Mapping[str, Row]) -> dict[str, Row]:
  """The rows by id without the suffix of an image file, if it is written.

  Raises:
    ValueError: Two rows are of one image.
  """
  found: dict[str, Row] = {}
  for name, row in rows.items():
    path = Path(name)
    stem = path.stem if path.suffix.lower() in SUFFIXES else name
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
