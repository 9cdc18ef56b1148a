"""The pre-activation ResNet18 against SPEC 2.1 written out in Keras' operations."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import keras
import parity
from compiling import quick_jit

from jaxderm.models import encoders

SIDE = (65, 64)  # rows stay odd at every level and columns even
TAPS = (
  'relu0',
  'stage1_unit1_out',
  'stage1_unit2_out',
  'stage2_unit2_out',
  'stage3_unit1_out',
  'relu1',
  'predictions',
)


class Literal:
  """The units in the order in which SPEC lists them."""

  def __init__(self, variables):
    self.variables = variables

  def norm(self, name, x):
    params, stats = (
      self.variables[kind][name] for kind in ('params', 'batch_stats')
    )
    assert ('scale' in params) == (name != 'bn_data')
    return keras.ops.batch_normalization(
      x,
      stats['mean'],
      stats['var'],
      axis=-1,
      offset=params['bias'],
      scale=params.get('scale'),
      epsilon=2e-5,
    )

  def conv(self, name, x, stride=1):
    params = self.variables['params'][name]
    assert set(params) == {'kernel'}  # no biases
    pad = params['kernel'].shape[0] // 2
    x = keras.ops.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    return keras.ops.conv(x, params['kernel'], stride, 'valid')

  def unit(self, name, x, stride, first):
    y = keras.ops.relu(self.norm(f'{name}_bn1', x))
    shortcut = self.conv(f'{name}_sc', y, stride) if first else x
    y = self.conv(f'{name}_conv1', y, stride)
    y = keras.ops.relu(self.norm(f'{name}_bn2', y))
    return self.conv(f'{name}_conv2', y) + shortcut

  def __call__(self, image):
    x = self.conv('conv0', self.norm('bn_data', image), 2)
    found = {'relu0': keras.ops.relu(self.norm('bn0', x))}
    x = keras.ops.pad(found['relu0'], [(0, 0), (1, 1), (1, 1), (0, 0)])
    x = keras.ops.max_pool(x, 3, 2, 'valid')
    for stage, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
      for unit in (1, 2):
        name = f'stage{stage}_unit{unit}'
        x = self.unit(name, x, stride if unit == 1 else 1, unit == 1)
        found[f'{name}_out'] = x
    found['relu1'] = keras.ops.relu(self.norm('bn1', x))
    dense = self.variables['params']['fc1']
    x = keras.ops.mean(found['relu1'], (1, 2), keepdims=True)
    found['predictions'] = x @ dense['kernel'] + dense['bias']
    return [found[tap] for tap in TAPS]


def test_features_equal_the_literal_ones():
  encoder = encoders.PreResNet18(taps=TAPS)
  image = parity.inputs(encoder, SIDE)
  variables = parity.draw(encoder, image)
  expected = quick_jit(Literal(variables))(image)
  found = quick_jit(encoder.apply)(variables, image)
  assert jax.tree.structure(found) == jax.tree.structure(tuple(expected))
  parity.assert_features(found, expected, TAPS, 'PreResNet18')
