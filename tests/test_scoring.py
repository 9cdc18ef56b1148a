"""What is kept of each image, and where masks are compared."""

import numpy as np
import pytest
from indices import make_index
from PIL import Image
from sklearn.metrics import average_precision_score

from jaxderm import scoring
from jaxderm.data import pipeline

INDEX = make_index(4)


def examples(*masks):
  """Records of those masks [H, W] of 0 and 1."""
  records = [{'mask': m[..., None].astype(np.uint8) * 255} for m in masks]
  return pipeline.Examples(records, np.arange(len(records)), 8)


def blob(height, width, seed=0):
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  centre, radius = rng.uniform(0.3, 0.6, 2), rng.uniform(0.2, 0.3)
  away = np.hypot(y / height - centre[0], x / width - centre[1])
  return away < radius


@pytest.mark.parametrize('size', [4, 7, 16, 33])
@pytest.mark.parametrize('shape', [(48, 64), (19, 23), (12, 12)])
def test_masks_at_the_networks_size_are_pillows(shape, size):
  mask = blob(*shape)
  score = scoring.Masks(INDEX, 0.5, size)
  actual = score.truth(examples(mask), 0)
  image = Image.fromarray(mask.astype(np.uint8))
  expected = np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
  assert actual.dtype == bool and 0 < actual.sum() < size * size
  np.testing.assert_array_equal(actual, expected > 0)


def test_the_middle_pixel_is_taken():
  # Three pixels to one: the middle one alone is lesion, so nothing is lost;
  # the first of each three would give an empty mask.
  mask = np.zeros((6, 6), bool)
  mask[1::3, 1::3] = True
  assert scoring.Masks(INDEX, 0.5, 2).truth(examples(mask), 0).all()


def test_counts_by_hand_at_both_sizes():
  # The left half is lesion; the network says so of the left three quarters.
  mask = np.zeros((4, 8), bool)
  mask[:, :4] = True
  probability = np.zeros((4, 4, 1), np.float32)
  probability[:, :3] = 0.9
  found = {}
  for size in (None, 4):
    score = scoring.Masks(INDEX, 0.5, size)
    truth = score.truth(examples(mask), 0)
    placed = score.place(probability, truth)
    found[size] = dict(
      zip(score.columns, score.measure(placed, truth), strict=True)
    )
  own, network = found[None], found[4]
  # Bilinear: columns 0 to 5 of 8 lie over the first three of the four.
  assert [own[k] for k in ('height', 'width')] == [4, 8]
  assert [own[k] for k in ('tp', 'fp', 'fn', 'tn')] == [16, 8, 0, 8]
  assert own['hausdorff'] == 2
  assert [network[k] for k in ('height', 'width')] == [4, 4]
  assert [network[k] for k in ('tp', 'fp', 'fn', 'tn')] == [8, 4, 0, 4]
  assert network['hausdorff'] == 1


def test_where_masks_are_scored_is_told():
  own, network = scoring.Masks(INDEX, 0.4), scoring.Masks(INDEX, 0.4, 256)
  assert own.facts == {'scored_at': "each image's own size", 'threshold': 0.4}
  assert '256 x 256' in network.facts['scored_at']


def test_masks_are_ranked_by_the_mean_jaccard():
  mask = np.zeros((2, 4), bool)
  mask[:, :2] = True
  score = scoring.Masks(INDEX, 0.5)
  probabilities = [mask * 0.8, np.ones((2, 4)) * 0.6]  # Jaccard 1 and 1/2
  outcomes = [score.outcome(p, mask) for p in probabilities]
  assert score.worth(np.array(outcomes)) == pytest.approx(3 / 4)


def test_classes_are_ranked_by_scikit_learns_average_precision():
  rng = np.random.default_rng(0)
  label = rng.integers(0, 2, 30)
  probability = rng.random((len(label), 2))
  score = scoring.Classes(INDEX, 0.5)
  outcomes = [
    score.outcome(p, t) for p, t in zip(probability, label, strict=True)
  ]
  expected = np.mean(
    [average_precision_score(label == c, probability[:, c]) for c in (0, 1)]
  )
  assert score.worth(np.array(outcomes)) == pytest.approx(expected)


def test_a_class_without_an_image_is_left_out_of_the_rank():
  score = scoring.Classes(INDEX, 0.5)
  probability = np.array([[0.9, 0.1], [0.2, 0.8]])
  outcomes = [score.outcome(p, 0) for p in probability]
  assert score.worth(np.array(outcomes)) == 1  # of class 0 alone
