"""Every family that Keras has, against Keras, on weights that both take.

The weights are drawn for our network, given to Keras' by our table of names,
and read back: a wrong layer shows, and so does a wrong table.
"""

import functools
import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import jax.numpy as jnp
import keras
import numpy as np
import parity
import pytest
from compiling import quick_jit

from jaxderm.cost import feature_maps, parameters
from jaxderm.models import encoders
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import fit, rename

# Rows stay odd at every level and columns even.
SIDE = (65, 64)
LARGE = (97, 80)  # for networks that shrink theirs more
KERAS = {'MobileNetV1': 'MobileNet'}  # where Keras calls a network otherwise
# Of each member, the size it is compared at and the tap of its first block.
# One of a family is here; what differs in depth or width only is slow.
MEMBERS = {
  'EfficientNetB0': (SIDE, 'block2a_project_bn'),
  'ResNet50': (SIDE, 'conv2_block2_out'),
}
SLOW = {
  'EfficientNetB0': (64, 83),
  'EfficientNetB1': SIDE,
  'ResNet50': (64, 83),
  'ResNet101': SIDE,
  'ResNet152': SIDE,
}
# With their classifiers, which EfficientNet has none of here.
SIZES = [n for n in {**MEMBERS, **SLOW} if 'Efficient' not in n]


def reference(name, side, top=False):
  """A Keras network, which pads for the size it is built for."""
  keras.utils.clear_session()  # or its layers become 'normalization_1'
  make = getattr(keras.applications, KERAS.get(name, name))
  return make(weights=None, include_top=top, input_shape=(*side, 3))


def table(name):
  tables = names.of(getattr(encoders, name)())
  (found,) = (t for t in tables if t.library == 'keras')
  return found


def fill(theirs, variables, name):
  """Gives Keras' network our variables; returns them by its names."""
  shapes = {w.path: tuple(w.shape) for w in theirs.weights}
  weights = rename(variables, shapes, table(name))
  assert set(weights) == set(shapes)
  for weight in theirs.weights:
    weight.assign(weights[weight.path])
  for layer in theirs.layers:
    if isinstance(layer, keras.layers.Normalization):
      layer.finalize_state()  # it keeps constants computed from its weights
  return weights


def tapped(theirs, taps):
  """(trainable, image) to the maps; the trainable weights; their paths."""
  outputs = [theirs.get_layer(tap).output for tap in taps]
  network = keras.Model(theirs.input, outputs)
  trainable = [v.value for v in network.trainable_variables]
  rest = [v.value for v in network.non_trainable_variables]

  def call(trainable, image):
    # Not `predict`, which would compile with all optimisations.
    found, _ = network.stateless_call(trainable, rest, image, training=False)
    return found if isinstance(found, list | tuple) else [found]

  return call, trainable, [v.path for v in network.trainable_variables]


@functools.cache
def drawn(name, side):
  """An encoder up to its classifier, variables for it, and images."""
  encoder = getattr(encoders, name)()
  image = parity.inputs(encoder, side)
  every = feature_maps(encoder, image)
  last = [tap for tap in every if every[tap].shape[1] > 1][-1]
  encoder = encoder.clone(taps=tuple(dict.fromkeys((*encoder.taps, last))))
  return encoder, parity.draw(encoder, image), image


def compare(name, side):
  encoder, variables, image = drawn(name, side)
  theirs = reference(name, side)
  fill(theirs, variables, name)
  call, trainable, _ = tapped(theirs, encoder.taps)
  expected = quick_jit(call)(trainable, image)
  found = quick_jit(encoder.apply)(variables, image)
  parity.assert_features(found, expected, encoder.taps, f'{name} at {side}')


@pytest.mark.parametrize('name', MEMBERS)
def test_features_equal_those_of_keras(name):
  compare(name, MEMBERS[name][0])


@pytest.mark.slow
@pytest.mark.parametrize('name', SLOW)
def test_features_equal_those_of_keras_elsewhere(name):
  """At another size, and of larger members."""
  compare(name, SLOW[name])


@pytest.mark.parametrize('name', MEMBERS)
def test_first_block_and_its_gradients_equal_those_of_keras(name):
  """To 1e-5 of the largest, for the image and for every parameter."""
  side, tap = MEMBERS[name]
  encoder, variables, image = drawn(name, side)
  theirs = reference(name, side)
  fill(theirs, variables, name)
  call, trainable, paths = tapped(theirs, (tap,))
  encoder = encoder.clone(taps=(tap,))

  def ours(params, image):
    return encoder.apply({**variables, 'params': params}, image)[0]

  @functools.partial(quick_jit, static_argnums=0)
  def pull(function, weights, image):
    out, back = jax.vjp(function, weights, image)
    return out, *back(jnp.cos(jnp.arange(out.size)).reshape(out.shape))

  out, d_params, d_image = pull(ours, variables['params'], image)
  expected, d_weights, d_image_there = pull(
    lambda w, x: call(w, x)[0], trainable, image
  )
  renamed = rename(
    {**variables, 'params': d_params},
    {w.path: tuple(w.shape) for w in theirs.weights},
    table(name),
  )
  pairs = {
    path: (renamed[path], g) for path, g in zip(paths, d_weights, strict=True)
  }
  pairs |= {'image': (d_image, d_image_there), tap: (out, expected)}
  for path, (a, b) in pairs.items():
    b = np.asarray(b)
    largest = np.abs(b).max()
    assert largest > 0, f'nothing depends on {path}'
    np.testing.assert_allclose(
      a / largest, b / largest, atol=1e-5, err_msg=path
    )


@pytest.mark.parametrize('name', MEMBERS)
def test_keras_weights_come_back(name):
  side, _ = MEMBERS[name]
  _, variables, _ = drawn(name, side)
  weights = fill(reference(name, side), variables, name)
  template = jax.eval_shape(lambda: variables)
  fitted = fit(template, template, weights, table(name))
  assert fitted.problems == ()
  jax.tree.map(np.testing.assert_array_equal, fitted.variables, variables)


@pytest.mark.parametrize('name', SIZES)
def test_size_with_classifier_equals_that_of_keras(name):
  theirs = reference(name, (224, 224), top=True)
  trainable = sum(int(np.prod(w.shape)) for w in theirs.trainable_weights)
  ours = getattr(encoders, name)(taps=('predictions',))
  assert parameters(ours, 224) == (trainable, theirs.count_params())
