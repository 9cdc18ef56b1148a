"""The systems of do2022 and le2020: their sizes, maps and inputs."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import real_data

from jaxderm import cost, pretrained, systems
from jaxderm.models.forms import use_form
from jaxderm.models.layers import Encoder
from jaxderm.systems import printing

# All variables with metadata, and of the image alone (SPEC 3.1).
DO = {
  'InceptionResNetV2': (47_654_074, 47_535_287),
  'DenseNet201': (17_596_250, 17_477_463),
  'ResNet50': (24_460_186, 24_341_399),
  'ResNet152': (50_299_802, 50_181_015),
  'MobileNetV2': (1_354_714, 1_235_927),
  'MobileNetV3Large': (2_666_922, 2_548_135),
  'MobileNetV3LargeDepthwise': (2_694_762, 2_575_975),
  'MobileNetV3Small': (990_010, 871_223),
  'NASNetMobile': (3_956_094, 3_837_307),
  'NASNetLarge': (78_573_004, 78_454_217),
}
IMAGE = {
  'do2022/VGG16': 62_650_711,
  'do2022/ResNet50Augmented': 23_911_319,
  'do2022/ResNet152Augmented': 49_750_935,
  # SPEC 5.1.
  'le2020/ResNet50': 24_640_391,
  'le2020/VGG16': 14_980_935,
  'le2020/MobileNet': 3_757_255,
  'le2020/EfficientNetB1': 7_234_702,
}
# Side of the image, pixels of the map, its channels.
MAPS = {
  'InceptionResNetV2': (299, 8, 192),
  'DenseNet201': (224, 7, 128),
  'ResNet50': (224, 7, 2048),
  'ResNet152': (224, 7, 2048),
  'MobileNetV2': (224, 7, 960),
  'MobileNetV3Large': (224, 7, 960),
  'MobileNetV3LargeDepthwise': (224, 7, 960),
  'MobileNetV3Small': (224, 7, 576),
  'NASNetMobile': (224, 7, 176),
  'NASNetLarge': (331, 11, 672),
}
NORMALISATIONS = {
  'do2022/InceptionResNetV2': 'tf',
  'do2022/DenseNet201': 'torch',
  'do2022/ResNet152': 'caffe',
  'do2022/MobileNetV2': 'tf',
  'do2022/MobileNetV3Small': 'none',
  'do2022/NASNetLarge': 'tf',
  'do2022/VGG16': 'caffe',
  'le2020/ResNet50': 'caffe',
  'le2020/MobileNet': 'tf',
  'le2020/EfficientNetB1': 'none',
}


def size_of(name):
  return systems.SYSTEMS[name].size


def test_every_system_has_a_size():
  here = {f'do2022/{name}' for name in DO} | IMAGE.keys()
  assert here == {
    name
    for name, system in systems.SYSTEMS.items()
    if system.task != 'segmentation' and system.paper in ('do2022', 'le2020')
  }


class Map(Encoder):
  """A map of that size, in place of an encoder whose variables are known."""

  side: int
  channels: int
  taps: tuple | None = ('map',)

  @nn.nowrap
  def features(self, image, train):
    shape = (len(image), self.side, self.side, self.channels)
    yield 'map', jnp.zeros(shape, image.dtype)


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', DO)
def test_sizes_with_metadata_and_without(name):
  """And the logits are of the map in SPEC 3.1, flattened after its maxima."""
  size, side, channels = MAPS[name]
  name, expected = f'do2022/{name}', DO[name]
  assert size_of(name) == size
  network = systems.build(name)
  inputs = cost.example(network, size).values()
  with use_form('lax'):  # it is traced in half the time
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  assert count(variables) == expected[0]
  params = variables['params']
  assert params['head']['attention']['conv']['kernel'].shape == (
    *(3, 3),
    *(channels, 16),
  )
  features = ((side + 1) // 2) ** 2 * 2 * channels + 4096
  assert params['logits']['kernel'].shape == (features, 7)
  alone = systems.build(name, metadata=0)
  assert alone.encoder == network.encoder
  encoder = count([tree.get('encoder') for tree in variables.values()])
  rest = cost.parameters(alone.clone(encoder=Map(side, channels)), size)[1]
  assert encoder + rest == expected[1]
  # What `python -m jaxderm.systems` says without building it.
  assert printing._without_metadata(network, expected[0]) == expected[1]


@pytest.mark.parametrize('name', IMAGE)
def test_sizes_of_the_others(name):
  network = systems.build(name)
  assert network.inputs == ('image',)
  assert cost.parameters(network, size_of(name))[1] == IMAGE[name]


def test_without_global_pooling():
  """Means of 2x2 leave 3x3 of 7x7: 18,432 features (SPEC 5.1)."""
  network = systems.build('le2020/ResNet50', end='flattened')
  assert cost.parameters(network, 224)[1] == 33_028_999


def test_switches_of_soft_attention():
  network = systems.build('do2022/MobileNetV2', gamma=True, literal=True)
  assert cost.parameters(network, 224)[1] == DO['MobileNetV2'][0] + 1
  network = systems.build('do2022/MobileNetV2', end='pooled', metadata=0)
  # 2 x 960 features, not those of 4x4 places.
  expected = DO['MobileNetV2'][1] - 15 * 2 * 960 * 7
  assert cost.parameters(network, 224)[1] == expected


@pytest.mark.parametrize('name', NORMALISATIONS)
def test_normalisation_is_the_backbones(name):
  assert systems.SYSTEMS[name].normalisation == NORMALISATIONS[name]


@pytest.mark.parametrize(
  'changes, told',
  [
    ({'end': 'flat'}, 'flattened, pooled, vgg16'),
    ({'gama': True}, "Did you mean 'gamma'"),
    ({'encoder': 'MobileNetV3Small'}, 'no tap is called .*block_14_depthwise'),
  ],
)
def test_what_does_not_exist_is_refused(changes, told):
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  metadata = jax.ShapeDtypeStruct((1, 21), jnp.float32)
  with pytest.raises(ValueError, match=told):
    network = systems.build('do2022/MobileNetV2', **changes)
    jax.eval_shape(network.init, jax.random.key(0), image, metadata)


def test_description():
  row = printing.describe(systems.SYSTEMS['do2022/MobileNetV3Small'])
  assert (row['all'], row['all_without_metadata']) == DO['MobileNetV3Small']
  # The three numbers and the statistics of the encoder are not trained.
  assert row['trainable'] < row['all'] - 3
  network = systems.build('do2022/MobileNetV3Small')
  assert row['multiply_adds'] == cost.multiply_adds(network, 224)
  assert row['printed'] is row['difference'] is None
  row = printing.describe(systems.SYSTEMS['le2020/MobileNet'])
  assert row['all_without_metadata'] is None


# What the kernel of the tap is called in a file whose normalisations are folded
# in, and in one whose are not; and what these files have beyond it.
FILES = {
  'MobileNetV2': (
    'mobilenet_v2_1.0_224_imagenet_bnfolded.npz',
    '43_depthwise_conv_2d.weight',
    ['43', '44', '45', '46', '47', '48', '49', '50', '51', '52'],
  ),
  'MobileNetV2x035': (
    'mobilenet_v2_0.35_224_imagenet_keras_notop.npz',
    'block_14_depthwise/depthwise_kernel',
    ['Conv_1', 'block_14', 'block_15', 'block_16'],
  ),
}


@pytest.mark.data
@pytest.mark.parametrize('name', FILES)
def test_real_weights_up_to_the_tap(name):
  """All that comes before it; the rest is dropped and nothing is left over."""
  file, kernel, beyond = FILES[name]
  path = real_data('weights') / file
  encoder = systems.build('do2022/MobileNetV2', encoder=name).encoder
  weights = pretrained.load(path, encoder)
  ours = weights.variables['params']['block_14_depthwise']['kernel']
  # Theirs is (C, 1, 3, 3) or (3, 3, C, 1).
  theirs = np.load(path)[kernel]
  order = (2, 3, 1, 0) if len(theirs) > 3 else (0, 1, 3, 2)
  np.testing.assert_array_equal(ours, theirs.transpose(order))
  assert 'block_14_depthwise_BN' not in weights.variables['params']
  left = {re.match(r'(block_|Conv_)?\d+', n)[0] for n in weights.dropped}
  assert sorted(left) == beyond
