"""ISBI 2016 challenge: 900 + 379 images (arXiv:1605.01397)."""

from pathlib import Path
from typing import ClassVar

from jaxderm.data import builder, layout, record

_LABELS = ('benign', 'malignant')
_WORDS = {'benign': 0, 'malignant': 1}
_DIGITS = {'0': 0, '1': 1, '0.0': 0, '1.0': 1}


class _Isic2016(builder.LesionBuilder, skip_registration=True):
  """What both parts share: the images, the split and the annotators."""

  LABELS = _LABELS
  PUBLISHED: ClassVar[dict[str, int]] = {'train': 900, 'test': 379}
  LICENCE = 'CC0 (ISIC archive).'
  HOMEPAGE = 'https://challenge.isic-archive.com/data/#2016'
  CITATION = (
    'Gutman et al.: Skin lesion analysis toward melanoma detection: a '
    'challenge at ISBI 2016, hosted by ISIC. arXiv:1605.01397.'
  )
  HOW_TO_GET = (
    'From https://challenge.isic-archive.com/data/#2016 download Training and '
    'Test Data and GroundTruth of Task 1 (masks) and Task 3 (labels); unpack '
    'each archive into a folder of its name.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
  PART: ClassVar[int] = 0

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    splits, tables, notes = {}, [], []
    for split, word, names in (
      ('train', 'Training', _WORDS),
      ('test', 'Test', _DIGITS),
    ):
      prefix = [f'ISBI2016_ISIC_Part{part}_{word}' for part in (1, 3)]
      own, other = prefix if cls.PART == 1 else prefix[::-1]
      folder = layout.find(root, f'{own}_Data', f'{other}_Data')
      if folder is None and split == 'test':
        notes.append(f'no {own}_Data: without the official test')
        continue
      folder = layout.need(
        root, f'{own}_Data', f'{other}_Data', get=cls.HOW_TO_GET
      )
      masks, table = _truth(root, prefix, cls.PART, cls.HOW_TO_GET)
      images = layout.pictures(folder)
      if cls.PART == 1 and folder.name == f'{other}_Data':
        bare = images.keys() - masks.keys()
        images = {i: p for i, p in images.items() if i in masks}
        notes.append(
          f'{split}: images taken from {folder.name}; {len(bare)} of them have '
          'no mask and are left out'
        )
      rows = table and layout.table(
        table, ('image_id', 'label'), 'image_id', header=False
      )
      splits[split], more = layout.pair(
        images,
        masks,
        rows,
        lambda row, names=names: {'label': row.choice('label', names)},
        need_masks=cls.PART == 1,
        need_rows=cls.PART == 3,
        name=split,
      )
      notes += more if cls.PART == 3 else ()
      tables += [table] if table else ()
    return record.Listing(root, splits, _LABELS, tuple(tables), tuple(notes))


def _truth(root: Path, prefix: list[str], part: int, get: str):
  """Masks by id and the table, either None if it is absent and not needed."""
  mask_name = f'{prefix[0]}_GroundTruth'
  table_name = f'{prefix[1]}_GroundTruth.csv'
  if part == 1:
    layout.need(root, mask_name, get=get)
  else:
    layout.need(root, table_name, get=get)
  folder = layout.find(root, mask_name)
  masks = folder and layout.pictures(folder, endings=('_Segmentation',))
  return masks, layout.find(root, table_name)


class Isic2016Part1(_Isic2016):
  """ISBI 2016 segmentation; labels too where Part 3's tables are there."""

  name = 'isic2016_part1'
  PART = 1


class Isic2016Part3(_Isic2016):
  """ISBI 2016 benign or malignant; masks too where Part 1's are there."""

  name = 'isic2016_part3'
  PART = 3
