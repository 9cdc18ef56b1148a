"""Damaged input is refused; what is built is found again and nothing else."""

import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from publishers import (
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

from jaxderm.data import build, builder, layout, record


def open_(name, place, **options):
  return build.open_or_build(name, place[0], place[1], **options)


def test_registry():
  assert set(build.DATASETS) == {
    *('ph2', 'isic2016_part1', 'isic2016_part3', 'isic2017_part1'),
    *('isic2017_part3', 'isic2018_task1', 'isic2018_task3', 'ham10000'),
    *('synthetic', 'folder'),
  }
  for name, cls in build.DATASETS.items():
    assert cls.name == name
    assert cls.LICENCE and cls.HOW_TO_GET and cls.__doc__


def cut_off(root):
  file = root / 'images/b.png'
  file.write_bytes(file.read_bytes()[:-200])


def cut_off_jpeg(root):
  picture(root / 'images/b.jpg', size=(200, 200))
  (root / 'images/b.png').unlink()
  data = (root / 'images/b.jpg').read_bytes()
  (root / 'images/b.jpg').write_bytes(data[: len(data) * 3 // 4])


def blurred_mask(root):
  (root / 'masks/b_mask.png').unlink()
  drawn = np.zeros(SIZE, np.uint8)
  cv2.circle(drawn, (16, 12), 8, 255, -1)
  cv2.imwrite(str(root / 'masks/b_mask.jpg'), drawn)


def labels(*rows, header=('image_id', 'label', 'age')):
  return lambda root: write(root / 'labels.csv', header, *rows)


GOOD = (('a', 'x', '1'), ('b', 'x', '2'))


FAULTS = [
  (lambda r: [(r / f'masks/{i}_mask.png').unlink() for i in 'ac'],
   ['2 images have no mask: a, c']),
  (lambda r: mask(r / 'masks/z.png'), ['1 masks have no image: z']),
  (lambda r: mask(r / 'masks/b_mask.png', (24, 30)),
   ['b_mask.png', '30 x 24', '32 x 24', 'b.png']),
  (cut_off, ['b.png', 'cannot be read']),
  (cut_off_jpeg, ['b.jpg', 'cannot be read']),
  (lambda r: (r / 'images/b.png').write_text('hello'), ['b.png', '5 bytes']),
  (lambda r: (r / 'masks/b_mask.png').write_bytes(b''), ['b_mask.png', '0 by']),
  (blurred_mask, ['b_mask.jpg', '0, 1, 2', 'values)', 'saved as JPEG']),
  (lambda r: mask(r / 'masks/b_mask.png', on=128), ['0, 128']),
  (lambda r: shutil.copy(r / 'images/b.png', r / 'masks/b_mask.png'),
   ['b_mask.png', 'channels differ']),
  (lambda r: Image.fromarray(np.full(SIZE, 999, np.uint16)).save(
    r / 'images/b.png'), ['b.png', 'expected 8 bits']),
  (lambda r: picture(r / 'images/b.bmp'), ['b.png', 'same image, b']),
  (labels(*GOOD, ('c', 'x', 'old')), ['labels.csv:4', "age is 'old'"]),
  (labels(*GOOD, ('c', 'x', '-3')), ['labels.csv:4', "age is '-3'"]),
  (labels(*GOOD, ('c', '', '3')), ['labels.csv:4', "label is ''"]),
  (labels(*GOOD, ('c', 'x')), ['labels.csv:4', 'has 2 values, expected 3']),
  (labels(*GOOD, ('b', 'x', '3')), ['labels.csv:4', 'in line 3 already']),
  (labels(*GOOD, ('b.png', 'x', '3')), ['labels.csv:4', 'in line 3 already']),
  (labels(*GOOD), ['1 images have no row', 'labels.csv: c']),
  (labels(*GOOD, ('c', 'x', ''), ('z', 'x', '')), ['have no image', ': z.']),
  (labels(('a', 'x'), header=('image_id', 'class')),
   ['labels.csv:1', 'no column label', 'image_id, class']),
  (labels(('a', 'x', 'tst'), header=('image_id', 'label', 'split')),
   ['labels.csv:2', "split is 'tst'", 'train, validation, test']),
  (lambda r: shutil.rmtree(r / 'images'), ['has no images', 'manual_dir']),
  (lambda r: [p.unlink() for p in (r / 'images').iterdir()], ['no image ins']),
  (shutil.rmtree, ['is not a folder that exists', 'manual_dir/images']),
  (lambda r: (shutil.rmtree(r), r.mkdir()), ['is empty']),
]  # fmt: skip


@pytest.mark.parametrize('fault, told', FAULTS)
def test_bad_input(place, fault, told):
  own(place[0])
  fault(place[0])
  with pytest.raises((ValueError, FileNotFoundError)) as error:
    open_('folder', place)
  for part in told:
    assert part in str(error.value)
  assert not place[1].exists() or not list(place[1].iterdir())


def set_line(path, number, text):
  lines = path.read_text().splitlines()
  lines[number - 1] = text
  path.write_text('\n'.join(lines))


@pytest.mark.parametrize(
  'name, make, fault, told',
  [
    ('ph2', ph2, lambda r: set_line(
      r / 'PH2Dataset/PH2_dataset.txt', 3, '|| IMD010 || || 7 || 0 ||'),
     ['PH2_dataset.txt:3', "'7'", '0, 1, 2']),
    ('ph2', lambda r: ph2(r, ('IMD003', 'IMD999')), lambda r: None,
     ['1 images have no row', 'IMD999']),
    ('ph2', ph2, lambda r: next(r.rglob('IMD010_lesion.bmp')).unlink(),
     ['1 images have no mask: IMD010']),
    ('ham10000', ham10000, lambda r: set_line(
      r / 'HAM10000_metadata', 3, 'L,ISIC_1,bkx,histo,1,male,back'),
     ['HAM10000_metadata:3', "dx is 'bkx'", 'akiec']),
    ('ham10000', ham10000, lambda r: picture(
      r / 'HAM10000_images_part_2/ISIC_0.jpg'), ['same image, ISIC_0']),
    ('isic2018_task3', isic2018_task3, lambda r: set_line(
      next(r.rglob('*Training_GroundTruth.csv')), 2,
      'ISIC_Training0,1,1,0,0,0,0,0'), ['GroundTruth.csv:2', '2 of the col']),
    ('isic2017_part3', isic2017, lambda r: set_line(
      r / 'ISIC-2017_Training_Part3_GroundTruth.csv', 2, 'ISIC_0,1,1'),
     ['GroundTruth.csv:2', '0 where melanoma is 1']),
    ('isic2017_part1', isic2017, lambda r: [
      shutil.copy(p, r / str(p.relative_to(r)).replace('Training', 'Test_v2'))
      for p in (*r.glob('*Training_Data/ISIC_0.jpg'),
                *r.glob('*Training_Part1_GroundTruth/ISIC_0_*'))],
     ['1 images are in two splits: ISIC_0']),
    ('isic2018_task1', lambda r: [
      picture(r / 'ISIC2018_Task1-2_Training_Input/ISIC_0.jpg'),
      mask(r / 'ISIC2018_Task1_Training_GroundTruth/ISIC_0_segmentation.png'),
      mask(r / 'ISIC2018_Task1_Training_GroundTruth/ISIC_1_segmentation.png'),
     ], lambda r: None, ['1 masks in train have no image: ISIC_1']),
    ('isic2016_part3', isic2016, lambda r: set_line(
      r / 'ISBI2016_ISIC_Part3_Test_GroundTruth.csv', 1, 'ISIC_7,maybe'),
     ['GroundTruth.csv:1', "'maybe'"]),
  ],
)  # fmt: skip
def test_bad_publisher_files(place, name, make, fault, told):
  make(place[0])
  fault(place[0])
  with pytest.raises(ValueError) as error:
    open_(name, place)
  for part in told:
    assert part in str(error.value)


def test_names_five_and_counts_the_rest():
  assert layout.some([*'gfedcba']) == 'a, b, c, d, e and 2 more'


def test_changed_files_are_built_anew(place):
  own(place[0])
  old = open_('folder', place)
  assert open_('folder', place).path == old.path
  write(
    place[0] / 'labels.csv',
    ('image_id', 'label', 'age'),
    *((i, 'bad', '30') for i in 'abc'),
  )
  new = open_('folder', place)
  assert new.path != old.path and new.hash != old.hash
  assert new.labels == ('bad',) and len(list(place[1].iterdir())) == 2
  with pytest.raises(ValueError, match='built 2 times') as error:
    build.open_or_build('folder', data_dir=place[1])
  assert str(old.path) in str(error.value)


def test_hash_survives_rebuilding_and_copying(place, tmp_path):
  own(place[0])
  first = open_('folder', place)
  shutil.copytree(place[0], tmp_path / 'copy', copy_function=shutil.copyfile)
  second = build.open_or_build('folder', tmp_path / 'copy', tmp_path / 'other')
  assert first.path.name != second.path.name  # other times of change
  assert first.hash == second.hash


def test_opens_without_files(place):
  with pytest.raises(FileNotFoundError, match=r'data\.build --dataset=folder'):
    build.open_or_build('folder', data_dir=place[1])
  made = open_('folder', (own(place[0]), place[1]))
  shutil.rmtree(place[0])
  assert build.open_or_build('folder', data_dir=place[1]).path == made.path
  info = made.path / 'dataset_info.json'
  info.write_text(info.read_text().replace('1.0.0', '0.9.0'))
  with pytest.raises(FileNotFoundError, match='is not built'):
    build.open_or_build('folder', data_dir=place[1])


def test_data_dir_from_the_environment(place, monkeypatch):
  monkeypatch.setenv('JAXDERM_DATA_DIR', str(place[1]))
  made = build.open_or_build('folder', own(place[0]))
  assert made.path.parent == place[1]


@pytest.mark.parametrize(
  'name, options, told',
  [
    ('ph3', {}, 'those there are: ph2, isic2016_part1'),
    ('ph2', {'n': 3}, 'no option n; its options: none'),
    ('synthetic', {'m': 3}, 'no option m; its options: n, size, seed'),
    ('synthetic', {'n': 0}, 'n is 0, expected a whole number of at least 1'),
    ('synthetic', {'manual_dir': '/tmp'}, 'needs no files'),
    ('folder', {'masks': 'm'}, 'masks need manual_dir'),
  ],
)
def test_wrong_names(tmp_path, name, options, told):
  with pytest.raises(ValueError) as error:
    build.open_or_build(name, data_dir=tmp_path, **options)
  assert told in str(error.value)


def test_columns_are_what_the_records_say(place, monkeypatch):
  monkeypatch.setattr(builder, '_SHARD_BYTES', 5000)  # several shards
  own(place[0], ids=[f'i{k:02d}' for k in range(30)])
  dataset = open_('folder', place)
  assert len(list(dataset.path.glob('*.array_record*'))) > 5
  columns = dataset.columns_by_split()['train']
  assert set(columns) == {*record.features()} - {'image', 'mask'}
  records = list(dataset.sources['train'])
  assert columns['image_id'].tolist() == sorted(columns['image_id'].tolist())
  for name, values in columns.items():
    assert values.tolist() == [r[name] for r in records]
  with pytest.raises(IndexError):
    dataset.sources['train'][30]


def run(*arguments, **kwargs):
  return subprocess.run(
    [sys.executable, '-m', 'jaxderm.data.build', *arguments],
    check=False, capture_output=True, text=True, timeout=120, **kwargs,
  )  # fmt: skip


def test_command(place):
  ph2(place[0])
  where = [f'--manual_dir={place[0]}', f'--data_dir={place[1]}']
  done = run('--dataset=ph2', *where)
  assert done.returncode == 0, done.stderr
  assert 'must not be redistributed' in done.stdout
  assert 'train: 3 (common_nevus 1, atypical_nevus 1, mel' in done.stdout
  assert str(build.open_or_build('ph2', *place).path) in done.stdout
  set_line(place[0] / 'PH2Dataset/PH2_dataset.txt', 2, '|| IMD003 || ||x||')
  bad = run('--dataset=ph2', *where)
  assert bad.returncode == 1
  assert bad.stderr.startswith('error: ') and 'Traceback' not in bad.stderr


def test_killed_and_simultaneous_builds(tmp_path):
  command = [
    sys.executable, '-m', 'jaxderm.data.build', '--dataset=synthetic',
    '--n=500', '--size=64', f'--data_dir={tmp_path}',
  ]  # fmt: skip
  quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
  victim = subprocess.Popen(command, **quiet)
  deadline = time.monotonic() + 60
  while not list(tmp_path.glob('.building-*/*/*')):
    assert victim.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  os.kill(victim.pid, signal.SIGKILL)
  victim.wait()
  assert [p.name[:10] for p in tmp_path.iterdir()] == ['.building-']
  both = [subprocess.Popen(command, **quiet) for _ in range(2)]
  assert [p.wait(120) for p in both] == [0, 0]
  assert [p.name[:10] for p in tmp_path.iterdir()] == ['synthetic-']
  dataset = build.open_or_build('synthetic', data_dir=tmp_path, n=500, size=64)
  assert len(dataset.sources['train']) == 500
  assert [p.name[:10] for p in tmp_path.iterdir()] == ['synthetic-']
