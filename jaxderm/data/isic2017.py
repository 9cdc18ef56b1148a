"""ISIC 2017 challenge: 2,000 + 150 + 600 images (arXiv:1710.05006)."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from jaxderm.data import builder, layout, record

_LABELS = ('nevus', 'melanoma', 'seborrheic_keratosis')
_TRUTH = ('image_id', 'melanoma', 'seborrheic_keratosis')
_ABOUT = ('image_id', 'age_approximate', 'sex')
_SPLITS = {'train': 'Training', 'validation': 'Validation', 'test': 'Test_v2'}


class _Isic2017(builder.LesionBuilder, skip_registration=True):
  """What both parts share: the images, the split and patients' data."""

  LABELS = _LABELS
  PUBLISHED: ClassVar[dict[str, int]] = {
    'train': 2000,
    'validation': 150,
    'test': 600,
  }
  LICENCE = 'CC0 (ISIC archive).'
  HOMEPAGE = 'https://challenge.isic-archive.com/data/#2017'
  CITATION = (
    'Codella et al.: Skin lesion analysis toward melanoma detection: a '
    'challenge at ISBI 2017, hosted by ISIC. arXiv:1710.05006.'
  )
  HOW_TO_GET = (
    'From https://challenge.isic-archive.com/data/#2017 download Data, '
    'Part1_GroundTruth (masks) and Part3_GroundTruth (labels) of Training, '
    'Validation and Test_v2; unpack each archive into a folder of its name.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET
  PART: ClassVar[int] = 0

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    splits, tables, notes = {}, [], []
    for split, word in _SPLITS.items():
      name = f'ISIC-2017_{word}'
      if split != 'train' and not layout.find(root, f'{name}_Data'):
        notes.append(f'no {name}_Data: without the official {split}')
        continue
      folder = layout.need(root, f'{name}_Data', get=cls.HOW_TO_GET)
      masks = f'{name}_Part1_GroundTruth'
      truth = f'{name}_Part3_GroundTruth.csv'
      layout.need(root, masks if cls.PART == 1 else truth, get=cls.HOW_TO_GET)
      masks, truth = layout.find(root, masks), layout.find(root, truth)
      about = _about(root, folder, name)
      ages = layout.table(about, _ABOUT, 'image_id') if about else {}
      splits[split], more = layout.pair(
        layout.pictures(folder),
        masks and layout.pictures(masks, endings=('_segmentation',)),
        layout.table(truth, _TRUTH, 'image_id') if truth else ages or None,
        partial(_describe, ages=ages),
        need_masks=cls.PART == 1,
        need_rows=cls.PART == 3,
        name=split,
      )
      notes += more if cls.PART == 3 else ()
      tables += filter(None, (truth, about))
    return record.Listing(root, splits, _LABELS, tuple(tables), tuple(notes))


def _about(root: Path, folder: Path, name: str) -> Path | None:
  """Table of ages; the publisher has it in the archive of the images."""
  table = f'{name}_Data_metadata.csv'
  return layout.find(root, table) or layout.find(folder, table)


def _describe(row: layout.Row, ages: dict[str, layout.Row]) -> dict:
  fields = {}
  if 'melanoma' in row.values:
    melanoma = row.flag('melanoma')
    keratosis = row.flag('seborrheic_keratosis')
    if melanoma and keratosis:
      row.fail('seborrheic_keratosis', '0 where melanoma is 1')
    fields['label'] = 1 if melanoma else 2 if keratosis else 0
  if about := ages.get(row['image_id']):
    fields['age'] = about.age('age_approximate')
    fields['sex'] = about.text('sex')
  return fields


class Isic2017Part1(_Isic2017):
  """ISIC 2017 segmentation; labels too where Part 3's tables are there."""

  name = 'isic2017_part1'
  PART = 1


class Isic2017Part3(_Isic2017):
  """ISIC 2017 classification; masks too where Part 1's are there."""

  name = 'isic2017_part3'
  PART = 3
