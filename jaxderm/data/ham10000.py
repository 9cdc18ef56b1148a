"""HAM10000: 10,015 images, 7,470 lesions (doi:10.1038/sdata.2018.161)."""

from pathlib import Path
from typing import ClassVar

from jaxderm.data import builder, layout, record

LABELS = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
NUMBERS = {name: i for i, name in enumerate(LABELS)}
_COLUMNS = (
  'image_id',
  'lesion_id',
  'dx',
  'dx_type',
  'age',
  'sex',
  'localization',
)


class Ham10000(builder.LesionBuilder):
  """HAM10000 with lesion ids, and its official test set where it is there."""

  name = 'ham10000'
  LABELS = LABELS
  PUBLISHED: ClassVar[dict[str, int]] = {'train': 10015, 'test': 1511}
  LICENCE = 'CC BY-NC 4.0 (doi:10.7910/DVN/DBW86T).'
  HOMEPAGE = 'https://doi.org/10.7910/DVN/DBW86T'
  CITATION = (
    'Tschandl, Rosendahl, Kittler: The HAM10000 dataset, a large collection of '
    'multi-source dermatoscopic images of common pigmented skin lesions. '
    'Scientific Data 5, 2018.'
  )
  HOW_TO_GET = (
    'From https://doi.org/10.7910/DVN/DBW86T download HAM10000_metadata and '
    'both HAM10000_images_part archives, unpack each into a folder of its '
    'name, and, if you like, HAM10000_segmentations_lesion_tschandl and '
    'ISIC2018_Task3_Test_Images with ISIC2018_Task3_Test_GroundTruth.csv.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = HOW_TO_GET

  @classmethod
  def listing(cls, root: Path, options: None = None) -> record.Listing:
    get = cls.HOW_TO_GET
    table = layout.need(
      root,
      'HAM10000_metadata.csv',
      'HAM10000_metadata',
      'HAM10000_metadata.tab',
      get=get,
    )
    folders = [
      layout.need(
        root, f'HAM10000_images_part_{i}', f'HAM10000_images_part{i}', get=get
      )
      for i in (1, 2)
    ]
    masks = layout.find(root, 'HAM10000_segmentations_lesion_tschandl')
    items, notes = layout.pair(
      layout.pictures(*folders),
      masks and layout.masks(masks),
      layout.table(table, _COLUMNS, 'image_id'),
      describe,
      name='train',
    )
    splits, tables = {'train': items}, [table]
    if not masks:
      notes.append('no HAM10000_segmentations_lesion_tschandl: without masks')
    test = layout.find(root, *_TEST)
    if test is None:
      notes.append('no ISIC2018_Task3_Test_Images: without the official test')
    else:
      splits['test'], more, truth = one_hot_or_metadata(
        root, test, 'ISIC2018_Task3_Test_GroundTruth', get
      )
      tables.append(truth)
      notes += more
    return record.Listing(root, splits, LABELS, tuple(tables), tuple(notes))


_TEST = ('ISIC2018_Task3_Test_Images', 'ISIC2018_Task3_Test_Input')
_ONE_HOT = tuple(name.upper() for name in LABELS)


def one_hot_or_metadata(
  root: Path, images: Path, truth: str, get: str
) -> tuple[list[record.Item], list[str], Path]:
  """A split whose labels come as the challenge or as Dataverse has them.

  Args:
    root: Folder that the user gave.
    images: Folder of the images.
    truth: Name of the table, without suffix.
    get: Where the data are to be had.

  Returns:
    Items, notes and the table's path.
  """
  table = layout.need(root, f'{truth}.csv', truth, f'{truth}.tab', get=get)
  with table.open(encoding='utf-8-sig', errors='replace') as file:
    dataverse = 'dx_type' in file.readline()
  rows = (
    layout.table(table, _COLUMNS, 'image_id')
    if dataverse
    else layout.table(table, ('image', *_ONE_HOT), 'image')
  )
  items, notes = layout.pair(
    layout.pictures(images),
    rows=rows,
    describe=describe if dataverse else describe_one_hot,
    name=images.name,
  )
  return items, notes, table


def describe(row: layout.Row) -> dict:
  """Fields of `Item` from a row of HAM10000_metadata."""
  return {
    'label': row.choice('dx', NUMBERS),
    'lesion_id': row['lesion_id'],
    'age': row.age('age'),
    'sex': row.text('sex'),
    'site': row.text('localization'),
    'diagnosis_method': row.text('dx_type'),
  }


def describe_one_hot(row: layout.Row) -> dict:
  """Fields of `Item` from a row of the challenge's ground truth."""
  return {'label': NUMBERS[row.one_hot(_ONE_HOT).lower()]}
