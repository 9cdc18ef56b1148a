"""HRNet against SPEC 1.5 written out, with the operations of Keras."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import jax.numpy as jnp
import keras
import parity
from compiling import quick_jit

from jaxderm.models import encoders

SIDE = (64, 80)


class Literal:
  """Every path of the network by itself."""

  def __init__(self, variables):
    self.variables = variables

  def cbn(self, name, x, stride=1):
    params, stats = (
      self.variables[kind][name] for kind in ('params', 'batch_stats')
    )
    assert set(params) == {'conv', 'norm'}
    assert set(params['conv']) == {'kernel'}  # no biases
    x = keras.ops.conv(x, params['conv']['kernel'], stride, 'same')
    return keras.ops.batch_normalization(
      x,
      stats['norm']['mean'],
      stats['norm']['var'],
      axis=-1,
      offset=params['norm']['bias'],
      scale=params['norm']['scale'],
      epsilon=1e-3,
    )

  def cbr(self, name, x, stride=1):
    return keras.ops.relu(self.cbn(name, x, stride))

  def up(self, x, factor):
    return keras.layers.UpSampling2D(factor, interpolation='nearest')(x)

  def blocks(self, name, x):
    for i in ('block1', 'block2', 'block3', 'block4'):
      y = self.cbr(f'{name}_{i}_1', x)
      x = keras.ops.relu(self.cbn(f'{name}_{i}_2', y) + x)
    return x

  def layer1(self, x):
    x = self.cbr('stem', x, 2)
    shortcut = self.cbn('layer1_block1_0', x)
    for i in ('block1', 'block2', 'block3', 'block4'):
      y = self.cbr(f'layer1_{i}_1', x)
      y = self.cbr(f'layer1_{i}_2', y)
      y = self.cbn(f'layer1_{i}_3', y)
      x = keras.ops.relu(y + (shortcut if i == 'block1' else x))
    return x

  def __call__(self, image):
    cbn, cbr, up = self.cbn, self.cbr, self.up
    x = self.layer1(image)
    a = self.blocks('stage2_branch1', cbr('stage2_branch1_enter', x))
    b = self.blocks('stage2_branch2', cbr('stage2_branch2_enter', x, 2))
    a, b = (
      a + up(cbn('stage2_fuse_2_to_1', b), 2),
      b + cbn('stage2_fuse_1_to_2', a, 2),
    )
    c = self.blocks('stage3_branch3', cbr('stage3_branch3_enter', b, 2))
    a = self.blocks('stage3_branch1', cbr('stage3_branch1_enter', a))
    b = self.blocks('stage3_branch2', cbr('stage3_branch2_enter', b))
    half = cbr('stage3_fuse_1_to_3_via_2', a, 2)
    a, b, c = (
      a
      + up(cbn('stage3_fuse_2_to_1', b), 2)
      + up(cbn('stage3_fuse_3_to_1', c), 4),
      b + cbn('stage3_fuse_1_to_2', a, 2) + up(cbn('stage3_fuse_3_to_2', c), 2),
      c + cbn('stage3_fuse_1_to_3', half, 2) + cbn('stage3_fuse_2_to_3', b, 2),
    )
    d = self.blocks('stage4_branch4', cbr('stage4_branch4_enter', c, 2))
    a = self.blocks('stage4_branch1', cbr('stage4_branch1_enter', a))
    b = self.blocks('stage4_branch2', cbr('stage4_branch2_enter', b))
    c = self.blocks('stage4_branch3', cbr('stage4_branch3_enter', c))
    return a, b, c, d


def test_features_equal_the_literal_ones():
  encoder = encoders.HRNet()
  image = parity.inputs(encoder, SIDE)
  variables = parity.draw(encoder, image)
  expected = quick_jit(lambda v, x: Literal(v)(x))(variables, image)
  found = quick_jit(encoder.apply)(variables, image)
  parity.assert_features(found, expected, encoder.taps, 'HRNet')


def test_size_with_fusion_and_head_is_the_printed_one():
  """SPEC 1.5: of the maps below the first, to 32 channels; then one logit."""
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  pyramid, variables = jax.eval_shape(
    lambda x: encoders.HRNet().init_with_output(jax.random.key(0), x), image
  )
  assert [x.shape[1:] for x in pyramid] == [
    (32, 32, 32),
    (16, 16, 64),
    (8, 8, 128),
    (4, 4, 256),
  ]
  fusion = sum(x.shape[-1] * 32 + 2 * 32 for x in pyramid[1:])
  head = 4 * 32 * 1 + 2
  params = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
  assert params + fusion + head == 9_504_578
