"""Blocks of Inception-ResNet v2 by themselves, and its smallest image.

In the whole network gradients cannot be compared to 1e-5: a rounding error is
enough for another winner of a maximum.
"""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import parity
import pytest
from compiling import quick_jit
from keras.src.applications.inception_resnet_v2 import inception_resnet_block

from jaxderm.cost import feature_maps
from jaxderm.models import encoders
from jaxderm.models.encoders import inception
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import rename


class One(nn.Module):
  """The first block of a kind."""

  kind: str

  @nn.compact
  def __call__(self, x, train=False):
    layers = inception.NumberedLayers('keras', train)
    block = getattr(inception, self.kind.upper())
    *_, (_, y) = layers.blocks(x, self.kind, block, 1)
    return y


@pytest.mark.parametrize(
  'kind, channels, scale',
  [('block35', 320, 0.17), ('block17', 1088, 0.1), ('block8', 2080, 0.2)],
)
def test_block_and_its_gradients_equal_those_of_keras(kind, channels, scale):
  x = np.random.RandomState(0).standard_normal((2, 5, 4, channels))
  x = x.astype(np.float32)
  ours = One(kind)
  variables = parity.draw(ours, x)
  keras.utils.clear_session()
  inputs = keras.Input(x.shape[1:])
  theirs = keras.Model(inputs, inception_resnet_block(inputs, scale, kind, 1))
  shapes = {w.path: tuple(w.shape) for w in theirs.weights}
  (table,) = (
    t for t in names.of(encoders.InceptionResNetV2()) if t.library == 'keras'
  )
  weights = rename(variables, shapes, table)
  assert set(weights) == set(shapes)
  for weight in theirs.weights:
    weight.assign(weights[weight.path])
  rest = [v.value for v in theirs.non_trainable_variables]

  def pull(function, params):
    out, back = jax.vjp(function, params, x)
    return out, *back(jnp.cos(jnp.arange(out.size)).reshape(out.shape))

  out, d_params, d_x = quick_jit(
    lambda p: pull(lambda p, x: ours.apply({**variables, 'params': p}, x), p)
  )(variables['params'])
  expected, d_weights, d_x_there = quick_jit(
    lambda w: pull(lambda w, x: theirs.stateless_call(w, rest, x)[0], w)
  )([v.value for v in theirs.trainable_variables])
  renamed = rename({**variables, 'params': d_params}, shapes, table)
  pairs = [
    (renamed[v.path], g)
    for v, g in zip(theirs.trainable_variables, d_weights, strict=True)
  ]
  for a, b in [*pairs, (d_x, d_x_there), (out, expected)]:
    largest = np.abs(b).max()
    assert largest > 0
    np.testing.assert_allclose(a / largest, np.asarray(b) / largest, atol=1e-5)


def test_tap_of_do2022():
  """SPEC 3.1: 8x8x192 of an image of 299, normalised and not yet rectified."""
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  maps = feature_maps(encoders.InceptionResNetV2(), image)
  assert maps['block8_9_branch0_bn'].shape == (1, 8, 8, 192)
  order = list(maps)
  at = order.index('block8_9_branch0_bn')
  assert order[at - 1 : at + 2 : 2] == ['block8_8_ac', 'block8_9_ac']
  x = np.random.RandomState(0).standard_normal((2, 5, 4, 64))

  class First(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      layers = inception.NumberedLayers('keras', train)
      return next(layers.block(x, 'block8_9', inception.BLOCK8))[1]

  y, _ = First().init_with_output(jax.random.key(0), x.astype(np.float32))
  assert y.min() < 0


@pytest.mark.parametrize('side, fits', [((75, 75), True), ((75, 74), False)])
def test_smallest_image(side, fits):
  encoder = encoders.InceptionResNetV2()
  image = jax.ShapeDtypeStruct((1, *side, 3), jnp.float32)
  if fits:
    assert feature_maps(encoder, image)['conv_7b_ac'].shape == (1, 1, 1, 1536)
  else:
    with pytest.raises(ValueError, match='75x74 pixels.*expects 75 or more'):
      feature_maps(encoder, image)
