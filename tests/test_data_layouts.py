"""Builders read what publishers ship, pixel for pixel."""

import hashlib
import sys

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import real_data
from PIL import Image
from publishers import (
  DATAVERSE,
  ONE_HOT,
  SIZE,
  ham10000,
  isic2016,
  isic2017,
  isic2018_task3,
  mask,
  own,
  ph2,
  picture,
  write,
)

from jaxderm.data import build, leaks, record


def open_(name, place, **options):
  return build.open_or_build(name, place[0], place[1], **options)


def by_id(dataset, split='train'):
  return {r['image_id']: r for r in dataset.sources[split]}


def test_ph2(place):
  ph2(place[0])
  folder = place[0] / 'PH2Dataset/PH2 Dataset images/IMD010'
  shown = folder / 'IMD010_Dermoscopic_Image/IMD010.bmp'
  drawn = folder / 'IMD010_lesion/IMD010_lesion.bmp'
  Image.open(drawn).convert('RGB').save(drawn)  # one published mask is RGB
  dataset = open_('ph2', place)
  assert dataset.labels == ('common_nevus', 'atypical_nevus', 'melanoma')
  assert dataset.path.parent == place[1]
  records = by_id(dataset)
  assert [records[i]['label'] for i in sorted(records)] == [0, 1, 2]
  assert records['IMD400']['diagnosis_method'] == 'histopathology'
  one = records['IMD010']
  pixels = cv2.imread(str(shown))[..., ::-1]
  np.testing.assert_array_equal(one['image'], pixels)
  np.testing.assert_array_equal(one['mask'][4:12, 6:20], 255)
  assert one['mask'].sum() == 8 * 14 * 255 and one['mask'].shape == (*SIZE, 1)
  assert one['sha256'] == hashlib.sha256(shown.read_bytes()).hexdigest()
  bits = np.unpackbits(np.frombuffer(bytes.fromhex(one['phash']), np.uint8))
  np.testing.assert_array_equal(bits, leaks.perceptual_hash(pixels))
  assert (one['has_mask'], one['lesion_id'], one['sex']) == (1, 'IMD010', '')
  assert np.isnan(one['age'])
  skip = {'image': tfds.decode.SkipDecoding()}
  raw = tfds.builder_from_directory(dataset.path).as_data_source(
    'train', decoders=skip
  )
  assert raw[0]['image'].startswith(b'\x89PNG')
  assert '197 fewer than the 200 published' in dataset.report()
  inside = build.open_or_build('ph2', place[0] / 'PH2Dataset', place[1])
  assert inside.path == dataset.path


def test_isic2016(place):
  isic2016(place[0])
  masks = open_('isic2016_part1', place)
  assert sorted(by_id(masks)) == ['ISIC_0', 'ISIC_1']
  assert sorted(by_id(masks, 'test')) == ['ISIC_7']
  assert '1 of them have no mask and are left out' in masks.report()
  labels = open_('isic2016_part3', place)
  found = {i: (r['label'], r['has_mask']) for i, r in by_id(labels).items()}
  assert found == {'ISIC_0': (0, 1), 'ISIC_1': (1, 1), 'ISIC_2': (0, 0)}
  found = [r['label'] for r in labels.sources['test']]
  assert found == [1, 0]
  assert by_id(labels)['ISIC_2']['mask'].tolist() == [[[0]]]
  file = place[0] / 'ISBI2016_ISIC_Part3_Training_Data/ISIC_0.jpg'
  raw = tfds.builder_from_directory(labels.path).as_data_source(
    'train', decoders={'image': tfds.decode.SkipDecoding()}
  )
  assert raw[0]['image'] == file.read_bytes()  # not compressed again


@pytest.mark.parametrize('part', [1, 3])
def test_isic2017(place, part):
  isic2017(place[0])
  dataset = open_(f'isic2017_part{part}', place)
  assert dataset.labels == ('nevus', 'melanoma', 'seborrheic_keratosis')
  sizes = {split: len(source) for split, source in dataset.sources.items()}
  assert sizes == {'train': 3, 'validation': 1, 'test': 2}
  records = by_id(dataset)
  assert [records[f'ISIC_{k}']['label'] for k in range(3)] == [0, 1, 2]
  assert [records[f'ISIC_{k}']['sex'] for k in range(3)] == [
    'female',
    '',
    'male',
  ]
  assert records['ISIC_0']['age'] == 55 and np.isnan(records['ISIC_1']['age'])
  assert all(r['has_mask'] == 1 for r in records.values())


def test_isic2017_segmentation_without_labels(place):
  isic2017(place[0])
  for table in place[0].glob('*_Part3_*.csv'):
    table.unlink()
  records = by_id(open_('isic2017_part1', place))
  assert [r['label'] for r in records.values()] == [-1, -1, -1]
  assert records['ISIC_0']['age'] == 55
  with pytest.raises(FileNotFoundError, match='Part3_GroundTruth'):
    open_('isic2017_part3', place)


def test_isic2018_task1(place):
  for word, n in (('Training', 3), ('Validation', 1), ('Test', 2)):
    for k in range(n):
      i = f'ISIC_{word}{k}'
      picture(place[0] / f'ISIC2018_Task1-2_{word}_Input/{i}.jpg', k)
      truth = f'ISIC2018_Task1_{word}_GroundTruth/{i}_segmentation.png'
      mask(place[0] / truth)
  dataset = open_('isic2018_task1', place)
  assert [len(s) for s in dataset.sources.values()] == [3, 1, 2]
  assert dataset.labels == ()
  assert dataset.sources['test'][1]['label'] == -1


def test_isic2018_task3(place):
  isic2018_task3(place[0])
  dataset = open_('isic2018_task3', place)
  names = [dataset.labels[r['label']] for r in dataset.sources['train']]
  assert names == ['mel', 'nv', 'bcc']
  lesions = [r['lesion_id'] for r in dataset.sources['train']]
  assert lesions == ['HAM_1', 'HAM_2', 'HAM_1']
  test = dataset.sources['test']
  assert [r['lesion_id'] for r in test] == ['ISIC_Test0', 'ISIC_Test1']
  assert [dataset.labels[r['label']] for r in test] == ['mel', 'nv']
  (place[0] / 'ISIC2018_Task3_Training_LesionGroupings.csv').unlink()
  with pytest.raises(FileNotFoundError, match='LesionGroupings'):
    open_('isic2018_task3', place)


def test_ham10000(place):
  ham10000(place[0])
  dataset = open_('ham10000', place)
  assert dataset.labels == ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
  assert list(dataset.sources) == ['train']
  records = by_id(dataset)
  assert [r['label'] for r in records.values()] == [2, 2, 6]
  assert records['ISIC_1']['lesion_id'] == 'HAM_0'
  assert (records['ISIC_1']['sex'], records['ISIC_1']['site']) == ('', '')
  assert np.isnan(records['ISIC_1']['age'])
  assert '1 rows of' in dataset.report() and 'ISIC_3' in dataset.report()


@pytest.mark.parametrize('dataverse', [True, False])
def test_ham10000_with_its_test_set_and_masks(place, dataverse):
  ham10000(place[0])
  for k in range(3):
    name = 'HAM10000_segmentations_lesion_tschandl'
    mask(place[0] / name / f'ISIC_{k}_segmentation.png', on=1)
  picture(place[0] / 'ISIC2018_Task3_Test_Images/ISIC_9.jpg', 9)
  rows = (ONE_HOT, ('ISIC_9', *'0000010'))
  if dataverse:
    row = ('HAM_9', 'ISIC_9', 'df', 'histo', '40', 'male', 'back')
    rows = (DATAVERSE, row)
  write(place[0] / 'ISIC2018_Task3_Test_GroundTruth.csv', *rows)
  dataset = open_('ham10000', place)
  test = dataset.sources['test'][0]
  assert (dataset.labels[test['label']], test['has_mask']) == ('df', 0)
  assert test['lesion_id'] == ('HAM_9' if dataverse else 'ISIC_9')
  assert set(np.unique(dataset.sources['train'][0]['mask'])) == {0, 255}


def test_folder(place):
  own(place[0])
  write(
    place[0] / 'labels.csv',
    ('image', 'label', 'lesion_id', 'age', 'sex', 'site', 'split', 'ward'),
    ('a.png', 'good', 'L1', '30', 'male', 'back', 'test', '4'),
    ('b', 'bad', '', '', '', '', 'train', '4'),
    ('c', 'good', 'L1', '0', '', '', 'train', '4'),
  )
  dataset = open_('folder', place)
  assert dataset.labels == ('bad', 'good')
  assert list(dataset.sources) == ['train', 'test']
  assert [r['lesion_id'] for r in dataset.sources['train']] == ['b', 'L1']
  assert dataset.sources['test'][0]['site'] == 'back'
  assert 'not used: ward' in dataset.report()


def test_folder_with_masks_alone_and_elsewhere(place):
  own(place[0])
  (place[0] / 'labels.csv').unlink()
  (place[0] / 'masks').rename(place[0] / 'outlines')
  with pytest.raises(FileNotFoundError, match='neither masks nor labels.csv'):
    open_('folder', place)
  dataset = open_('folder', place, masks='outlines')
  assert [r['label'] for r in dataset.sources['train']] == [-1, -1, -1]
  assert dataset.sources['train'][0]['has_mask'] == 1
  with pytest.raises(FileNotFoundError, match=r'truth.csv: is not there'):
    open_('folder', place, masks='outlines', labels='truth.csv')


@pytest.mark.parametrize('kind', ['grey', 'alpha', 'deep', 'turned'])
def test_unusual_images_are_stored_as_plain_rgb(place, kind):
  own(place[0])
  path = place[0] / 'images/b.png'
  pixels = np.asarray(Image.open(path))
  expected = pixels
  if kind == 'grey':
    Image.fromarray(pixels[..., 0]).save(path)
    expected = np.repeat(pixels[..., :1], 3, axis=-1)
  elif kind == 'alpha':
    Image.fromarray(pixels).convert('RGBA').save(path)
  elif kind == 'deep':
    deep = pixels[..., ::-1].astype(np.uint16) * 256 + 99
    cv2.imwrite(str(path), deep)
  else:  # stored lying, to be shown upright
    exif = Image.Exif()
    exif[274] = 6
    lying = np.rot90(pixels)
    Image.fromarray(np.ascontiguousarray(lying)).save(path, exif=exif)
  record_ = by_id(open_('folder', place))['b']
  np.testing.assert_array_equal(record_['image'], expected)


def test_mask_of_one_bit_is_read(tmp_path):
  values = np.zeros(SIZE, bool)
  values[2:5, 3:9] = True
  Image.fromarray(values).save(tmp_path / 'm.bmp')
  read = record.read_mask(tmp_path / 'm.bmp')
  np.testing.assert_array_equal(read, values * np.uint8(255))


@pytest.mark.data
def test_real_ph2(tmp_path):
  root = real_data('ph2')
  dataset = build.open_or_build('ph2', root, tmp_path)
  label = dataset.columns_by_split()['train']['label']
  assert np.bincount(label).tolist() == [64, 64, 32]
  one = dataset.sources['train'][7]
  folder = root / 'PH2Dataset/PH2 Dataset images' / one['image_id']
  name = one['image_id']
  shown = cv2.imread(str(folder / f'{name}_Dermoscopic_Image/{name}.bmp'))
  drawn = cv2.imread(str(folder / f'{name}_lesion/{name}_lesion.bmp'), 0)
  np.testing.assert_array_equal(one['image'], shown[..., ::-1])
  np.testing.assert_array_equal(one['mask'][..., 0], drawn)
  assert 'tensorflow' not in sys.modules


@pytest.mark.data
@pytest.mark.parametrize(
  'name, folder, counts',
  [
    ('isic2016_part1', 'isic2016', {'train': 806, 'test': 339}),
    ('isic2016_part3', 'isic2016', {'train': 846, 'test': 352}),
    ('isic2018_task1', 'isic2018_task1', {'train': 2074}),
    ('ham10000', 'ham10000', {'train': 10015}),
  ],
)
def test_real_listings(name, folder, counts):
  listing = build.DATASETS[name].listing(real_data(folder))
  assert {s: len(items) for s, items in listing.splits.items()} == counts
  if name == 'ham10000':
    assert len({item.lesion_id for item in listing.splits['train']}) == 7470
