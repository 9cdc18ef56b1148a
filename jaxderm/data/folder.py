"""A folder of one's own images, with masks, labels or both."""

import dataclasses
from pathlib import Path

from jaxderm.data import builder, layout, record

_ENDINGS = ('_segmentation', '_Segmentation', '_mask', '_lesion')
_SPLITS = ('train', 'validation', 'test')
_KNOWN = (
  'image_id', 'image', 'label', 'lesion_id', 'age', 'sex', 'site',
  'diagnosis_method', 'split',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
  """Where things lie; names within manual_dir, or whole paths.

  Attributes:
    images: Folder of images.
    masks: Folder of masks named as the images, or ending in _segmentation,
      _mask or _lesion.
    labels: Table with columns image_id and label and, if you like, lesion_id,
      age, sex, site, diagnosis_method, split (train, validation or test).
  """

  images: str = 'images'
  masks: str = 'masks'
  labels: str = 'labels.csv'


class Folder(builder.LesionBuilder):
  """A user's own images with masks, labels or both."""

  name = 'folder'
  OPTIONS = Options
  LICENCE = 'Your own images: you know.'
  HOW_TO_GET = (
    'Put the images into manual_dir/images, masks into manual_dir/masks and '
    'labels into manual_dir/labels.csv (columns image_id, label, and, if you '
    'like, lesion_id, age, sex, site, diagnosis_method, split), or say where '
    'they are with the options images, masks and labels.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

  @classmethod
  def listing(
    cls, root: Path, options: Options | None = None
  ) -> record.Listing:
    options = options or Options()
    images = layout.pictures(
      layout.need(root, options.images, get=cls.HOW_TO_GET), skip=''
    )
    masks = _optional(root, 'masks', options)
    table = _optional(root, 'labels', options)
    if not masks and not table:
      raise FileNotFoundError(
        f'{root}: has neither {options.masks} nor {options.labels}, expected '
        f'at least one. {cls.HOW_TO_GET}'
      )
    rows, notes = _rows(table) if table else (None, [])
    if rows is not None:
      layout.check_none(
        rows.keys() - images.keys(),
        f'rows of {table} have no image in {root / options.images}',
        'Add the images or remove the rows.',
      )
    labels = tuple(sorted({r['label'] for r in (rows or {}).values()}))
    items, _ = layout.pair(
      images,
      masks and layout.pictures(masks, endings=_ENDINGS, skip=''),
      rows,
      lambda row: _describe(row, labels),
    )
    return record.Listing(
      root,
      _split(items, rows or {}),
      labels,
      (table,) if table else (),
      tuple(notes),
    )


def _optional(root: Path, option: str, options: Options) -> Path | None:
  """A file or folder that may be absent unless the user named it."""
  name = getattr(options, option)
  path = root / name
  if path.exists():
    return path
  if name != getattr(Options, option):
    raise FileNotFoundError(
      f'{path}: is not there; the option {option} names it. Correct the '
      'option, or leave it out if there is none.'
    )
  return None


def _rows(path: Path) -> tuple[dict[str, layout.Row], list[str]]:
  """Rows by id, which may be written with the file's suffix, and notes."""
  with path.open(encoding='utf-8-sig', errors='replace') as file:
    header = file.readline()
  key = 'image_id' if 'image_id' in header else 'image'
  rows = layout.table(path, (key, 'label'), key)
  if not rows:
    raise ValueError(f'{path}: has no rows, expected one for each image.')
  first = next(iter(rows.values()))
  unused = [name for name in first.values if name not in _KNOWN]
  notes = [f'{path}: columns not used: {", ".join(unused)}'] if unused else []
  for row in rows.values():
    if not row['label']:
      row.fail('label', 'the name of a class')
    if row.values.get('split', 'train') not in _SPLITS:
      row.fail('split', f'one of {", ".join(_SPLITS)}')
  return layout.by_stem(rows), notes


def _describe(row: layout.Row, labels: tuple[str, ...]) -> dict:
  return {
    'label': labels.index(row['label']),
    'age': row.age('age'),
    **{
      name: row.text(name)
      for name in ('lesion_id', 'sex', 'site', 'diagnosis_method')
    },
  }


def _split(
  items: list[record.Item], rows: dict[str, layout.Row]
) -> dict[str, list[record.Item]]:
  """Items by the column 'split'; all in 'train' without it."""
  found = {split: [] for split in _SPLITS}
  for item in items:
    row = rows.get(item.image_id)
    found[row.values.get('split', 'train') if row else 'train'].append(item)
  return {split: some for split, some in found.items() if some}
