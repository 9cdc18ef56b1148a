"""Splits cut no lesion, keep the classes' shares and forget no image."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from indices import PARTS, assert_apart, bits, make_index, shuffled, sizes

from jaxderm.data import folds, leaks


def test_groups_are_chains_of_lesions_files_and_pictures():
  pictures = bits(8)
  pictures[3] = pictures[2].reshape(16, 16).T.ravel()  # transposed
  data = make_index(
    8,
    image_id=['a', 'b', 'c', 'd', 'e', 'ISIC_1', 'ISIC_1_downsampled', 'h'],
    lesion_id=['1', '1', '2', '3', '4', '5', '6', ''],
    sha256=['p', 'q', 'q', 'r', 's', 't', 'u', ''],
    phash=pictures,
  )
  group = folds.groups(data).tolist()
  # a and b: lesion; b and c: file; c and d: picture; e and h: alone.
  assert len({*group[:4]}) == 1
  assert group[5] == group[6]
  assert len(set(group)) == 4


def test_empty_texts_do_not_join():
  data = make_index(3, lesion_id=[''] * 3, sha256=[''] * 3)
  assert len(set(folds.groups(data))) == 3


@pytest.mark.parametrize('seed', range(3))
def test_folds_cover_every_image_once_and_cut_no_group(seed):
  data = make_index()
  splits = [folds.make(data, seed=seed, fold=k) for k in range(5)]
  tested = [i for split in splits for i in split.test]
  assert sorted(tested) == sorted(data.image_id)
  for split in splits:
    assert sum(sizes(split)) == len(data)
    assert_apart(data, split)
    assert leaks.check(data, split)[0] == []


def test_folds_have_equal_sizes_and_the_classes_shares():
  data = make_index(1000)
  total = collections.Counter(data.label.tolist())
  largest = max(collections.Counter(folds.groups(data).tolist()).values())
  for fold in range(5):
    split = folds.make(data, fold=fold)
    _, validation, test = sizes(split)
    assert abs(test - 200) <= 2
    assert abs(validation - 80) <= 2
    for part, share in (('train', 0.72), ('validation', 0.08), ('test', 0.2)):
      rows = data.rows(getattr(split, part))
      counts = collections.Counter(data.label[rows].tolist())
      for label, n in total.items():
        assert abs(counts[label] - share * n) <= largest


def test_a_large_group_stays_whole():
  lesion = np.array(['big'] * 30 + [f's{k}' for k in range(70)])
  data = make_index(100, lesion_id=lesion, label=np.zeros(100, int))
  tests = [folds.make(data, fold=k, validation=0).test for k in range(5)]
  assert sorted(map(len, tests)) == [17, 17, 18, 18, 30]


@pytest.mark.parametrize('mode', ['grouped', 'deploy', 'le2020', 'do2022'])
def test_a_split_does_not_depend_on_the_order_of_storage(mode):
  data = make_index(300, name='ham10000', age=np.arange(300))
  assert folds.make(shuffled(data), mode) == folds.make(data, mode)


def test_official_does_not_depend_on_the_order_of_storage():
  data = make_index(300, parts=('train', 'test'))
  for mode in ('official', 'official_clean'):
    assert folds.make(shuffled(data), mode) == folds.make(data, mode)


def test_another_seed_is_another_draw():
  data = make_index()
  assert folds.make(data, seed=1).test != folds.make(data, seed=2).test
  assert folds.make(data, seed=1) == folds.make(data, seed=1)


def test_validation_share():
  data = make_index(500)
  assert sizes(folds.make(data, validation=0))[1] == 0
  assert abs(sizes(folds.make(data, validation=0.25))[1] - 100) <= 2


def test_folds_that_share_le2020s_test_images_cut_no_lesion():
  data = make_index(400, 'ham10000')
  splits = [folds.make(data, 'le2020_grouped', fold=k) for k in range(5)]
  assert {split.test for split in splits} == {splits[0].test}
  assert splits[0].test == folds.make(data, 'le2020').test
  held = [i for split in splits for i in split.validation]
  assert sorted(held) == sorted({*splits[0].train, *splits[0].validation})
  assert len(set(held)) == len(held) < 400 - len(splits[0].test)
  assert f'Left out {400 - len(held) - len(splits[0].test)}' in splits[0].note
  for split in splits:
    assert_apart(data, split)


def test_deploy_tests_nothing():
  data = make_index(500)
  split = folds.make(data, 'deploy')
  assert split.test == ()
  assert abs(len(split.validation) - 50) <= 2
  assert_apart(data, split)


def test_official_parts_are_the_publishers():
  data = make_index(90, parts=PARTS, lesion_id=[f'{k}' for k in range(90)])
  split = folds.make(data, 'official')
  for part in PARTS:
    expected = sorted(data.image_id[data.official == part])
    assert sorted(getattr(split, part)) == expected
  assert split.note == ''


def test_official_without_validation_holds_out_some_of_train():
  data = make_index(
    200, parts=('train', 'test'), lesion_id=[str(k // 2) for k in range(200)]
  )
  split = folds.make(data, 'official')
  assert sizes(split) == (90, 10, 100)
  assert 'part of the official train' in split.note
  assert_apart(data, split)


def test_official_clean_leaves_out_what_leaks():
  # Rows 0-29 train, 30-59 validation, 60-89 test.
  lesion = [f'{k}' for k in range(90)]
  lesion[0] = lesion[60]  # train and test
  lesion[1] = lesion[31]  # train and validation
  lesion[32] = lesion[61]  # validation and test
  lesion[2] = lesion[32]  # train, with both
  data = make_index(90, parts=PARTS, lesion_id=lesion)
  with pytest.raises(leaks.LeakError, match='official_clean'):
    leaks.check(data, folds.make(data, 'official'))
  split = folds.make(data, 'official_clean')
  assert sizes(split) == (27, 29, 30)
  left_out = set(data.image_id) - set(split.train + split.validation)
  assert left_out - set(split.test) == {'i00000', 'i00001', 'i00002', 'i00032'}
  assert 'Left out 3 train and 1 validation images' in split.note
  assert leaks.check(data, split)[0] == []


@pytest.mark.parametrize(
  'arguments, told',
  [
    ({'fold': 5}, 'fold 5 of 5'),
    ({'fold': -1}, 'fold -1 of 5'),
    ({'folds': 1}, 'folds at least 2'),
    ({'validation': 1.0}, r'share in \[0, 1\), got 1.0'),
    ({'folds': 50}, '50 folds need as many lesions, and there are'),
  ],
)
def test_arguments_out_of_range(arguments, told):
  with pytest.raises(ValueError, match=told):
    folds.make(make_index(20), **arguments)


def test_a_validation_set_that_cannot_be_is_told():
  data = make_index(4, lesion_id=['a', 'a', 'b', 'b'])
  with pytest.raises(ValueError, match='validation=0 holds out none'):
    folds.make(data, folds=2)


def test_a_file_holds_the_split(tmp_path):
  data = make_index(60)
  split = folds.make(data, seed=3, fold=2)
  path = tmp_path / 'runs' / 'split.json'
  split.write(path)
  split.write(path)
  assert folds.read(path, shuffled(data)) == split
  assert [p.name for p in path.parent.iterdir()] == ['split.json']


def spoiled(data, path, **changes):
  content = dataclasses.asdict(folds.make(data)) | changes
  path.write_text(json.dumps(content))
  return path


def test_a_split_that_does_not_fit_the_data_is_refused(tmp_path):
  data = make_index(60)
  split = folds.make(data)
  path = tmp_path / 's.json'

  def refused(told, **changes):
    with pytest.raises(ValueError, match=told) as error:
      folds.read(spoiled(data, path, **changes), data)
    assert str(path) in str(error.value)

  first = split.train[0]
  refused(
    '1 of 1 image ids are not in the data set made.*nobody', test=['nobody']
  )
  refused(f'{first} is in the split twice, in train and in test', test=[first])
  refused(f'{first} .*in train and in validation', validation=[first])
  refused('twice, in test and in test', test=[split.test[0]] * 2)
  refused("'trian'", trian=[])
  refused('list of names', test='i00001')
  path.write_text('{"train": [')
  with pytest.raises(ValueError, match='is not a split'):
    folds.read(path, data)
  with pytest.raises(FileNotFoundError, match='No split at'):
    folds.read(tmp_path / 'absent.json', data)


def test_changed_data_are_noticed(tmp_path):
  data = make_index(60)
  path = tmp_path / 's.json'
  folds.make(data).write(path)
  fewer = data.take(np.arange(59))
  with pytest.raises(ValueError, match='not in the data set'):
    folds.read(path, fewer)
  relabelled = dataclasses.replace(data, label=1 - np.abs(data.label))
  with pytest.raises(ValueError, match='made for other data'):
    folds.read(path, relabelled)
