"""What every encoder promises; a new one joins by being in `__all__`."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit
from families import EVERY

from jaxderm.cost import feature_maps
from jaxderm.data import colour
from jaxderm.models import encoders
from jaxderm.models.encoders.efficientnet import scaled
from jaxderm.models.forms import use_form

# Trainable and all, with the default taps. For the EfficientNets they are those
# of `keras.Model(network.input, <output of block6a_expand_activation>)`.
SIZES = {
  'DenseNet121': (6_953_856, 7_037_504),
  'DenseNet169': (12_484_480, 12_642_880),
  'DenseNet201': (18_092_928, 18_321_984),
  'EfficientNetB0': (928_416, 945_927),
  'EfficientNetB1': (1_282_500, 1_306_731),
  'EfficientNetB2': (1_505_704, 1_532_127),
  'EfficientNetB3': (2_302_762, 2_338_417),
  'EfficientNetB4': (3_791_504, 3_842_087),
  'EfficientNetB5': (5_565_880, 5_633_631),
  'EfficientNetB6': (8_122_852, 8_210_795),
  'EfficientNetB7': (12_623_576, 12_745_503),
  'HRNet': (9_489_920, 9_509_184),
  'InceptionResNetV2': (54_276_192, 54_336_736),
  'NASNetLarge': (84_720_150, 84_916_818),
  'NASNetMobile': (4_232_978, 4_269_716),
  'MobileNetV1': (3_206_976, 3_228_864),
  'MobileNetV1x025': (213_072, 218_544),
  'MobileNetV1x050': (818_592, 829_536),
  'MobileNetV1x075': (1_816_560, 1_832_976),
  'MobileNetV2': (2_223_872, 2_257_984),
  'MobileNetV2x035': (396_128, 410_208),
  'MobileNetV2x050': (687_680, 706_224),
  'MobileNetV2x075': (1_355_424, 1_382_064),
  'MobileNetV2x130': (3_721_792, 3_766_048),
  'MobileNetV2x140': (4_315_776, 4_363_712),
  'MobileNetV3Large': (2_971_952, 2_996_352),
  'MobileNetV3Small': (927_008, 939_120),
  'Plain8': (296_040, 297_032),
  'Plain24': (2_654_136, 2_657_112),
  'Plain64': (18_851_136, 18_859_072),
  'PlainResidual64': (4_861_376, 4_864_192),
  'PreResNet18': (11_178_947, 11_186_889),
  'R50ViT': (97_934_656, 97_934_656),
  'ResNeXt50': (22_979_904, 23_048_128),
  'ResNet18': (11_176_512, 11_186_112),
  'ResNet34': (21_284_672, 21_301_696),
  'ResNet50': (23_534_592, 23_587_712),
  'ResNet101': (42_552_832, 42_658_176),
  'ResNet152': (58_219_520, 58_370_944),
  'Xception': (15_310_632, 15_355_944),
  'ShuffleNet': (3_564_240, 3_613_104),
  'SqueezeNet10': (735_424, 735_424),
  'SqueezeNet11': (722_496, 722_496),
  'SwinCao2021': (20_413_386, 20_413_386),
  'SwinTiny': (27_519_354, 27_519_354),
  'VGG16': (14_714_688, 14_714_688),
  'VGG16BN': (14_723_136, 14_731_584),
  'VGG16Do2022': (4_855_360, 4_860_736),
}
SIDES = [(64, 64), (97, 70)]  # 97 is odd at every level but the last
LEAST = {'InceptionResNetV2': 75}  # pixels, where not 64 or fewer
# How much smaller than the image the finest map is, where it is more than half.
FINEST = {'SwinCao2021': 4, 'SwinTiny': 4}


def enough(name, side):
  return tuple(max(n, LEAST.get(name, n)) for n in side)


@functools.cache
def shapes(name, side=(64, 64), taps=None):
  """The pyramid and the variables, as shapes."""
  make = getattr(encoders, name)
  encoder = make() if taps is None else make(taps=taps)
  image = jax.ShapeDtypeStruct((2, *enough(name, side), 3), jnp.float32)
  with use_form('lax'):  # it is traced in half the time
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


@pytest.mark.parametrize('name', EVERY)
@pytest.mark.parametrize('side', SIDES)
def test_pyramid_halves(name, side):
  encoder = getattr(encoders, name)()
  pyramid, _ = shapes(name, side)
  assert len(pyramid) == len(encoder.taps)
  side = enough(name, side)
  height = pyramid[0].shape[1]
  first = -(-side[0] // FINEST.get(name, 2))
  assert height == side[0] or first - 3 <= height <= first
  for fine, coarse in itertools.pairwise(pyramid):
    for axis in (1, 2):
      half = fine.shape[axis] / 2
      # Networks without padding lose up to three pixels on the way.
      assert np.floor(half) - 3 <= coarse.shape[axis] <= np.ceil(half)


@pytest.mark.parametrize('name', EVERY)
def test_nothing_is_built_after_the_last_tap(name):
  """And a tap is the same wherever it stands in the list of those wanted."""
  taps = getattr(encoders, name)().taps
  pyramid, whole = shapes(name)
  for i in (0, len(taps) - 2):
    (feature,), variables = shapes(name, taps=taps[i : i + 1])
    assert feature.shape == pyramid[i].shape
    parts, all_parts = variables['params'], whole['params']
    # VGG ends in a maximum, which has no parameters.
    pool_only = i > 0 and taps[-1].endswith('_pool')
    assert pool_only or set(parts) < set(all_parts)
    # Each part is there in full, or not at all.
    assert jax.tree.structure(parts) == jax.tree.structure(
      {part: all_parts[part] for part in parts}
    )
  backwards, _ = shapes(name, taps=taps[1::-1])
  assert [x.shape for x in backwards] == [x.shape for x in pyramid[:2]]


@pytest.mark.parametrize('name', EVERY)
def test_without_taps_every_map_has_its_name(name):
  encoder = getattr(encoders, name)()
  side = enough(name, (64, 64))
  image = jax.ShapeDtypeStruct((2, *side, 3), jnp.float32)
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


# torchvision's source: B5 to B7 are made with Keras' epsilon and, in torch's
# meaning, a momentum of 0.01; timm's are not.
@pytest.mark.parametrize(
  'name, origin, expected',
  [
    ('EfficientNetB0', 'keras', (1e-3, 0.99)),
    ('EfficientNetB0', 'torch', (1e-5, 0.9)),
    ('EfficientNetB4', 'torch', (1e-5, 0.9)),
    ('EfficientNetB5', 'keras', (1e-3, 0.99)),
    ('EfficientNetB5', 'torch', (1e-3, 0.99)),
    ('EfficientNetB7', 'torch', (1e-3, 0.99)),
    ('EfficientNetB7', 'timm', (1e-5, 0.9)),
  ],
)
def test_normalisation_of_efficientnet(name, origin, expected):
  encoder = getattr(encoders, name)(taps=('block2a_project_bn',), origin=origin)
  seen = set()

  def intercept(following, args, kwargs, context):
    if isinstance(context.module, nn.BatchNorm):
      seen.add((context.module.epsilon, context.module.momentum))
    return following(*args, **kwargs)

  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  with nn.intercept_methods(intercept):
    variables = jax.eval_shape(encoder.init, jax.random.key(0), image)
  assert seen == {expected}
  assert ('normalization' in variables['batch_stats']) == (origin == 'keras')
  assert encoder.normalisation == ('none' if origin == 'keras' else 'torch')


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


def test_nasnet_keeps_more_of_the_old_statistics_than_others():
  encoder = encoders.NASNetMobile(taps=('stem_bn1',))
  image = np.ones((2, 9, 9, 3), np.float32)
  variables = draw(encoder, image)
  kernel = variables['params']['stem_conv1']['kernel']
  _, updated = quick_jit(
    lambda v, x: encoder.apply(v, x, True, mutable=['batch_stats'])
  )(variables, image)
  # Every pixel sees the sum of the kernel, without variance.
  old, new = (v['batch_stats']['stem_bn1'] for v in (variables, updated))
  np.testing.assert_allclose(new['var'], 0.9997 * old['var'], rtol=1e-5)
  step = 0.0003 * (np.sum(kernel, axis=(0, 1, 2)) - old['mean'])
  np.testing.assert_allclose(new['mean'] - old['mean'], step, atol=1e-6)
