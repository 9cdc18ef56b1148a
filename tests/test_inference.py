"""Views, members and their means, against NumPy."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm import inference, sharding, task

# Each view as NumPy has it, on [B, H, W, C].
NUMPY = {
  'identity': (lambda x: x, lambda x: x),
  'hflip': (lambda x: x[:, :, ::-1], lambda x: x[:, :, ::-1]),
  'vflip': (lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
  'rot90': (
    lambda x: np.rot90(x, 1, (1, 2)),
    lambda x: np.rot90(x, 3, (1, 2)),
  ),
  'rot180': (lambda x: x[:, ::-1, ::-1], lambda x: x[:, ::-1, ::-1]),
  'rot270': (
    lambda x: np.rot90(x, 3, (1, 2)),
    lambda x: np.rot90(x, 1, (1, 2)),
  ),
}
EVERY = tuple(NUMPY)


class Ramp(nn.Module):
  """Sees where it is: the logit is the pixel times a weight plus its column."""

  classes: bool = False

  @nn.compact
  def __call__(self, image, train):
    weight = self.param('weight', nn.initializers.ones, ())
    x = image[..., :1] * weight + jnp.arange(image.shape[2])[:, None]
    return x[:, 0, 0] if self.classes else x


def numpy_ramp(image, weight=1.0):
  x = image[..., :1] * weight + np.arange(image.shape[2])[:, None]
  return 1 / (1 + np.exp(-x))


def variables(weight=1.0):
  return {'params': {'weight': jnp.float32(weight)}}


def unit(batch, key):
  assert key is None
  return {**batch, 'image': batch['image'].astype(jnp.float32) / 255}


@pytest.fixture(scope='module')
def segmentation():
  return task.segmentation({'name': 'bce'})


@pytest.fixture
def batch(mesh):
  image = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3))
  return sharding.place({'image': image.astype(np.uint8)}, mesh)


def pixels(batch):
  return np.asarray(batch['image']).astype(np.float64) / 255


def test_numpys_table_is_of_every_view():
  assert NUMPY.keys() == inference.VIEWS.keys()


@pytest.mark.parametrize('view', EVERY)
def test_views_are_numpys(view):
  x = np.arange(2 * 3 * 5 * 2).reshape(2, 3, 5, 2)
  for ours, numpys in zip(inference.VIEWS[view], NUMPY[view], strict=True):
    np.testing.assert_array_equal(ours(jnp.asarray(x)), numpys(x))


@pytest.mark.parametrize('view', EVERY)
def test_there_and_back_changes_nothing(view):
  x = jnp.arange(2 * 3 * 5 * 2).reshape(2, 3, 5, 2)
  there, back = inference.VIEWS[view]
  seen = there(x)
  np.testing.assert_array_equal(back(seen), x)
  quarter = view in ('rot90', 'rot270')
  assert seen.shape == ((2, 5, 3, 2) if quarter else x.shape)
  if view != 'identity':
    assert seen.shape != x.shape or (seen != x).any()


def test_views_are_different():
  x = jnp.arange(9).reshape(1, 3, 3, 1)
  seen = {
    tuple(np.asarray(there(x)).ravel()) for there, _ in inference.VIEWS.values()
  }
  assert len(seen) == len(EVERY)


@pytest.mark.parametrize(
  'views', [('identity',), ('hflip',), ('identity', 'rot90'), EVERY]
)
def test_probabilities_are_averaged_after_the_way_back(
  views, mesh, segmentation, batch
):
  predict = inference.make_predict(
    Ramp(), segmentation, unit, mesh, views=views
  )
  image = pixels(batch)
  expected = np.mean(
    [NUMPY[v][1](numpy_ramp(NUMPY[v][0](image))) for v in views], axis=0
  )
  actual = predict(variables(), batch)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  if views != ('identity',):  # Ramp is not equivariant, so views matter
    assert np.abs(numpy_ramp(image) - expected).max() > 0.01


def test_a_mean_of_probabilities_is_not_of_logits(mesh, segmentation):
  # Columns 0 and 3 of a black image: sigmoid(0) and sigmoid(3), mean 0.7263,
  # where the mean logit, 1.5, would give 0.8176.
  black = sharding.place({'image': np.zeros((1, 1, 4, 3), np.uint8)}, mesh)
  predict = inference.make_predict(
    Ramp(), segmentation, unit, mesh, views=('identity', 'hflip')
  )
  first = float(predict(variables(), black)[0, 0, 0, 0])
  assert first == pytest.approx(0.726287, abs=1e-5)


def test_probabilities_of_classes_are_not_turned(mesh, segmentation, batch):
  import dataclasses

  import jax

  classes = dataclasses.replace(segmentation, probabilities=jax.nn.sigmoid)
  predict = inference.make_predict(
    Ramp(classes=True), classes, unit, mesh, views=('identity', 'hflip')
  )
  image = pixels(batch)
  corners = image[:, 0, [0, -1], 0]
  expected = np.mean(1 / (1 + np.exp(-corners)), axis=1)
  np.testing.assert_allclose(
    predict(variables(), batch)[:, 0], expected, atol=1e-6
  )


def test_bfloat16_is_near_and_float32_comes_out(mesh, segmentation, batch):
  exact, narrow = (
    inference.make_predict(Ramp(), segmentation, unit, mesh, precision=p)(
      variables(1.37), batch
    )
    for p in ('float32', 'bfloat16')
  )
  assert narrow.dtype == jnp.float32
  assert (exact != narrow).any()
  np.testing.assert_allclose(exact, narrow, atol=0.01)


def test_members_by_hand(mesh, segmentation):
  # A white image of one column: sigmoid of the weight. Of 0, ln 3 and -ln 3
  # that is 1/2, 3/4 and 1/4.
  white = sharding.place({'image': np.full((1, 1, 1, 3), 255, np.uint8)}, mesh)
  predict = inference.make_predict(Ramp(), segmentation, unit, mesh)
  half, more, less = map(variables, (0.0, np.log(3), -np.log(3)))

  def mean(members, weights=None):
    return float(
      inference.mean_of_members(predict, members, white, weights)[0, 0, 0, 0]
    )

  assert mean([half]) == pytest.approx(1 / 2)
  assert mean([half, more]) == pytest.approx(5 / 8)
  assert mean([half, more, less]) == pytest.approx(1 / 2)
  # Weights need not add up to one: (1 * 3/4 + 3 * 1/4) / 4.
  assert mean([more, less], [1, 3]) == pytest.approx(3 / 8)
  assert mean([more, less], [0.0, 2.0]) == pytest.approx(1 / 4)
  assert mean([more, less], [1.0, 1.0]) == mean([more, less])
  with pytest.raises(ValueError, match='zip'):
    mean([more, less], [1.0])


def test_views_and_members_commute(mesh, segmentation, batch):
  predict = inference.make_predict(
    Ramp(), segmentation, unit, mesh, views=EVERY
  )
  members = [variables(w) for w in (0.5, 2.0)]
  image = pixels(batch)
  expected = np.mean(
    [
      NUMPY[v][1](numpy_ramp(NUMPY[v][0](image), w))
      for v in EVERY
      for w in (0.5, 2.0)
    ],
    axis=0,
  )
  actual = inference.mean_of_members(predict, members, batch)
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_an_unknown_view_is_told(mesh, segmentation):
  with pytest.raises(ValueError, match=r"evaluate\.views.*'sideways'") as told:
    inference.make_predict(
      Ramp(), segmentation, unit, mesh, views=('identity', 'sideways')
    )
  assert all(view in str(told.value) for view in EVERY)


def test_weighted_means_by_hand():
  rng = np.random.default_rng(0)
  a, b = rng.random((2, 3, 4), np.float32)
  np.testing.assert_array_equal(inference.weighted_mean([a], [1.0]), a)
  np.testing.assert_allclose(
    inference.weighted_mean([a, b], [1, 3]), (a + 3 * b) / 4, rtol=1e-6
  )
  np.testing.assert_array_equal(
    inference.weighted_mean([a, b]), inference.weighted_mean([b, a], [2, 2])
  )
  # Whole maps of float64 would take twice the memory.
  mean = inference.weighted_mean([a, b], np.array([0.25, 0.75]))
  assert mean.dtype == np.float32
