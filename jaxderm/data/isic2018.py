"""ISIC 2018 challenge, Task 1 and Task 3 (arXiv:1902.03368)."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from jaxderm.data import builder, ham10000, layout, record

_SPLITS = {'train': 'Training', 'validation': 'Validation', 'test': 'Test'}
_HOMEPAGE = 'https://challenge.isic-archive.com/data/#2018'
_CITATION = (
  'Codella et al.: Skin lesion analysis toward melanoma detection 2018: a '
  'challenge hosted by ISIC. arXiv:1902.03368.'
)


class Isic2018Task1(builder.LesionBuilder):
  """ISIC 2018 segmentation; it has no labels."""

  name = 'isic2018_task1'
  PUBLISHED: ClassVar[dict[str, int]] = {
    'train': 2594,
    'validation': 100,
    'test': 1000,
  }
  LICENCE = 'CC0 or CC BY-NC by image, as the challenge page says.'
  HOMEPAGE = _HOMEPAGE
  CITATION = _CITATION
  HOW_TO_GET = (
    'From https://challenge.isic-archive.com/data/#2018 download the Task 1-2 '
    'Input and the Task 1 GroundTruth of Training and, if you like, of '
    'Validation and Test; unpack each archive into a folder of its name.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    splits, notes = {}, []
    for split, word in _SPLITS.items():
      images = f'ISIC2018_Task1-2_{word}_Input'
      masks = f'ISIC2018_Task1_{word}_GroundTruth'
      if split != 'train' and not layout.find(root, images, masks):
        notes.append(f'no {images}: without the official {split}')
        continue
      images = layout.need(root, images, get=cls.HOW_TO_GET)
      masks = layout.need(root, masks, get=cls.HOW_TO_GET)
      splits[split], _ = layout.pair(
        layout.pictures(images),
        layout.pictures(masks, endings=('_segmentation',)),
        name=split,
      )
    return record.Listing(root, splits, (), notes=tuple(notes))


class Isic2018Task3(builder.LesionBuilder):
  """ISIC 2018 classification: HAM10000 and the official test set."""

  name = 'isic2018_task3'
  LABELS = ham10000.LABELS
  PUBLISHED: ClassVar[dict[str, int]] = {
    'train': 10015,
    'validation': 193,
    'test': 1512,
  }
  LICENCE = 'CC BY-NC 4.0 (doi:10.7910/DVN/DBW86T).'
  HOMEPAGE = _HOMEPAGE
  CITATION = f'{_CITATION} {ham10000.Ham10000.CITATION}'
  HOW_TO_GET = (
    'From https://challenge.isic-archive.com/data/#2018 download the Task 3 '
    'Input and GroundTruth of Training and, if you like, of Validation and '
    'Test, and the Training Lesion Groupings; unpack each archive into a '
    'folder of its name.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    splits, tables, notes = {}, [], []
    for split, word in _SPLITS.items():
      name = f'ISIC2018_Task3_{word}'
      folder = layout.find(root, f'{name}_Input', f'{name}_Images')
      if split != 'train' and not folder:
        notes.append(f'no {name}_Input: without the official {split}')
        continue
      folder = folder or layout.need(root, f'{name}_Input', get=cls.HOW_TO_GET)
      items, more, table = ham10000.one_hot_or_metadata(
        root, folder, f'{name}_GroundTruth', cls.HOW_TO_GET
      )
      splits[split] = items
      tables.append(table)
      notes += more
    # Without it, photographs of one lesion would end up on both sides.
    groups = layout.need(
      root, 'ISIC2018_Task3_Training_LesionGroupings.csv', get=cls.HOW_TO_GET
    )
    splits['train'] = _with_lesions(splits['train'], groups)
    return record.Listing(
      root, splits, ham10000.LABELS, (*tables, groups), tuple(notes)
    )


def _with_lesions(items: list[record.Item], path: Path) -> list[record.Item]:
  columns = ('image', 'lesion_id', 'diagnosis_confirm_type')
  rows = layout.table(path, columns, 'image')
  layout.check_none(
    {item.image_id for item in items} - rows.keys(),
    f'images in train have no row in {path}',
    'Use the file as it was published.',
  )
  return [
    dataclasses.replace(
      item,
      lesion_id=rows[item.image_id]['lesion_id'],
      diagnosis_method=rows[item.image_id].text('diagnosis_confirm_type'),
    )
    for item in items
  ]
