"""Any encoder in any kind of network, and what it costs there."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FIRST

from jaxderm import cost, kinds
from jaxderm.models import encoders
from jaxderm.models.layers import Encoder
from jaxderm.models.segmenter import Segmenter
from jaxderm.systems import printing
from jaxderm.systems.__main__ import main


@pytest.mark.parametrize('name', FIRST)
def test_unet_on_any_encoder(name):
  network = kinds.unet(name, classes=2)
  image = jax.ShapeDtypeStruct((1, 128, 96, 3), jnp.float32)
  logits, variables = jax.eval_shape(
    lambda x: network.init_with_output(jax.random.key(0), x), image
  )
  assert logits.shape == (1, 128, 96, 2)
  assert set(variables['params']) == {'encoder', 'decoder', 'logits'}


@pytest.mark.slow
@pytest.mark.parametrize('name', encoders.__all__)
@pytest.mark.parametrize(
  'kind',
  [
    'unet',
    'unetpp',
    'residual',
    'segnet',
    'fuse',
    'gated',
    'resunet',
    'rfe',
    'classifier',
    'soft_attention',
  ],
)
def test_any_encoder_in_any_kind(kind, name):
  encoder = getattr(encoders, name)()
  taps = encoder.taps[1:] if 'Plain' in name and kind == 'residual' else None
  network = kinds.KINDS[kind](encoder, taps=taps, classes=3)
  image = jax.ShapeDtypeStruct((1, 160, 128, 3), jnp.float32)
  logits, _ = jax.eval_shape(
    lambda x: network.init_with_output(jax.random.key(0), x), image
  )
  sides = () if network.task == 'classification' else (160, 128)
  assert logits.shape == (1, *sides, 3)


def test_origin_goes_to_the_encoder():
  assert kinds.unet('ResNet50').encoder.origin == 'keras'
  assert kinds.unet('ResNet50', origin='torch').encoder.origin == 'torch'
  with pytest.raises(ValueError, match='expected one of keras, torch'):
    kinds.unet('ResNet50', origin='tensorflow')
  with pytest.raises(ValueError, match='leave origin out'):
    kinds.unet('PreResNet18', origin='torch')


class Unpadded(Encoder):
  """Of an image of 8 pixels, maps of 3 and of 2."""

  taps: tuple = ('a', 'b')

  def features(self, image, train):
    yield 'a', image[:, 2::2, 2::2]
    yield 'b', image[:, ::4, ::4]


class First(nn.Module):
  """A decoder that returns the finest map as it got it."""

  @nn.compact
  def __call__(self, pyramid, train=False):
    self.sow('seen', 'pyramid', pyramid)
    return pyramid[0]


def test_maps_of_unpadded_encoders_get_zeros_on_top_and_left():
  network = Segmenter(Unpadded(), First(), None, 1, 4, (2, 4))
  image = jnp.arange(8 * 8 * 3.0).reshape(1, 8, 8, 3) + 1
  logits, variables = network.init_with_output(jax.random.key(0), image)
  ((fine, coarse),) = variables['seen']['decoder']['pyramid']
  assert fine.shape == (1, 4, 4, 3)
  assert not fine[:, 0].any()
  assert not fine[:, :, 0].any()
  np.testing.assert_array_equal(fine[:, 1:, 1:], image[:, 2::2, 2::2])
  np.testing.assert_array_equal(coarse, image[:, ::4, ::4])
  assert logits.shape == (1, 8, 8, 1)


# Multiply-adds in 1e9 at 224 pixels, as torchvision prints them for its own.
TORCHVISION = {
  'DenseNet121': 2.83,
  'EfficientNetB0': 0.39,
  'MobileNetV2': 0.30,
  'MobileNetV3Large': 0.22,
  'MobileNetV3Small': 0.06,
  'ResNeXt50': 4.23,
  'ResNet18': 1.81,
  'ResNet50': 4.09,
  'SqueezeNet10': 0.82,
  'SqueezeNet11': 0.35,
  'VGG16': 15.47,
}


@pytest.mark.parametrize('name', TORCHVISION)
def test_multiply_adds_are_those_of_torchvision(name):
  encoder = getattr(encoders, name)(taps=('predictions',))
  if hasattr(encoder, 'origin'):
    encoder = encoder.clone(origin='torch')
  assert round(cost.multiply_adds(encoder, 224) / 1e9, 2) == TORCHVISION[name]


def test_description_of_an_encoder():
  row = printing.describe_encoder('ResNet50')
  assert (row['trainable'], row['all']) == (23_534_592, 23_587_712)
  assert (row['origin'], row['normalisation']) == ('keras', 'caffe')
  taps = {tap['name']: (tap['stride'], tap['width']) for tap in row['taps']}
  assert taps['conv1_relu'] == (2, 64)
  assert taps['conv5_block3_out'] == (32, 2048)
  assert set(row['default_taps']) < set(taps)
  assert 'predictions' not in taps


def test_encoders_are_printed(capsys, monkeypatch):
  monkeypatch.setattr(encoders, '__all__', ['Plain8', 'ResNet18'])
  main(['--encoders'])
  header, *lines = capsys.readouterr().out.splitlines()
  assert header.split()[:3] == ['name', 'origin', 'normalisation']
  assert [line.split()[0] for line in lines] == ['Plain8', 'ResNet18']
