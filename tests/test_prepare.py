"""What a batch goes through on the device, in which order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm.data import augment, colour
from jaxderm.data import prepare as prepare_lib
from jaxderm.data.prepare import COLOURS

# Means 20, 40 and 60: grey-world gives gains of 2, 1 and 2/3.
PIXELS = np.array([[[10, 40, 90], [30, 40, 30]]], np.uint8)
BALANCED = np.array([[[20, 40, 60], [60, 40, 20]]], np.float32)
ALWAYS = dict(hflip=dict(p=1.0))


def make_prepare(*args):
  return jax.jit(prepare_lib.make_prepare(*args))


def batch(image=PIXELS):
  mask = np.zeros((1, *image.shape[:2], 1), np.uint8)
  mask[:, :, 0] = 1
  return {
    'image': jnp.asarray(image)[None],
    'mask': jnp.asarray(mask),
    'label': jnp.asarray([3], jnp.int32),
    'valid': jnp.asarray([1], jnp.float32),
  }


def test_colour_augmentation_normalisation_by_hand():
  prepare = make_prepare('grey_world', ALWAYS, 'unit')
  seen = prepare(batch(), jax.random.key(0))
  expected = BALANCED[:, ::-1] / 255
  np.testing.assert_allclose(seen['image'][0], expected, rtol=1e-6)
  np.testing.assert_array_equal(seen['mask'][0, 0, :, 0], [0, 1])
  assert seen['label'] == 3
  assert seen['valid'] == 1
  assert seen.keys() == batch().keys()


def test_constancy_comes_before_augmentation():
  # An image of one colour, (30, 60, 90), is balanced to 60 in each channel;
  # cutout then paints a quarter or less in pure red. The other way round the
  # red would be in the means and 60 nowhere.
  image = np.tile(np.array([30, 60, 90], np.uint8), (8, 8, 1))
  red = dict(p=1.0, squares=1, low=0.5, high=0.5, fill=(255.0, 0.0, 0.0))
  prepare = make_prepare('grey_world', dict(cutout=red), 'none')
  seen = prepare({'image': jnp.asarray(image)[None]}, jax.random.key(1))
  pixels = np.asarray(seen['image']).reshape(-1, 3)
  painted = (pixels == [255, 0, 0]).all(axis=1)
  assert painted.sum() == 4 * 4
  np.testing.assert_allclose(pixels[~painted], 60, rtol=1e-5)


def test_augmentation_comes_before_normalisation():
  # Exposure clips at 255, which is 1 where the network looks.
  image = np.full((2, 2, 3), 200, np.uint8)
  double = dict(exposure=dict(p=1.0, low=2.0, high=2.0))
  key = jax.random.key(0)
  for name, expected in [('unit', 1.0), ('tf', 1.0), ('none', 255.0)]:
    seen = make_prepare('none', double, name)(batch(image), key)
    np.testing.assert_allclose(seen['image'], expected, rtol=1e-6)


def test_no_key_no_augmentation():
  with_, without = (
    make_prepare('grey_world', recipe, 'unit')(batch(), None)
    for recipe in (ALWAYS, {})
  )
  for name in with_:
    np.testing.assert_array_equal(with_[name], without[name])
  np.testing.assert_allclose(with_['image'][0], BALANCED / 255, rtol=1e-6)
  np.testing.assert_array_equal(with_['mask'], batch()['mask'])


def test_the_key_decides():
  recipe = dict(brightness=dict(p=1.0, amount=0.2))
  prepare = make_prepare('none', recipe, 'none')
  a, b, again = (
    prepare(batch(), jax.random.key(k))['image'] for k in (0, 1, 0)
  )
  np.testing.assert_array_equal(a, again)
  assert (a != b).any()


@pytest.mark.parametrize('constancy', COLOURS)
@pytest.mark.parametrize('key', [None, 0])
def test_uint8_in_float32_out(constancy, key):
  prepare = make_prepare(constancy, ALWAYS, 'none')
  key = key if key is None else jax.random.key(key)
  given = batch()
  seen = prepare(given, key)
  assert seen['image'].dtype == jnp.float32
  assert seen['mask'].dtype == jnp.uint8
  assert given['image'].dtype == jnp.uint8  # the batch given is not changed
  np.testing.assert_array_equal(given['image'][0], PIXELS)


@pytest.mark.parametrize(
  'constancy, expected',
  [
    ('none', PIXELS),
    ('grey_world', BALANCED),
    # Of (30, 40, 120) every channel becomes 130 / sqrt(3), whatever p is.
    ('shades_of_grey', None),
  ],
)
def test_constancies(constancy, expected):
  image = PIXELS
  if expected is None:
    image = np.tile(np.array([30, 40, 120], np.uint8), (2, 2, 1))
    expected = np.full((2, 2, 3), 130 / np.sqrt(3))
  seen = make_prepare(constancy, {}, 'none')(batch(image), None)
  np.testing.assert_allclose(seen['image'][0], expected, rtol=1e-5)


def test_shades_of_grey_is_of_order_six():
  light = np.mean((PIXELS / 255.0) ** 6, axis=(0, 1)) ** (1 / 6)
  expected = PIXELS * np.linalg.norm(light) / (np.sqrt(3) * light)
  seen = make_prepare('shades_of_grey', {}, 'none')(batch(), None)
  expected = np.clip(expected, 0, 255)
  np.testing.assert_allclose(seen['image'][0], expected, rtol=1e-4)


def test_every_normalisation_is_that_of_colour():
  for name in colour.NORMALISATIONS:
    seen = make_prepare('none', {}, name)(batch(), None)['image']
    expected = colour.normalise(jnp.asarray(PIXELS)[None], name)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_unknown_names_are_told_with_those_there_are():
  with pytest.raises(ValueError, match=r"data\.colour.*'gray'") as told:
    make_prepare('gray', {}, 'unit')
  assert all(name in str(told.value) for name in COLOURS)
  with pytest.raises(ValueError, match='flip_h') as told:
    make_prepare('none', dict(flip_h=dict()), 'unit')
  assert all(name in str(told.value) for name in augment.OPERATIONS)
  with pytest.raises(ValueError, match="rotate.*'angle'.*degrees"):
    make_prepare('none', dict(rotate=dict(angle=3)), 'unit')
  with pytest.raises(ValueError, match="'keras'") as told:
    make_prepare('none', {}, 'keras')(batch(), None)
  assert all(name in str(told.value) for name in colour.NORMALISATIONS)
