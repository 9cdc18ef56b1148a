"""Distances between outlines: by hand and against SciPy."""

import numpy as np
import pytest
from scipy.spatial import distance

from jaxderm import boundary


def blob(shape, centre, radii):
  y, x = np.indices(shape)
  return ((y - centre[0]) / radii[0]) ** 2 + (
    (x - centre[1]) / radii[1]
  ) ** 2 < 1


def by_scipy(predicted, true):
  points = [np.argwhere(boundary.boundary(m)) for m in (predicted, true)]
  ways = [distance.directed_hausdorff(*p)[0] for p in (points, points[::-1])]
  table = distance.cdist(*points)
  union = np.concatenate([table.min(axis=0), table.min(axis=1)])
  return max(ways), np.percentile(union, 95)


def test_hausdorff_agrees_with_scipy():
  shape = (60, 80)
  true = blob(shape, (30, 40), (20, 25))
  for predicted in (
    blob(shape, (28, 45), (15, 30)),
    true | blob(shape, (5, 5), (4, 4)),
    true & ~blob(shape, (30, 40), (5, 5)),
    np.random.default_rng(0).random(shape) < 0.1,
  ):
    for pair in ((predicted, true), (true, predicted)):
      np.testing.assert_allclose(
        boundary.hausdorff(*pair), by_scipy(*pair), rtol=1e-12
      )


def test_hausdorff_by_hand():
  # A pixel 3 down and 4 right of the other, and the union of 2 distances.
  a, b = np.zeros((2, 10, 10), bool)
  a[1, 1] = b[4, 5] = True
  assert boundary.hausdorff(a, b) == (5.0, 5.0)
  # 1 far pixel in a union of 1 + 2 distances 0, 0, 5: ranks 0, 1, 2, and 95 %
  # of 2 is 1.9, so 0.9 of the way to 5.
  b[1, 1] = True
  assert boundary.hausdorff(a, b) == (5.0, pytest.approx(4.5))


def test_hausdorff_of_empty_masks():
  some, none = np.ones((3, 4), bool), np.zeros((3, 4), bool)
  assert boundary.hausdorff(none, none) == (0, 0)
  assert boundary.hausdorff(some, none) == (5, 5)
  assert boundary.hausdorff(none, some[..., None] & none[..., None]) == (0, 0)
  assert boundary.hausdorff(none, some) == (5, 5)
  assert boundary.hausdorff(some, some) == (0, 0)


def test_boundary_is_one_pixel_wide_and_follows_the_frame():
  mask = np.zeros((6, 6), np.uint8)
  mask[0:4, 1:5] = 1
  expected = mask.astype(bool)
  expected[1:3, 2:4] = False
  np.testing.assert_array_equal(boundary.boundary(mask), expected)


def test_hausdorff_refuses_other_shapes():
  with pytest.raises(ValueError, match='differ in shape'):
    boundary.hausdorff(np.ones((3, 4), bool), np.ones((4, 3), bool))
  with pytest.raises(ValueError, match='one image'):
    boundary.hausdorff(np.ones((2, 3, 4), bool), np.ones((2, 3, 4), bool))
