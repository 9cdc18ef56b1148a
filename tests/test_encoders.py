"""What every encoder promises; a new one joins by being in `__all__`."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm.cost import feature_maps
from jaxderm.data import colour
from jaxderm.models import encoders
from jaxderm.models.encoders.efficientnet import scaled

# Trainable and all, with the default taps. For the EfficientNets they are those
# of `keras.Model(network.input, <output of block6a_expand_activation>)`.
SIZES = {
  'EfficientNetB0': (928_416, 945_927),
  'EfficientNetB1': (1_282_500, 1_306_731),
  'EfficientNetB2': (1_505_704, 1_532_127),
  'EfficientNetB3': (2_302_762, 2_338_417),
  'EfficientNetB4': (3_791_504, 3_842_087),
  'EfficientNetB5': (5_565_880, 5_633_631),
  'EfficientNetB6': (8_122_852, 8_210_795),
  'EfficientNetB7': (12_623_576, 12_745_503),
  'Plain8': (296_040, 297_032),
  'Plain24': (2_654_136, 2_657_112),
  'PreResNet18': (11_178_947, 11_186_889),
  'ResNeXt50': (22_979_904, 23_048_128),
  'ResNet18': (11_176_512, 11_186_112),
  'ResNet34': (21_284_672, 21_301_696),
  'ResNet50': (23_534_592, 23_587_712),
  'ResNet101': (42_552_832, 42_658_176),
  'ResNet152': (58_219_520, 58_370_944),
}
SIDES = [(64, 64), (97, 70)]  # 97 is odd at every level but the last


@functools.cache
def shapes(name, side=(64, 64), taps=None):
  """The pyramid and the variables, as shapes."""
  make = getattr(encoders, name)
  encoder = make() if taps is None else make(taps=taps)
  image = jax.ShapeDtypeStruct((2, *side, 3), jnp.float32)
  return jax.eval_shape(
    lambda x: encoder.init_with_output(jax.random.key(0), x), image
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_every_encoder_has_a_size():
  assert set(SIZES) == set(encoders.__all__)


@pytest.mark.parametrize('name', SIZES)
def test_size(name):
  _, variables = shapes(name)
  assert (count(variables['params']), count(variables)) == SIZES[name]


@pytest.mark.parametrize('name', encoders.__all__)
@pytest.mark.parametrize('side', SIDES)
def test_pyramid_halves(name, side):
  encoder = getattr(encoders, name)()
  pyramid, _ = shapes(name, side)
  assert len(pyramid) == len(encoder.taps)
  height = pyramid[0].shape[1]
  assert height == side[0] or -(-side[0] // 2) - 3 <= height <= -(-side[0] // 2)
  for fine, coarse in itertools.pairwise(pyramid):
    for axis in (1, 2):
      half = fine.shape[axis] / 2
      # Networks without padding lose up to three pixels on the way.
      assert np.floor(half) - 3 <= coarse.shape[axis] <= np.ceil(half)


@pytest.mark.parametrize('name', encoders.__all__)
def test_nothing_is_built_after_the_last_tap(name):
  """And a tap is the same wherever it stands in the list of those wanted."""
  taps = getattr(encoders, name)().taps
  pyramid, whole = shapes(name)
  for i in (0, len(taps) - 2):
    (feature,), variables = shapes(name, taps=taps[i : i + 1])
    assert feature.shape == pyramid[i].shape
    parts, all_parts = variables['params'], whole['params']
    assert set(parts) < set(all_parts)
    # Each part is there in full, or not at all.
    assert jax.tree.structure(parts) == jax.tree.structure(
      {part: all_parts[part] for part in parts}
    )
  backwards, _ = shapes(name, taps=taps[1::-1])
  assert [x.shape for x in backwards] == [x.shape for x in pyramid[:2]]


@pytest.mark.parametrize('name', encoders.__all__)
def test_without_taps_every_map_has_its_name(name):
  encoder = getattr(encoders, name)()
  image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
  every = feature_maps(encoder, image)
  pyramid, _ = shapes(name)
  for tap, feature in zip(encoder.taps, pyramid, strict=True):
    assert every[tap].shape == feature.shape
  if hasattr(encoder, 'classes'):
    assert list(every)[-1] == 'predictions'
    assert every['predictions'].shape == (2, 1, 1, 1000)


@pytest.mark.parametrize('name', ['EfficientNetB0', 'Plain8'])
def test_unknown_tap_lists_those_there_are(name):
  first = 'stem_activation, ' if name == 'EfficientNetB0' else 'stage1, stage2'
  with pytest.raises(ValueError, match=f"'stage99'; there are: {first}"):
    shapes(name, taps=('stage99',))


@pytest.mark.parametrize('name', encoders.__all__)
def test_says_what_its_input_needs(name):
  assert getattr(encoders, name)().normalisation in colour.NORMALISATIONS


# 32 * 1.1 = 35.2 is nearer to 32, which is above 0.9 * 35.2; 16 * 1.4 = 22.4
# is nearer to 24; 8 * 1.4 = 11.2 would fall to 8, below 10.08, so 16.
@pytest.mark.parametrize(
  'features, width, expected', [(32, 1.1, 32), (16, 1.4, 24), (8, 1.4, 16)]
)
def test_scaled(features, width, expected):
  assert scaled(features, width) == expected


def test_stochastic_depth_drops_whole_images():
  encoder = encoders.EfficientNetB0(taps=('block2b_add',), drop_rate=0.9)
  image = np.full((8, 16, 16, 3), 100.0, np.float32)
  variables = draw(encoder, image)

  @quick_jit
  def apply(key):
    (feature,), updated = encoder.apply(
      variables, image, True, mutable=['batch_stats'], rngs={'dropout': key}
    )
    return feature, updated['batch_stats']

  a, updated = apply(jax.random.key(0))
  b, _ = apply(jax.random.key(1))
  assert not jnp.allclose(a, b)
  # The images are equal, so every one of an outcome is like every other.
  assert len(np.unique(np.round(np.asarray(a).reshape(8, -1), 4), axis=0)) <= 2
  jax.tree.map(
    np.testing.assert_array_equal,
    updated['normalization'],
    variables['batch_stats']['normalization'],
  )


def test_normaliser_is_that_of_imagenet():
  encoder = encoders.EfficientNetB0(taps=('stem_activation',))
  image = np.ones((1, 16, 16, 3), np.float32)
  variables = quick_jit(encoder.init)(jax.random.key(0), image)
  stats = variables['batch_stats']['normalization']
  np.testing.assert_allclose(stats['mean'], [0.485, 0.456, 0.406])
  np.testing.assert_allclose(
    np.sqrt(stats['variance']), [0.229, 0.224, 0.225], rtol=1e-6
  )
  assert stats['count'].shape == ()
