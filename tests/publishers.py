"""Small fakes of the folders that publishers ship, for tests of the builders."""

import csv

import cv2
import numpy as np

SIZE = (24, 32)  # rows, columns


def picture(path, seed=0, size=SIZE):
  """Writes a noisy picture; returns what a reader of the file should see."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), np.uint8))
  return cv2.imread(str(path))[..., ::-1]


def mask(path, size=SIZE, on=255):
  path.parent.mkdir(parents=True, exist_ok=True)
  values = np.zeros(size, np.uint8)
  values[4:12, 6:20] = on
  cv2.imwrite(str(path), values)
  return (values > 0) * np.uint8(255)


def write(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w', newline='') as file:
    csv.writer(file).writerows(rows)


def ph2(root, ids=('IMD003', 'IMD010', 'IMD400')):
  top = root / 'PH2Dataset'
  for k, i in enumerate(ids):
    folder = top / 'PH2 Dataset images' / i
    picture(folder / f'{i}_Dermoscopic_Image/{i}.bmp', k)
    mask(folder / f'{i}_lesion/{i}_lesion.bmp')
  lines = [
    '||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||',
    '|| IMD003 ||                        ||                  0 ||         0 ||',
    '|| IMD010 ||                        ||                  1 ||         2 ||',
    '|| IMD400 ||               Melanoma ||                  2 ||         2 ||',
    '',
    'Legends for Clinical Diagnosis: ',
    '   0 - Common Nevus;',
  ]
  (top / 'PH2_dataset.txt').write_text('\n'.join(lines))
  return root


def own(root, ids=('a', 'b', 'c')):
  for k, i in enumerate(ids):
    picture(root / f'images/{i}.png', k)
    mask(root / f'masks/{i}_mask.png')
  rows = [(i, ('good', 'bad')[k % 2], 30 + k) for k, i in enumerate(ids)]
  write(root / 'labels.csv', ('image_id', 'label', 'age'), *rows)
  return root


def isic2016(root):
  for word, ids, labels in (
    ('Training', ('ISIC_0', 'ISIC_1', 'ISIC_2'), ('benign', 'malignant') * 2),
    ('Test', ('ISIC_7', 'ISIC_8'), ('1', '0')),
  ):
    for k, i in enumerate(ids):
      picture(root / f'ISBI2016_ISIC_Part3_{word}_Data/{i}.jpg', k)
    for i in ids[:-1]:
      name = f'ISBI2016_ISIC_Part1_{word}_GroundTruth/{i}_Segmentation.png'
      mask(root / name)
    rows = zip(ids, labels, strict=False)
    write(root / f'ISBI2016_ISIC_Part3_{word}_GroundTruth.csv', *rows)


def isic2017(root):
  for word, ids in (
    ('Training', ('ISIC_0', 'ISIC_1', 'ISIC_2')),
    ('Validation', ('ISIC_3',)),
    ('Test_v2', ('ISIC_4', 'ISIC_5')),
  ):
    name = f'ISIC-2017_{word}'
    for k, i in enumerate(ids):
      picture(root / f'{name}_Data/{i}.jpg', k)
      picture(root / f'{name}_Data/{i}_superpixels.png', k)
      mask(root / f'{name}_Part1_GroundTruth/{i}_segmentation.png')
    rows = [(i, f'{k == 1:.1f}', f'{k == 2:.1f}') for k, i in enumerate(ids)]
    header = ('image_id', 'melanoma', 'seborrheic_keratosis')
    write(root / f'{name}_Part3_GroundTruth.csv', header, *rows)
  write(
    root / 'ISIC-2017_Training_Data_metadata.csv',
    ('image_id', 'age_approximate', 'sex'),
    ('ISIC_0', '55', 'female'),
    ('ISIC_1', 'unknown', 'unknown'),
    ('ISIC_2', '30', 'male'),
  )


ONE_HOT = ('image', 'MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')


def isic2018_task3(root):
  for word, n in (('Training', 3), ('Validation', 1), ('Test', 2)):
    rows = []
    for k in range(n):
      i = f'ISIC_{word}{k}'
      picture(root / f'ISIC2018_Task3_{word}_Input/{i}.jpg', k)
      rows.append((i, *(f'{j == k:.1f}' for j in range(7))))
    name = f'ISIC2018_Task3_{word}_GroundTruth'
    write(root / name / f'{name}.csv', ONE_HOT, *rows)  # as the archive has it
  write(
    root / 'ISIC2018_Task3_Training_LesionGroupings.csv',
    ('image', 'lesion_id', 'diagnosis_confirm_type'),
    ('ISIC_Training0', 'HAM_1', 'histopathology'),
    ('ISIC_Training1', 'HAM_2', 'histopathology'),
    ('ISIC_Training2', 'HAM_1', 'single image expert consensus'),
  )


DATAVERSE = (
  'lesion_id', 'image_id', 'dx', 'dx_type', 'age', 'sex', 'localization'
)  # fmt: skip


def ham10000(root):
  for k, part in enumerate((1, 1, 2)):
    picture(root / f'HAM10000_images_part_{part}/ISIC_{k}.jpg', k)
  write(
    root / 'HAM10000_metadata',
    DATAVERSE,
    ('HAM_0', 'ISIC_0', 'bkl', 'histo', '80.0', 'male', 'scalp'),
    ('HAM_0', 'ISIC_1', 'bkl', 'histo', '', 'unknown', 'unknown'),
    ('HAM_2', 'ISIC_2', 'vasc', 'consensus', '5', 'female', 'back'),
    ('HAM_3', 'ISIC_3', 'nv', 'histo', '5', 'female', 'back'),
  )
