"""Colour: constancy, normalisation, HSV and CLAHE against OpenCV."""

import colorsys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm.data import colour


def photograph(height=64, width=64, seed=0):
  """A smooth reddish image with a dark blot and some noise, uint8."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / max(height, width)
  blot = np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.03)
  base = np.stack([210 - 120 * blot, 160 - 110 * blot, 140 - 80 * blot], -1)
  noisy = base + 30 * x[..., None] + rng.normal(0, 6, base.shape)
  return np.clip(noisy, 0, 255).astype(np.uint8)


def test_grey_world_by_hand():
  # Means 20, 40 and 60 become 40: the gains are 2, 1 and 2/3.
  image = np.array([[[10, 40, 90], [30, 40, 30]]], np.uint8)[None]
  expected = [[[[20, 40, 60], [60, 40, 20]]]]
  actual = colour.grey_world(jnp.asarray(image))
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  assert actual.dtype == jnp.float32


def test_grey_world_clips():
  image = np.array([[[255, 200, 200], [0, 200, 200]]], np.float32)
  # Means 127.5, 200 and 200 become 175.83: red's 255 would be 351.7.
  actual = colour.grey_world(jnp.asarray(image))
  np.testing.assert_allclose(actual[0, 0], [255, 175.833, 175.833], rtol=1e-5)
  # Means 100, 0 and 255 become 355/3, except that nothing makes 0 brighter.
  image = np.array([[[0, 0, 255], [200, 0, 255]]], np.float32)
  actual = colour.grey_world(jnp.asarray(image))
  np.testing.assert_allclose(actual[0, 1], [236.667, 0, 118.333], rtol=1e-5)


def test_shades_of_grey_by_hand():
  # A uniform image: e = (3, 4, 12) / 13, so every channel becomes the length
  # of (30, 40, 120), 130, over sqrt(3), whatever p is.
  image = jnp.full((1, 2, 2, 3), jnp.asarray([30.0, 40.0, 120.0]))
  for p in (2, 6):
    np.testing.assert_allclose(
      colour.grey_world(image, p=p), 130 / np.sqrt(3), rtol=1e-5
    )


@pytest.mark.parametrize('p', [3, 6])
def test_shades_of_grey_against_numpy(p):
  image = photograph().astype(np.float64)
  light = np.mean(image**p, axis=(0, 1)) ** (1 / p)
  light /= np.linalg.norm(light)
  expected = np.clip(image / (np.sqrt(3) * light), 0, 255)
  actual = colour.grey_world(jnp.asarray(photograph())[None], p=p)[0]
  np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_grey_world_of_a_batch_is_that_of_each_image():
  batch = jnp.stack([photograph(seed=s) for s in range(3)])
  batch = batch.at[1].set(batch[1] // 2)
  whole = colour.grey_world(batch)
  for i in range(3):
    np.testing.assert_allclose(whole[i], colour.grey_world(batch[i]), rtol=1e-5)


@pytest.mark.parametrize('p', [1, 6])
def test_grey_world_of_black_is_black(p):
  black = jnp.zeros((1, 4, 4, 3))
  np.testing.assert_array_equal(colour.grey_world(black, p=p), black)


def test_grey_world_refuses_small_p():
  with pytest.raises(ValueError, match='at least 1'):
    colour.grey_world(jnp.zeros((1, 2, 2, 3)), p=0)


@pytest.mark.parametrize(
  'name, expected',
  [
    ('none', [255, 0, 51]),
    ('unit', [1, 0, 0.2]),
    ('min_max', [1, 0, 0.2]),
    (
      'imagenet_mean',
      [131.32 / 255, -116.779 / 255, (51 - 103.939) / 255],
    ),
    ('tf', [1, -1, -0.6]),
    ('torch', [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]),
    ('caffe', [51 - 103.939, -116.779, 131.32]),
    ('caffe_104', [-53, -117, 132]),
  ],
)
def test_normalise(name, expected):
  image = jnp.asarray([255, 0, 51], jnp.uint8).reshape(1, 1, 1, 3)
  actual = colour.normalise(image, name)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual[0, 0, 0], expected, rtol=1e-5)


def test_min_max_by_hand_and_of_each_image():
  image = np.array([[[10, 40, 90], [30, 60, 20]]], np.uint8)
  dark = image // 10 + 5  # 6 to 14
  batch = jnp.asarray(np.stack([image, dark]))
  actual = colour.normalise(batch, 'min_max')
  # One range for all channels: 10 to 90.
  expected = [[0, 3 / 8, 1], [1 / 4, 5 / 8, 1 / 8]]
  np.testing.assert_allclose(actual[0, 0], expected, rtol=1e-6)
  expected = [[0, 3 / 8, 1], [2 / 8, 5 / 8, 1 / 8]]
  np.testing.assert_allclose(actual[1, 0], expected, rtol=1e-6)
  for value in (0, 77):
    flat = jnp.full((1, 2, 2, 3), value, jnp.uint8)
    np.testing.assert_array_equal(colour.normalise(flat, 'min_max'), 0)


@pytest.mark.parametrize('mode', ['tf', 'torch', 'caffe'])
def test_normalise_against_keras(mode, monkeypatch):
  monkeypatch.setenv('KERAS_BACKEND', 'jax')
  keras = pytest.importorskip('keras')
  image = photograph()[None].astype(np.float32)
  expected = keras.applications.imagenet_utils.preprocess_input(
    image.copy(), data_format='channels_last', mode=mode
  )
  np.testing.assert_allclose(
    colour.normalise(jnp.asarray(image), mode), expected, atol=1e-4
  )


def test_normalise_lists_the_right_names():
  with pytest.raises(ValueError, match=r"'Torch'.*caffe"):
    colour.normalise(jnp.zeros((1, 2, 2, 3)), 'Torch')


def test_hsv_against_opencv():
  image = np.random.default_rng(0).uniform(0, 255, (32, 32, 3))
  image = image.astype(np.float32)
  image[0] = image[0, :, :1]  # greys
  image[1] = 0
  image[2, :, 1:] = image[2, :, 1:2]  # ties
  expected = cv2.cvtColor(image / 255, cv2.COLOR_RGB2HSV)
  actual = np.stack(colour.rgb_to_hsv(jnp.asarray(image)), -1)
  turn = np.abs(actual[..., 0] - expected[..., 0])
  assert np.minimum(turn, 360 - turn).max() < 2e-2  # degrees
  np.testing.assert_allclose(actual[..., 1:], expected[..., 1:], atol=1e-5)


def test_hsv_there_and_back():
  image = photograph().astype(np.float32)
  image[0] = 77
  image[1] = 0
  back = colour.hsv_to_rgb(*colour.rgb_to_hsv(jnp.asarray(image)))
  np.testing.assert_allclose(back, image, atol=1e-3)


@pytest.mark.parametrize('hue', [-30, 0, 59, 60, 121, 200, 299, 360, 725])
def test_hsv_to_rgb_against_colorsys(hue):
  expected = 255 * np.asarray(colorsys.hsv_to_rgb(hue / 360 % 1, 0.6, 0.8))
  actual = colour.hsv_to_rgb(*map(jnp.float32, (hue, 0.6, 0.8)))
  np.testing.assert_allclose(actual, expected, atol=1e-3)


@pytest.mark.parametrize('size', [(64, 64), (128, 96), (60, 64), (50, 77)])
@pytest.mark.parametrize('clip', [1.0, 1.37, 2.0, 4.0])
def test_clahe_against_opencv(size, clip):
  plane = cv2.cvtColor(photograph(*size), cv2.COLOR_RGB2GRAY)
  expected = cv2.createCLAHE(clip, (8, 8)).apply(plane).astype(int)
  actual = np.asarray(colour.clahe(jnp.asarray(plane, jnp.float32), clip))
  assert actual.std() > 20
  assert np.abs(actual - expected).max() <= 1
  # Tiles of 8 or 16 px divide exactly; else some halves round the other way.
  exact = size == (64, 64)
  assert np.mean(actual != expected) <= (0 if exact else 4e-3)


def test_clahe_takes_other_tiles_and_traced_clips():
  plane = cv2.cvtColor(photograph(), cv2.COLOR_RGB2GRAY)
  planes = jnp.stack([jnp.asarray(plane, jnp.float32)] * 2)
  clips = jnp.asarray([1.5, 3.0])
  apply = jax.jit(jax.vmap(lambda p, c: colour.clahe(p, c, tiles=4)))
  actual = np.asarray(apply(planes, clips))
  for i, clip in enumerate([1.5, 3.0]):
    expected = cv2.createCLAHE(clip, (4, 4)).apply(plane).astype(int)
    assert np.abs(actual[i] - expected).max() <= 1


def test_equalise_against_opencv():
  image = photograph(128, 128)
  ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
  ycc[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(ycc[..., 0])
  expected = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB).astype(float)
  actual = colour.equalise(jnp.asarray(image, jnp.float32), 2.0)
  # OpenCV rounds Cr and Cb to 8 bits, which may cost two levels in blue.
  assert np.abs(np.asarray(actual) - expected).max() <= 3
  assert np.abs(np.asarray(actual) - image).mean() > 5
