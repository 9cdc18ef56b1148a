"""The papers' splits have their counts; HAM10000 is split as it really is."""

import collections
import csv
import dataclasses

import numpy as np
import pytest
from conftest import real_data
from indices import assert_apart, make_index, singles, sizes

from jaxderm.data import folds, index, leaks, papers

# Mode, data set, images, train, validation, test as SPEC.md has them.
PRINTED = [
  ('yang2021', 'ph2', 200, 144, 16, 40),
  ('yang2021', 'isic2018_task1', 2594, 2155, 239, 200),
  ('zarrin2025', 'ph2', 200, 140, 20, 40),
  ('zarrin2025', 'isic2018_task1', 2594, 1815, 259, 520),
]


@pytest.mark.parametrize(
  'mode, name, n, expected', [(*row[:3], row[3:]) for row in PRINTED]
)
def test_counts_of_the_papers(mode, name, n, expected):
  split = folds.make(singles(n, name), mode)
  assert sizes(split) == tuple(expected)
  assert len(set(split.train + split.validation + split.test)) == n
  assert split.note == ''


@pytest.mark.parametrize('mode', ['yang2021', 'zarrin2025'])
def test_five_folds_of_ph2_test_every_image_once(mode):
  data = singles(200, 'ph2')
  tested = [i for k in range(5) for i in folds.make(data, mode, fold=k).test]
  assert sorted(tested) == sorted(data.image_id)


def official(name: str, counts: dict, label=None) -> index.Index:
  n = sum(counts.values())
  edges = np.cumsum([0, *counts.values()])
  ids = np.array([f'i{k:05d}' for k in range(n)])
  label = np.zeros(n, int) if label is None else label
  return index.from_columns(
    name,
    ['benign', 'malignant'],
    {
      part: {'image_id': ids[a:b], 'label': label[a:b]}
      for part, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
    },
  )


def test_wei2020_is_stratified_and_has_the_official_test():
  label = np.array([0] * 727 + [1] * 173 + [0] * 304 + [1] * 75)
  data = official('isic2016_part3', {'train': 900, 'test': 379}, label)
  held = []
  for fold in range(5):
    split = folds.make(data, 'wei2020', fold=fold)
    assert sizes(split) == (720, 180, 379)
    assert set(split.test) == set(data.image_id[900:])
    malignant = int(data.label[data.rows(split.train)].sum())
    # SPEC.md 2.6: 582 benign and 138 melanomas.
    assert malignant == 138 if fold == 0 else abs(malignant - 138) <= 1
    held += split.validation
  assert sorted(held) == sorted(data.image_id[:900])


def test_wei2020_leaky_has_copies_of_an_image_on_both_sides(tmp_path):
  label = np.array([0] * 727 + [1] * 173 + [0] * 304 + [1] * 75)
  data = official('isic2016_part3', {'train': 900, 'test': 379}, label)
  often = dict(zip(data.image_id[:900], [3] * 727 + [13] * 173, strict=True))
  held = collections.Counter()
  for fold in range(5):
    split = folds.make(data, 'wei2020_leaky', fold=fold)
    # SPEC.md 2.6: 4,430 copies, four fifths of them for training.
    assert sizes(split) == (3544, 886, 379)
    assert split.note == ''
    assert collections.Counter(split.train + split.validation) == often
    held.update(split.validation)
    # Stratified: 2,249 of the copies are malignant, a fifth of them is 450.
    malignant = int(data.label[data.rows(split.validation)].sum())
    assert abs(malignant - 450) <= 1
  assert held == often
  both = set(split.train) & set(split.validation)
  named = set(split.validation)
  assert len(both) > 0.95 * len(named)
  found, message = leaks.check(data, split)
  assert {(k.first, k.second, k.where) for k in found} == {
    (i, i, 'train/validation') for i in both
  }
  assert f'{len(both):,} of {len(named):,} validation images' in message
  split.write(tmp_path / 's.json')
  assert folds.Split.read(tmp_path / 's.json', data) == split


def test_copies_do_not_excuse_a_test_image_in_training(tmp_path):
  label = np.array([0, 1] * 30)
  data = official('isic2016_part3', {'train': 40, 'test': 20}, label)
  split = folds.make(data, 'wei2020_leaky')
  assert split.note.startswith('320 images instead of the 4,430 published')
  spoiled = dataclasses.replace(split, train=(*split.train, split.test[0]))
  with pytest.raises(ValueError, match='in train and in test'):
    spoiled.verify(data)
  again = dataclasses.replace(split, test=(*split.test, split.test[0]))
  assert len(again.images('test')) == 20  # copies are of one image


def test_a_split_without_some_images():
  data = make_index(60, 'ham10000', age=np.arange(60))
  split = folds.make(data)
  assert split.without(['nobody'], 'no kind') is split
  away = (split.train[0], split.test[3], 'nobody')
  less = split.without(away, 'unknown age')
  assert less.note == 'Left out 2 images of unknown age.'
  assert less.train == split.train[1:]
  assert less.validation == split.validation
  assert less.test == split.test[:3] + split.test[4:]
  less.verify(data)


def test_zarrin2025_draws_1400_of_the_official_2000():
  counts = {'train': 2000, 'validation': 150, 'test': 600}
  data = official('isic2017_part1', counts)
  split = folds.make(data, 'zarrin2025')
  assert sizes(split) == (1400, 150, 600)
  assert set(split.train) < set(data.image_id[:2000])
  assert set(split.validation) == set(data.image_id[2000:2150])


def test_smaller_data_scale_the_papers_counts_and_say_so():
  split = folds.make(singles(160, 'ph2'), 'yang2021')
  assert sizes(split) == (115, 13, 32)
  assert split.note.startswith('160 images instead of the 200 published')


def test_every_paper_may_leak_and_is_tried_here():
  assert set(papers.PAPERS) == folds.PAPER_MODES == papers.PAPER_MODES
  tried = {(mode, name) for mode, name, *_ in PRINTED} | {
    ('wei2020', 'isic2016_part3'),
    ('wei2020', 'isic2016_part1'),  # the same recipe
    ('zarrin2025', 'isic2017_part1'),
    ('wei2020_leaky', 'isic2016_part3'),
    ('do2022', 'ham10000'),
    ('do2022_augmented', 'ham10000'),
    ('le2020', 'ham10000'),
  }
  assert tried == {
    (m, name) for m in papers.PAPERS for name in papers.PAPERS[m]
  }


@pytest.mark.parametrize(
  'mode, listed',
  [
    ('official', 'grouped, deploy, yang2021, zarrin2025'),
    ('wei2020', 'grouped, deploy, yang2021, zarrin2025'),
    ('nonsense', 'grouped, deploy, yang2021, zarrin2025'),
  ],
)
def test_a_mode_that_a_data_set_lacks_lists_those_it_has(mode, listed):
  data = singles(20, 'ph2')
  with pytest.raises(ValueError, match=f"no split '{mode}'.*{listed}"):
    folds.make(data, mode)


def test_a_missing_official_part_is_told():
  data = singles(20, 'isic2016_part3')
  with pytest.raises(ValueError, match='test without an image'):
    folds.make(data, 'wei2020')


def test_a_paper_that_tests_on_validation_can_be_read(tmp_path):
  data = make_index(60, 'ham10000', age=np.arange(60))
  split = folds.make(data, 'do2022')
  split.write(tmp_path / 's.json')
  assert folds.Split.read(tmp_path / 's.json', data) == split
  assert split.validation == split.test


@pytest.fixture(scope='module')
def ham10000() -> index.Index:
  """The real metadata, with no pictures."""
  path = real_data('ham10000') / 'HAM10000_metadata.csv'
  with open(path, encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  labels = sorted({row['dx'] for row in rows})
  return index.from_columns(
    'ham10000',
    labels,
    {
      'train': {
        'image_id': [row['image_id'] for row in rows],
        'lesion_id': [row['lesion_id'] for row in rows],
        'label': [labels.index(row['dx']) for row in rows],
        'age': [float(row['age'] or 'nan') for row in rows],
      }
    },
  )


@pytest.mark.data
def test_real_lesions(ham10000):
  assert len(ham10000) == 10_015
  assert folds.groups(ham10000).max() + 1 == 7_470
  rest = folds.make(ham10000, fold=4)
  assert_apart(ham10000, rest)
  assert abs(len(rest.test) - 2_003) <= 2
  share = np.bincount(ham10000.label) / 5
  tested = np.bincount(ham10000.label[ham10000.rows(rest.test)])
  assert np.all(np.abs(tested - share) <= 3)


@pytest.mark.data
def test_real_images_without_an_age_are_left_out(ham10000):
  away = ham10000.image_id[np.isnan(ham10000.age)]
  split = folds.make(ham10000).without(away, 'unknown age')
  assert sum(sizes(split)) == 9_958  # SPEC.md 3.4
  assert split.note == 'Left out 57 images of unknown age.'


@pytest.mark.data
def test_real_le2020(ham10000):
  lesion = dict(zip(ham10000.image_id, ham10000.lesion_id, strict=True))
  counts, held = [], []
  for fold in range(5):
    split = folds.make(ham10000, 'le2020', fold=fold)
    counts.append(sizes(split))
    held += split.validation
    assert len({lesion[i] for i in split.test}) == 1_494
  # SPEC.md 5.4: four folds of 6,817 and 1,704, one of 6,816 and 1,705.
  assert counts == [(6_817, 1_704, 1_494)] * 4 + [(6_816, 1_705, 1_494)]
  assert len(set(held)) == 8_521
  found, message = leaks.check(ham10000, split)
  leaking = {k.second for k in found if k.where.endswith('test')}
  # FIELD.md expects 391 of 1,494 test images to have siblings in the others.
  assert abs(len(leaking) - 391) < 40
  assert 'of 1,494 test images' in message


@pytest.mark.data
def test_real_do2022(ham10000):
  split = folds.make(ham10000, 'do2022')
  assert sizes(split) == (8_962, 996, 996)
  found, _ = leaks.check(ham10000, split)
  # FIELD.md expects about 42 % of the test images to have siblings in train.
  leaking = {k.second for k in found if k.where == 'train/test'}
  assert abs(len(leaking) / 996 - 0.42) < 0.03
  assert 'The validation set is the test set' in split.note
  augmented = folds.make(ham10000, 'do2022_augmented')
  assert sizes(augmented) == (8_464, 1_494, 1_494)
