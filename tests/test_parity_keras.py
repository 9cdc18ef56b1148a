"""Every family that Keras has, against Keras, on weights that both take.

The weights are drawn for our network, given to Keras' by our table of names,
and read back: a wrong layer shows, and so does a wrong table.
"""

import functools
import os
from unittest import mock

os.environ.setdefault('KERAS_BACKEND', 'jax')

import flax.linen as nn
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
# Where Keras calls a network otherwise.
KERAS = {
  'MobileNetV1': 'MobileNet',
  'MobileNetV1x025': 'MobileNet',
  'MobileNetV2x035': 'MobileNetV2',
  'MobileNetV2x140': 'MobileNetV2',
}
ALPHA = {
  'MobileNetV1x025': 0.25,
  'MobileNetV2x035': 0.35,
  'MobileNetV2x140': 1.4,
}
# Whose last map is 3x3: of a smaller one, BatchNorm magnifies the rounding.
INCEPTION = (139, 160)
SMALL = (65, 36)  # rows even at every level of NASNet and columns odd
# Of each member, the size it is compared at and the tap of its first block.
# One of a family is here; what differs in depth or width only is slow.
MEMBERS = {
  'DenseNet121': (SIDE, 'conv2_block2_concat'),
  'EfficientNetB0': (SIDE, 'block2a_project_bn'),
  'InceptionResNetV2': (INCEPTION, 'activation_2'),
  'NASNetMobile': (SMALL, 'reduction_concat_stem_1'),
  'MobileNetV1': (SIDE, 'conv_pw_2_relu'),
  'MobileNetV2': (SIDE, 'block_1_project_BN'),
  'MobileNetV3Small': (SIDE, 'expanded_conv_project_bn'),
  'ResNet50': (SIDE, 'conv2_block2_out'),
  'VGG16': (SIDE, 'block1_pool'),
  'Xception': (LARGE, 'add'),
}
SLOW = {
  'DenseNet121': (64, 83),
  'DenseNet169': SIDE,
  'DenseNet201': SIDE,
  'EfficientNetB0': (64, 83),
  'EfficientNetB1': SIDE,
  'EfficientNetB3': SIDE,
  'InceptionResNetV2': (171, 150),
  'NASNetLarge': SMALL,
  'NASNetMobile': (64, 83),
  'MobileNetV1': (64, 83),
  'MobileNetV1x025': (100, 70),
  'MobileNetV2': (64, 83),
  'MobileNetV2x035': SIDE,
  'MobileNetV2x140': SIDE,
  'MobileNetV3Large': (100, 67),
  'MobileNetV3Small': (64, 83),
  'ResNet50': (64, 83),
  'ResNet101': SIDE,
  'ResNet152': SIDE,
  'VGG16': (64, 83),
  'Xception': (71, 86),
}
# With their classifiers. Keras takes long to build these.
SLOW_SIZES = ['NASNetLarge', *(f'EfficientNetB{i}' for i in range(1, 8))]
SIZES = [n for n in {**MEMBERS, **SLOW} if n not in SLOW_SIZES] + [
  pytest.param(name, marks=pytest.mark.slow) for name in SLOW_SIZES
]


def reference(name, side, top=False):
  """A Keras network, which pads for the size it is built for."""
  keras.utils.clear_session()  # or its layers become 'normalization_1'
  make = getattr(keras.applications, KERAS.get(name, name))
  settings = {'alpha': ALPHA[name]} if name in ALPHA else {}
  # Its own weights are not used, and drawing them takes longer than all else.
  drawing = mock.patch.object(
    keras.initializers.VarianceScaling,
    '__call__',
    lambda self, shape, dtype=None: np.zeros(shape, dtype or 'float32'),
  )
  settings |= {'weights': None, 'include_top': top, 'input_shape': (*side, 3)}
  with drawing:
    return make(**settings)


def table(name):
  tables = names.of(getattr(encoders, name)())
  (found,) = (t for t in tables if t.library == 'keras')
  return found


def path(weight):
  """Layer and weight, without the scopes that NASNet's layers are in."""
  return '/'.join(weight.path.split('/')[-2:])


def fill(theirs, variables, name):
  """Gives Keras' network our variables; returns them by its names."""
  shapes = {path(w): tuple(w.shape) for w in theirs.weights}
  weights = rename(variables, shapes, table(name))
  assert set(weights) == set(shapes)
  for weight in theirs.weights:
    weight.assign(weights[path(weight)])
  for layer in theirs.layers:
    if isinstance(layer, keras.layers.Normalization):
      layer.finalize_state()  # it keeps constants computed from its weights
  return weights


def output(theirs, tap):
  """A map; of an activation without a name, what follows its BatchNorm."""
  if tap in (layer.name for layer in theirs.layers):
    return theirs.get_layer(tap).output
  norm = theirs.get_layer(tap.removesuffix('_activation') + '_bn')
  return norm._outbound_nodes[0].operation.output


def tapped(theirs, taps):
  """(trainable, image) to the maps; the trainable weights; their paths."""
  outputs = [output(theirs, tap) for tap in taps]
  network = keras.Model(theirs.input, outputs)
  trainable = [v.value for v in network.trainable_variables]
  rest = [v.value for v in network.non_trainable_variables]

  def call(trainable, image):
    # Not `predict`, which would compile with all optimisations.
    found, _ = network.stateless_call(trainable, rest, image, training=False)
    return found if isinstance(found, list | tuple) else [found]

  return call, trainable, [path(v) for v in network.trainable_variables]


@functools.cache
def drawn(name, side):
  """An encoder up to its classifier, variables for it, and images."""
  encoder = getattr(encoders, name)()
  image = parity.inputs(encoder, side)
  every = feature_maps(encoder, image)
  last = [tap for tap in every if every[tap].shape[1] > 1][-1]
  encoder = encoder.clone(taps=tuple(dict.fromkeys((*encoder.taps, last))))
  return encoder, parity.draw(encoder, image), image


@functools.cache
def filled(name, side):
  """Keras' network with the same variables, and those by its names."""
  theirs = reference(name, side)
  return theirs, fill(theirs, drawn(name, side)[1], name)


def compare(name, side):
  encoder, variables, image = drawn(name, side)
  theirs, _ = filled(name, side)
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
  theirs, _ = filled(name, side)
  call, trainable, paths = tapped(theirs, (tap,))
  encoder = encoder.clone(taps=(tap,))

  def ours(params, image):
    return encoder.apply({**variables, 'params': params}, image)[0]

  @functools.partial(quick_jit, static_argnums=0)
  def pull(function, weights, image):
    out, back = jax.vjp(function, weights, image)
    # Noise: a bias's gradient is its sum, and of a regular wave rounding would
    # be all that is left.
    noise = np.random.RandomState(0).standard_normal(out.shape)
    return out, *back(noise.astype(np.float32))

  out, d_params, d_image = pull(ours, variables['params'], image)
  expected, d_weights, d_image_there = pull(
    lambda w, x: call(w, x)[0], trainable, image
  )
  renamed = rename(
    {**variables, 'params': d_params},
    {path(w): tuple(w.shape) for w in theirs.weights},
    table(name),
  )
  pairs = {p: (renamed[p], g) for p, g in zip(paths, d_weights, strict=True)}
  pairs |= {'image': (d_image, d_image_there), tap: (out, expected)}
  for where, (a, b) in pairs.items():
    b = np.asarray(b)
    largest = np.abs(b).max()
    assert largest > 0, f'nothing depends on {where}'
    np.testing.assert_allclose(
      a / largest, b / largest, atol=1e-5, err_msg=where
    )


@pytest.mark.parametrize('name', MEMBERS)
def test_keras_weights_come_back(name):
  side, _ = MEMBERS[name]
  _, variables, _ = drawn(name, side)
  _, weights = filled(name, side)
  template = jax.eval_shape(lambda: variables)
  fitted = fit(template, template, weights, table(name))
  assert fitted.problems == ()
  jax.tree.map(np.testing.assert_array_equal, fitted.variables, variables)


@pytest.mark.parametrize(
  'name',
  [
    'EfficientNetB0',
    pytest.param('EfficientNetB4', marks=pytest.mark.slow),
    pytest.param('EfficientNetB7', marks=pytest.mark.slow),
  ],
)
def test_dropout_equals_that_of_keras(name):
  """Of whole blocks, each its own share, and before the classifier."""
  theirs = {
    layer.name: layer.rate
    for layer in reference(name, SIDE, top=True).layers
    if isinstance(layer, keras.layers.Dropout)
  }
  encoder = getattr(encoders, name)(taps=('predictions',))
  ours = {}

  def intercept(following, args, kwargs, context):
    layer = context.module
    if isinstance(layer, nn.Dropout):
      assert not layer.deterministic
      ours[layer.name] = layer.rate
    return following(*args, **kwargs)

  def step(image):
    return encoder.init_with_output(jax.random.key(0), image, train=True)

  with nn.intercept_methods(intercept):
    jax.eval_shape(step, jax.ShapeDtypeStruct((1, *SIDE, 3), jnp.float32))
  assert ours == pytest.approx(theirs)


@pytest.mark.parametrize('name', SIZES)
def test_size_with_classifier_equals_that_of_keras(name):
  theirs = reference(name, (224, 224), top=True)
  trainable = sum(int(np.prod(w.shape)) for w in theirs.trainable_weights)
  ours = getattr(encoders, name)(taps=('predictions',))
  assert parameters(ours, 224) == (trainable, theirs.count_params())
