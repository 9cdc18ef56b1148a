"""The hash knows copies, and the check finds what is planted."""

import csv
import dataclasses
import itertools
import time

import cv2
import numpy as np
import pytest
from conftest import real_data

from jaxderm.data import folds, index, leaks, phash

ORIENTATIONS = list(itertools.product(range(4), (False, True)))


def skin(seed: int, size: tuple[int, int] = (180, 240)) -> np.ndarray:
  """A blotchy picture, uint8 [*size, 3]."""
  noise = np.random.default_rng(seed).normal(size=(12, 16, 3))
  smooth = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
  return np.clip(128 + 40 * smooth, 0, 255).astype(np.uint8)


def turned(image: np.ndarray, turns: int, flip: bool) -> np.ndarray:
  image = np.rot90(image, turns)
  return np.ascontiguousarray(image[:, ::-1] if flip else image)


def jpeg(image: np.ndarray) -> np.ndarray:
  data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
  return cv2.imdecode(data, cv2.IMREAD_COLOR)


def half(image: np.ndarray) -> np.ndarray:
  return cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2))


def brighter(image: np.ndarray) -> np.ndarray:
  return np.clip(image * 1.1, 0, 255).astype(np.uint8)


def hashes(images) -> np.ndarray:
  return np.stack([leaks.perceptual_hash(image) for image in images])


def make_index(images, **columns) -> index.Index:
  n = len(images)
  columns = {
    'image_id': [f'i{k}' for k in range(n)],
    'label': [0] * n,
    'sha256': [f'{k:064x}' for k in range(n)],
    'phash': hashes(images),
    **columns,
  }
  return index.from_columns('made', ['mole'], {'train': columns})


def make_split(data, train, validation, test, mode='by hand') -> folds.Split:
  return folds.Split(
    mode, 0, 5, 0, tuple(train), tuple(validation), tuple(test), data.hash
  )


@pytest.mark.parametrize('turns, flip', ORIENTATIONS)
def test_hash_follows_from_signs_in_all_orientations(turns, flip):
  """Worked from the transform's definition, not from the code."""
  bits = leaks.perceptual_hash(skin(0, (96, 96))).reshape(16, 16)
  odd = np.arange(1, 17) % 2 == 1
  # A turn to the left is a transposition, then a flip upside down.
  for _ in range(turns):
    bits = bits.T ^ odd[:, None]
  if flip:
    bits = bits ^ odd
  seen = leaks.perceptual_hash(turned(skin(0, (96, 96)), turns, flip))
  assert np.sum(seen != bits.ravel()) <= 2  # rounding


@pytest.mark.parametrize('copy', [jpeg, half, brighter])
@pytest.mark.parametrize('turns, flip', ORIENTATIONS)
def test_near_duplicates_finds_copies_and_nothing_else(copy, turns, flip):
  originals = hashes(skin(k) for k in range(12))
  copies = hashes(turned(copy(skin(k)), turns, flip) for k in range(3, 9))
  found = leaks.near_duplicates(originals, copies)
  assert [(i, j) for i, j, _ in found] == [(k, k - 3) for k in range(3, 9)]


def test_near_duplicates_agrees_with_comparing_one_by_one():
  rng = np.random.default_rng(0)
  a, b = rng.random((2, 40, 256)) < 0.5
  odd = np.arange(1, 17) % 2 == 1
  expected = []
  for i, j in itertools.product(range(40), range(40)):
    grid = b[j].reshape(16, 16)
    distances = [
      np.sum(a[i].reshape(16, 16) != (g ^ (h & odd) ^ (v & odd)[:, None]))
      for g in (grid, grid.T)
      for h in (False, True)
      for v in (False, True)
    ]
    if min(distances) <= 108:
      expected.append((i, j, min(distances)))
  assert 20 < len(expected) < 1000
  assert leaks.near_duplicates(a, b, threshold=108) == expected


def test_near_duplicates_within_lists_each_pair_once_over_blocks(monkeypatch):
  monkeypatch.setattr(phash, '_BLOCK', 3)
  images = [skin(k) for k in range(8)]
  found = leaks.near_duplicates(hashes([*images, images[1], images[6]]))
  assert [(i, j) for i, j, _ in found] == [(1, 8), (6, 9)]


def test_pictures_of_one_colour_resemble_nothing():
  plain = np.full((50, 60, 3), 90, np.uint8)
  bits = hashes([plain, plain, plain + 30])
  assert not bits.any()
  assert leaks.near_duplicates(bits) == []
  assert leaks.near_duplicates(bits, hashes([skin(0)])) == []
  assert leaks.near_duplicates(bits[:0]) == []


def test_a_hash_is_of_uint8_rgb():
  for wrong in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
    with pytest.raises(ValueError, match=r'uint8 RGB picture \[H, W, 3\]'):
      leaks.perceptual_hash(wrong)


@pytest.mark.parametrize(
  'name, expected',
  [
    ('ISIC_0000000', 'ISIC_0000000'),
    ('ISIC_0000000_downsampled', 'ISIC_0000000'),
    ('isic_0000000.jpg', 'ISIC_0000000'),
    ('ISIC_00000001', 'ISIC_00000001'),
    ('IMD003', 'IMD003'),
    ('mine_downsampled', 'mine'),
    ('mine.PNG', 'mine'),
    ('mine.2', 'mine.2'),
  ],
)
def test_canonical_id(name, expected):
  assert leaks.canonical_id(name) == expected


PLANTED = {
  'same id': {'image_id': ['ISIC_0000001', 'b', 'ISIC_0000001_downsampled']},
  'same file': {'sha256': ['ff', 'ee', 'ff']},
  'same lesion': {'lesion_id': ['L1', 'L2', 'L1']},
  'near-duplicate': {'phash': [0, 1, 0]},
}


@pytest.mark.parametrize('kind', PLANTED)
@pytest.mark.parametrize(
  'where', ['train/validation', 'train/test', 'validation/test']
)
def test_each_kind_is_found_between_each_two_parts(kind, where):
  columns = dict(PLANTED[kind])
  if kind == 'near-duplicate':
    image = skin(0)
    images = [image, skin(1), half(turned(image, 1, True))]
    columns = {}
  else:
    images = [skin(k) for k in range(3)]
  data = make_index(images, **columns)
  first, other, second = data.image_id.tolist()
  parts = {'train': (), 'validation': (), 'test': ()}
  parts |= dict(zip(where.split('/'), ((first,), (second,)), strict=True))
  unused = next(p for p in parts if not parts[p])
  split = make_split(data, **(parts | {unused: (other,)}))
  assert leaks.find_leaks(data, split) == [
    leaks.Leak(kind, first, second, where)
  ]
  # Together in one part they are no leak.
  together = make_split(data, (first, second), (), (other,))
  assert leaks.find_leaks(data, together) == []
  assert leaks.check(data, together)[0] == []


def test_unknown_files_and_lesions_are_not_equal():
  data = make_index(
    [skin(k) for k in range(2)], sha256=['', ''], lesion_id=['', '']
  )
  assert leaks.find_leaks(data, make_split(data, ['i0'], [], ['i1'])) == []


def test_overlap_of_two_data_sets_ignores_names_of_lesions():
  a = make_index([skin(0), skin(1)], lesion_id=['1', '2'])
  b = make_index(
    [skin(2), skin(1)],
    lesion_id=['1', '3'],
    image_id=['x', 'y'],
    sha256=['', ''],
  )
  b = dataclasses.replace(b, name='other')
  assert leaks.overlap(a, b) == [
    leaks.Leak('near-duplicate', 'i1', 'y', 'train/test')
  ]


def test_check_names_ten_pairs_and_counts_them_all():
  data = make_index(
    [skin(k) for k in range(24)], lesion_id=[str(k // 2) for k in range(24)]
  )
  split = make_split(data, data.image_id[::2], [], data.image_id[1::2])
  with pytest.raises(leaks.LeakError) as error:
    leaks.check(data, split)
  text = str(error.value)
  assert '12 same lesion in train/test' in text
  assert 'i18 and i19' in text and 'i20 and i21' not in text
  assert 'and 2 more' in text
  assert "mode 'grouped'" in text
  with pytest.raises(leaks.LeakError, match='official_clean'):
    leaks.check(data, split, 'official')


def test_check_lets_a_paper_leak_and_says_how_much():
  data = make_index(
    [skin(k) for k in range(5)], lesion_id=['a', 'b', 'c', 'a', 'd']
  )
  split = make_split(data, ['i0', 'i1'], ['i2'], ['i3', 'i4'], 'yang2021')
  found, message = leaks.check(data, split)
  assert [leak.second for leak in found] == ['i3']
  assert (
    message == "yang2021: the paper's split leaks: 1 of 2 test images (50.0 %) "
    'have a sibling in train.'
  )


@pytest.mark.data
def test_real_pictures_are_told_apart_and_their_copies_found():
  folder = real_data('ph2')
  paths = sorted(folder.glob('**/*_Dermoscopic_Image/*.bmp'))
  images = [cv2.imread(str(path))[..., ::-1] for path in paths]
  bits = hashes(images)
  assert leaks.near_duplicates(bits) == []
  copies = hashes(
    turned(brighter(jpeg(half(image))), 1, True) for image in images
  )
  found = leaks.near_duplicates(bits, copies)
  assert [(i, j) for i, j, _ in found] == [(k, k) for k in range(len(paths))]


@pytest.mark.data
def test_real_missed_duplicate_and_small_moles():
  """One lesion under two names, and moles that look alike but are not one."""
  folder = real_data('ham10000')
  names = ['0025226', '0030074', '0025568', '0031555', '0029194', '0029055']
  paths = [next(folder.glob(f'*/ISIC_{name}.jpg')) for name in names]
  bits = hashes(cv2.imread(str(path))[..., ::-1] for path in paths)
  found = leaks.near_duplicates(bits)
  assert [(i, j) for i, j, _ in found] == [(0, 1)]
  with open(folder / 'HAM10000_metadata.csv', encoding='utf-8') as file:
    lesion = {r['image_id']: r['lesion_id'] for r in csv.DictReader(file)}
  assert lesion['ISIC_0025226'] != lesion['ISIC_0030074']


def test_ten_thousand_pictures_take_seconds():
  bits = np.random.default_rng(0).random((10_000, 256)) < 0.5
  bits[-1] = bits[0].reshape(16, 16).T.ravel()
  start = time.perf_counter()
  assert leaks.near_duplicates(bits) == [(0, 9_999, 0)]
  assert time.perf_counter() - start < 60
