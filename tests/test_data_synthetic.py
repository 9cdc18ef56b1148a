"""Drawn lesions: the same again for the same arguments, and not too easy."""

import cv2
import numpy as np
import pytest

from jaxderm.data import build, leaks, lesions


def test_same_arguments_same_pixels():
  for one, two in zip(
    lesions.draw(3, 7, 64), lesions.draw(3, 7, 64), strict=True
  ):
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('other', [(4, 7, 64), (3, 8, 64)])
def test_other_arguments_other_pixels(other):
  image, mask = lesions.draw(3, 7, 64)
  drawn, outline = lesions.draw(*other)
  assert np.mean(np.abs(image.astype(int) - drawn)) > 3
  assert np.mean(mask != outline) > 0.01


@pytest.mark.parametrize('size', [32, 100, 256])
def test_sizes(size):
  image, mask = lesions.draw(0, 1, size)
  assert image.shape == (size, size, 3) and image.dtype == np.uint8
  assert mask.shape == (size, size) and set(np.unique(mask)) == {0, 255}


def test_size_changes_the_resolution_and_not_the_lesion():
  _, small = lesions.draw(0, 0, 64)
  _, large = lesions.draw(0, 0, 256)
  shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA) > 127
  assert overlap(small > 0, shrunk) > 0.9


def overlap(a, b):
  return (a & b).sum() / max((a | b).sum(), 1)


@pytest.fixture(scope='module')
def many():
  return [lesions.draw(1, i, 64) for i in range(200)]


def test_lesions_vary_and_are_in_the_picture(many):
  areas = np.array([np.mean(mask > 0) for _, mask in many])
  assert areas.min() > 0.01 and areas.max() < 0.85
  assert np.quantile(areas, 0.9) > 3 * np.quantile(areas, 0.1)


def test_lesions_are_darker_but_no_threshold_finds_them(many):
  darker, best = 0, []
  for image, mask in many:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    inside = mask > 0
    ring = cv2.dilate(mask, np.ones((9, 9))) > 0
    darker += grey[inside].mean() < grey[ring & ~inside].mean()
    _, found = cv2.threshold(
      grey, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU
    )
    best.append(overlap(found > 0, inside))
  assert darker > 0.95 * len(many)
  assert 0.2 < np.mean(best) < 0.7


def test_facts():
  facts = [lesions.facts(0, i) for i in range(2000)]
  shares = np.bincount([f.label for f in facts]) / len(facts)
  np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.04)
  ages = np.array([f.age for f in facts])
  assert 0.01 < np.isnan(ages).mean() < 0.1
  assert np.nanmin(ages) >= 5 and np.nanmax(ages) <= 90
  assert {f.sex for f in facts} == {'female', 'male', ''}
  assert {f.site for f in facts} == set(lesions.SITES)


def test_every_fifth_picture_is_of_the_lesion_before():
  facts = [lesions.facts(0, i) for i in range(10)]
  assert [f.lesion for f in facts] == [0, 1, 2, 3, 3, 5, 6, 7, 8, 8]
  repeated = (facts[3].label, facts[3].age, facts[3].site)
  assert repeated == (facts[4].label, facts[4].age, facts[4].site)
  (one, mask), (two, outline) = lesions.draw(0, 3, 64), lesions.draw(0, 4, 64)
  assert np.mean(np.abs(one.astype(int) - two)) > 3
  assert overlap(mask > 0, outline > 0) > 0.3


def test_other_lesions_do_not_look_like_duplicates(many):
  hashes = np.array([leaks.perceptual_hash(image) for image, _ in many[:100]])
  distance = (hashes[:, None] != hashes[None]).sum(-1)
  lesion = np.array([lesions.facts(1, i).lesion for i in range(100)])
  assert distance[lesion[:, None] != lesion[None]].min() > 40


def test_data_set(synthetic_dir):
  dataset = build.open_or_build(
    'synthetic', data_dir=synthetic_dir, n=24, size=64
  )
  assert len(list(synthetic_dir.iterdir())) == 1  # opened, not built again
  assert dataset.labels == lesions.LABELS
  record = dataset.sources['train'][9]
  image, mask = lesions.draw(0, 9, 64)
  np.testing.assert_array_equal(record['image'], image)
  np.testing.assert_array_equal(record['mask'][..., 0], mask)
  assert record['image_id'] == 'SYN0_000009'
  assert record['lesion_id'] == 'SYN0_L000008'
  more = build.open_or_build('synthetic', data_dir=synthetic_dir, n=25, size=64)
  assert more.path != dataset.path and more.hash != dataset.hash
  np.testing.assert_array_equal(more.sources['train'][9]['image'], image)
