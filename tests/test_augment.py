"""Augmentation: exact moves, sampling against SciPy, keys and recipes."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from compiling import quick_jit
from scipy import ndimage

from jaxderm.data import augment, geometry

KEY = jax.random.key(0)
SIZE = 24


def smooth(count=4, height=SIZE, width=SIZE, seed=0):
  """Smooth images in 7..247 and masks of red above 127, half of each image."""
  rng = np.random.default_rng(seed)
  image = rng.normal(size=(count, height, width, 3))
  sigma = max(height, width) / 8
  image = ndimage.gaussian_filter(image, (0, sigma, sigma, 0), mode='mirror')
  image -= np.median(image, (1, 2), keepdims=True)
  image = 127 + 120 * image / np.abs(image).max((1, 2), keepdims=True)
  mask = (image[..., :1] > 127).astype(np.uint8)
  return {'image': jnp.asarray(image, jnp.float32), 'mask': jnp.asarray(mask)}


def apply(batch, recipe, jit=quick_jit):
  return jit(lambda k, b: augment.augment(k, b, recipe))(KEY, batch)


apply_exactly = functools.partial(apply, jit=jax.jit)


@functools.cache
def compiled(name):
  """(key, batch) to batch by a paper's recipe, given as a config has it."""
  recipe = ml_collections.ConfigDict(augment.RECIPES[name])
  return quick_jit(lambda k, b: augment.augment(k, b, recipe))


def fraction_changed(before, after):
  changed = np.any(np.asarray(before) != np.asarray(after), axis=(1, 2, 3))
  return changed.mean()


@pytest.mark.parametrize(
  'name, axis', [('hflip', 2), ('vflip', 1)], ids=['hflip', 'vflip']
)
@pytest.mark.parametrize('size', [(SIZE, SIZE), (13, 18)])
def test_flips_are_exact(name, axis, size):
  batch = smooth(3, *size)
  actual = apply_exactly(batch, {name: {'p': 1.0}})
  for entry in ('image', 'mask'):
    expected = np.flip(batch[entry], axis)
    np.testing.assert_array_equal(actual[entry], expected)


@pytest.mark.parametrize('size', [SIZE, 17])
def test_rot90_is_exact_and_takes_all_three_turns(size):
  batch = smooth(40, size, size)
  actual = apply_exactly(batch, {'rot90': {'p': 1.0}})
  seen = set()
  for i in range(40):
    turns = [
      k
      for k in range(4)
      if np.array_equal(actual['image'][i], np.rot90(batch['image'][i], k))
    ]
    assert len(turns) == 1
    np.testing.assert_array_equal(
      actual['mask'][i], np.rot90(batch['mask'][i], turns[0])
    )
    seen.add(turns[0])
  assert seen == {1, 2, 3}


def test_d4_reaches_all_eight_positions():
  image = jnp.arange(4.0).reshape(1, 2, 2, 1) * jnp.ones((200, 1, 1, 3))
  actual = apply({'image': image}, augment.RECIPES['d4'])
  corners = np.asarray(actual['image'][..., 0]).reshape(200, 4)
  positions, counts = np.unique(corners, axis=0, return_counts=True)
  assert len(positions) == 8
  assert counts.min() > 10


AFFINE = [
  [[0.8, -0.6, 3.3], [0.6, 0.8, -2.2], [0, 0, 1]],
  [[1.7, 0.3, 9.0], [-0.4, 2.5, 30.0], [0, 0, 1]],  # reflects more than once
  [[0.5, 0.0, 0.25], [0.0, 0.5, -0.75], [0, 0, 1]],
]


@pytest.mark.parametrize('matrix', AFFINE)
@pytest.mark.parametrize('mode', ['mirror', 'nearest'])
def test_warp_against_scipy(matrix, mode):
  height, width = 20, 31
  batch = smooth(1, height, width)
  image, mask = batch['image'][0], batch['mask'][0]
  actual, moved = geometry.warp(
    image, mask, jnp.asarray(matrix, jnp.float32), mode=mode
  )
  centre = np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
  y, x = np.mgrid[:height, :width] - centre
  places = np.einsum('ij,jhw->ihw', matrix, np.stack([y, x, 0 * x + 1]))
  places = places[:2] + centre
  for c in range(3):
    expected = ndimage.map_coordinates(
      np.asarray(image[..., c]), places, order=1, mode=mode
    )
    np.testing.assert_allclose(actual[..., c], expected, atol=5e-3)
  expected = ndimage.map_coordinates(
    np.asarray(mask[..., 0]), places, order=0, mode=mode
  )
  assert 0.1 < expected.mean() < 0.9
  # Halves may round the other way.
  assert np.mean(np.asarray(moved[..., 0]) != expected) < 0.01


def test_operations_compose_in_the_order_of_the_table():
  """A flip after a shift is not a shift after a flip."""
  batch = smooth(1)
  recipe = {'hflip': {'p': 1.0}, 'shift': {'p': 1.0, 'fraction': 0.3}}
  both = apply(batch, recipe)['image']
  shifted = apply(batch, {'shift': recipe['shift']})['image']
  np.testing.assert_allclose(both, np.flip(shifted, 2), atol=1e-2)
  other = apply(
    {'image': batch['image'][:, :, ::-1]}, {'shift': recipe['shift']}
  )['image']
  assert np.abs(np.asarray(both) - other).max() > 20


def test_crop_stays_inside():
  ramp = jnp.broadcast_to(
    jnp.arange(40.0)[None, :, None, None], (64, 40, 40, 3)
  )
  recipe = {'crop': {'p': 1.0, 'low': 0.5, 'high': 0.5}}
  image = np.asarray(apply({'image': ramp}, recipe)['image'])
  rows = image[:, :, 0, 0]
  # Half of 40 rows, seen twice as large, starts anywhere in -0.5..19.5; the
  # places are a quarter pixel inside the window.
  np.testing.assert_allclose(np.diff(rows, axis=1)[:, 1:-1], 0.5, atol=1e-3)
  assert rows[:, 1].min() >= 0.25 - 1e-3
  assert rows[:, -2].max() <= 38.75 + 1e-3
  assert rows[:, 0].std() > 3


def test_centre_crop_by_hand():
  ramp = jnp.broadcast_to(jnp.arange(10.0)[None, None, :, None], (1, 10, 10, 3))
  recipe = {'centre_crop': {'p': 1.0, 'fraction': 0.8}}
  row = apply({'image': ramp}, recipe)['image'][0, 4, :, 0]
  np.testing.assert_allclose(row, 4.5 + 0.8 * (np.arange(10) - 4.5), atol=1e-5)


@pytest.mark.parametrize('name', ['yang2021', 'do2022'])
def test_mask_moves_with_the_image(name):
  batch = smooth(8, 64, 64)
  recipe = {
    k: v
    for k, v in augment.RECIPES[name].items()
    if k in augment.GEOMETRY or k == 'border'
  }
  after = apply(batch, recipe)
  image, mask = np.asarray(after['image']), np.asarray(after['mask'])
  assert mask.dtype == np.uint8
  assert set(np.unique(mask)) == {0, 1}
  assert fraction_changed(batch['mask'], mask) > 0.8
  away = np.abs(image[..., :1] - 127) > 12  # from the edge of the lesion
  assert away.mean() > 0.7
  np.testing.assert_array_equal(mask[away], image[..., :1][away] > 127)


@pytest.mark.parametrize('name', [*augment.GEOMETRY, *augment.COLOUR])
def test_every_operation(name):
  """Half of 32 equal images keep every bit; the rest differ, in 0..255."""
  batch = jax.tree.map(lambda x: jnp.repeat(x, 32, axis=0), smooth(1))
  batch['image'] = batch['image'].at[:, :4].add(0.3)  # no whole levels
  # A whole tile of 24 px is large enough for limits of 1 to 4 to differ.
  more = {'tiles': 1} if name == 'clahe' else {}
  after = apply(batch, {name: {'p': 0.5, **more}})
  image = np.asarray(after['image'])
  changed = np.any(image != batch['image'], axis=(1, 2, 3))
  assert 0.2 < changed.mean() < 0.8
  assert image.shape == batch['image'].shape
  assert image.dtype == np.float32
  assert image.min() >= 0
  assert image.max() <= 255.001
  if name in augment.COLOUR:
    np.testing.assert_array_equal(after['mask'], batch['mask'])
  kinds = len(np.unique(image[changed], axis=0))
  assert kinds >= {'hflip': 1, 'vflip': 1, 'centre_crop': 1}.get(name, 3)


def test_nothing_changes_a_bit_at_p_zero():
  recipe = {name: {'p': 0.0} for name in augment.OPERATIONS if name != 'border'}
  batch = smooth(4, 20, 26)
  after = apply_exactly(batch, recipe)
  np.testing.assert_array_equal(after['image'], batch['image'])
  np.testing.assert_array_equal(after['mask'], batch['mask'])


def test_undrawn_images_of_a_whole_recipe_keep_every_bit():
  recipe = {k: dict(v) for k, v in augment.RECIPES['yang2021'].items()}
  batch = smooth(64)
  for arguments in recipe.values():
    arguments['p'] = 0.05
  after = apply_exactly(batch, recipe)
  same = 1 - fraction_changed(batch['image'], after['image'])
  assert 0.4 < same < 0.9  # 0.95**9 = 0.63 of the images are left alone


def test_draws_depend_on_key_and_place_alone():
  run = compiled('yang2021')
  batch = smooth(4)
  whole = run(KEY, batch)
  again = run(KEY, batch)
  part = run(KEY, {k: v[:2] for k, v in batch.items()})
  other = run(jax.random.key(1), batch)
  for entry in ('image', 'mask'):
    np.testing.assert_array_equal(whole[entry], again[entry])
    np.testing.assert_allclose(whole[entry][:2], part[entry], atol=1e-3)
  assert fraction_changed(whole['image'], other['image']) == 1


def test_draws_do_not_depend_on_other_operations():
  """Colours do not change where pixels come from, nor does the order."""
  batch = smooth(4)
  recipe = augment.RECIPES['yang2021']
  whole = compiled('yang2021')(KEY, batch)['mask']
  geometry = {k: v for k, v in recipe.items() if k in augment.GEOMETRY}
  backwards = dict(reversed(geometry.items()))
  assert list(backwards) != list(geometry)
  np.testing.assert_array_equal(whole, apply(batch, backwards)['mask'])


def test_brightness_exposure_and_contrast_ranges():
  image = jnp.full((200, 4, 4, 3), 100.0).at[:, 0].set(140.0)
  batch = {'image': image}  # the mean is 110

  def values(name):
    after = apply(batch, {name: {'p': 1.0}})['image']
    return np.asarray(after[:, 0, 0, 0]), np.asarray(after[:, 1, 0, 0])

  high, low = values('brightness')
  np.testing.assert_allclose(high - low, 40, atol=1e-3)
  assert 49 <= low.min() < 55
  assert 145 < low.max() <= 151
  high, low = values('exposure')
  np.testing.assert_allclose(high / low, 1.4, rtol=1e-5)
  assert 80 <= low.min() < 82
  assert 118 < low.max() <= 120
  high, low = values('contrast')
  np.testing.assert_allclose((high - 110) / (low - 110), -3, rtol=1e-3)
  assert 98 <= low.min() < 98.2
  assert 101.8 < low.max() <= 102


def test_cutout_hides_squares_in_the_mean():
  image = np.asarray(smooth(100, 40, 50)['image'])
  recipe = {'cutout': {'p': 1.0, 'squares': 3, 'low': 0.1, 'high': 0.2}}
  after = np.asarray(apply({'image': image}, recipe)['image'])
  mean = np.mean(image, axis=(1, 2), keepdims=True)
  hidden = np.any(after != image, axis=-1)
  np.testing.assert_allclose(
    after[hidden], np.broadcast_to(mean, image.shape)[hidden], rtol=1e-4
  )
  area = hidden.sum((1, 2))
  assert area.min() >= 4**2
  assert area.max() <= 3 * 8**2
  recipe['cutout'].update(low=0.2)  # 8 px, 1 to 3 of them, which may overlap
  after = np.asarray(apply({'image': image}, recipe)['image'])
  area = np.sum(np.any(after != image, axis=-1), axis=(1, 2))
  assert {64, 128, 192} <= set(area)
  assert np.mean(area == 64) > 0.2
  one = {'cutout': {'p': 1.0, 'squares': 1, 'low': 0.25, 'high': 0.25}}
  one['cutout']['fill'] = 300.0  # unlike any pixel
  after = np.asarray(apply({'image': image}, one)['image'])
  np.testing.assert_array_equal(np.sum(after[..., 0] == 300, axis=(1, 2)), 100)


def test_noise_has_the_deviation_asked_for():
  image = jnp.full((4, 64, 64, 3), 127.0)
  recipe = {'noise': {'p': 1.0, 'sigma': 0.1}}
  after = np.asarray(apply({'image': image}, recipe)['image'])
  np.testing.assert_allclose(after.std(), 25.5, rtol=0.02)
  np.testing.assert_allclose(after.mean(), 127, atol=0.5)


def test_hsv_keeps_within_its_ranges():
  image = jnp.full((200, 2, 2, 3), jnp.asarray([180.0, 120.0, 90.0]))
  recipe = {'hsv': {'p': 1.0}}
  after = apply({'image': image}, recipe)['image'][:, 0, 0]
  hue, saturation, value = map(np.asarray, augment.colour.rgb_to_hsv(after))
  # (180, 120, 90) is hue 20, saturation 0.5, value 0.706.
  for actual, centre, reach in [
    (hue, 20, 10),
    (saturation, 0.5, 0.2),
    (value, 180 / 255, 0.1),
  ]:
    assert np.abs(actual - centre).max() <= reach * 1.001
    assert np.abs(actual - centre).max() > 0.95 * reach


def test_other_entries_pass_and_the_mask_is_optional():
  batch = smooth(2)
  batch['label'] = jnp.asarray([3, 4])
  after = apply(batch, augment.RECIPES['flips'])
  np.testing.assert_array_equal(after['label'], [3, 4])
  alone = {'image': batch['image'].astype(jnp.uint8)}
  after = apply(alone, {})
  assert set(after) == {'image'}
  assert after['image'].dtype == jnp.float32
  np.testing.assert_array_equal(after['image'], alone['image'])


@pytest.mark.parametrize(
  'recipe, message',
  [
    ({'rotation': {}}, r"'rotation'.*rotate"),
    ({'rotate': {'angle': 3}}, r"'angle'.*p, degrees"),
    ({'hflip': {'low': 3}}, r"'low'.*takes p"),
    ({'hflip': 0.5}, 'mapping of p'),
    ({'hflip': {'p': 1.5}}, r'0\.\.1, not 1\.5'),
    ({'scale': {'low': 1.3}}, r'1\.3, is above high, 1\.2'),
    ({'border': {'mode': 'wrap'}}, r"'nearest', not 'wrap'"),
    ({'border': {'p': 0.5}}, r"'p'.*takes mode"),
  ],
)
def test_check_says_what_is_right(recipe, message):
  with pytest.raises(ValueError, match=message):
    augment.check(recipe)
  with pytest.raises(ValueError, match=message):
    augment.augment(KEY, smooth(1), recipe)


def test_a_mask_of_another_size_is_refused():
  batch = {**smooth(2), 'mask': jnp.zeros((2, 1, 1, 1), jnp.uint8)}
  with pytest.raises(ValueError, match=r'\[2, 24, 24, 1\].*\[2, 1, 1, 1\]'):
    augment.augment(KEY, batch, {})


@pytest.mark.parametrize('name', augment.RECIPES)
def test_recipes_run_from_a_config(name):
  augment.check(ml_collections.ConfigDict(augment.RECIPES[name]))
  batch = smooth(4)
  after = compiled(name)(KEY, batch)
  assert set(np.unique(after['mask'])) <= {0, 1}
  assert bool(jnp.all(jnp.isfinite(after['image'])))
  if name != 'none':
    assert fraction_changed(batch['image'], after['image']) > 0
