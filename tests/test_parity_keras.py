"""EfficientNet against the Keras networks whose weights we shall load."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from compiling import quick_jit

from jaxderm.cost import parameters
from jaxderm.models import encoders
from jaxderm.models.encoders import efficientnet
from jaxderm.pretrained import from_keras

SIDES = [(65, 64), (64, 49)]  # even and odd along each axis, none square
TAPS = (*encoders.EfficientNetB0().taps, 'top_activation')


def reference(name, side):
  """A Keras network without its top, built for one size of image.

  Keras pads for the size it is built for, so each has its own network.
  """
  keras.utils.clear_session()  # or its layers become 'normalization_1'
  make = getattr(keras.applications, name)
  return make(weights=None, include_top=False, input_shape=(*side, 3))


def images(side, n=4):
  noise = np.random.default_rng(0).uniform(0, 255, (n, 4, 4, 3))
  smooth = jax.image.resize(jnp.asarray(noise), (n, *side, 3), 'bilinear')
  return np.asarray(smooth, np.float32)


def awake(network, template, weights):
  """Gives each BatchNorm random parameters and the statistics it then sees.

  A network as it is initialised answers every image alike, so it would agree
  with ours whatever we did.
  """
  rng = np.random.default_rng(1)
  weights = dict(weights)
  for path, value in weights.items():
    if path.endswith('gamma'):
      weights[path] = rng.uniform(0.5, 1.5, value.shape)
    if path.endswith('beta'):
      weights[path] = rng.normal(0, 0.3, value.shape)
  # Keras starts from a mean of 0; that of ImageNet comes with its downloads.
  weights['normalization/mean'] = np.array(efficientnet.IMAGENET_MEAN)
  weights['normalization/variance'] = np.array(efficientnet.IMAGENET_STD) ** 2
  variables = from_keras(template, weights)
  old = variables['batch_stats']
  new = quick_jit(
    lambda v, x: network.apply(v, x, True, mutable=['batch_stats'])[1]
  )(variables, images((65, 65), 16))['batch_stats']
  for layer, stats in new.items():
    if layer != 'normalization':
      # One step kept 0.99 of the old statistics: undo that. Of the sizes below
      # this one has the largest map at the end. A floor under the variance,
      # or rounding would be divided by next to nothing.
      mean, var = (
        (np.asarray(stats[k]) - 0.99 * old[layer][k]) / 0.01
        for k in ('mean', 'var')
      )
      weights[f'{layer}/moving_mean'] = mean
      weights[f'{layer}/moving_variance'] = np.maximum(var, 0.05)
  return weights


# B1 repeats blocks that B0 has once; sizes are nothing to it that B0 has not.
@pytest.mark.parametrize(
  'name, sides', [('EfficientNetB0', SIDES), ('EfficientNetB1', SIDES[-1:])]
)
def test_features_equal_those_of_keras(name, sides):
  ours = getattr(encoders, name)(taps=TAPS, drop_rate=0.0)
  template = jax.eval_shape(ours.init, jax.random.key(0), images((64, 64)))
  theirs = reference(name, sides[0])
  weights = {w.path: w.numpy() for w in theirs.weights}
  weights = awake(ours, template, weights)
  variables = from_keras(template, weights)
  apply = quick_jit(ours.apply)
  for side in sides:
    theirs = reference(name, side)
    for weight in theirs.weights:
      weight.assign(weights[weight.path])
    # It keeps the constants that it computed from its weights.
    theirs.get_layer('normalization').finalize_state()
    outputs = [theirs.get_layer(tap).output for tap in TAPS]
    network = keras.Model(theirs.input, outputs)
    # Not `predict`, which would compile with all optimisations.
    state = [
      [variable.value for variable in group]
      for group in (
        network.trainable_variables,
        network.non_trainable_variables,
      )
    ]
    expected, _ = quick_jit(network.stateless_call)(*state, images(side))
    features = apply(variables, images(side))
    for tap, a, b in zip(TAPS, features, expected, strict=True):
      where = f'{tap} of {name} at {side}'
      assert np.std(b, axis=0).mean() > 0.05, f'{where} does not see its image'
      # The top is nine blocks on from the last default tap.
      atol = 2e-4 if tap == 'top_activation' else 1e-4
      np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=where)


TEMPLATE = {
  'params': {
    'conv': {'kernel': np.zeros((3, 3, 2, 4))},
    'dw': {'kernel': np.zeros((3, 3, 1, 4))},
    'bn': {'scale': np.zeros(4), 'bias': np.zeros(4)},
  },
  'batch_stats': {'bn': {'mean': np.zeros(4), 'var': np.zeros(4)}},
}
WEIGHTS = {
  'conv/kernel': np.ones((3, 3, 2, 4)),
  'dw/kernel': np.arange(36.0).reshape(3, 3, 4, 1),
  'bn/gamma': np.full(4, 1.0),
  'bn/beta': np.full(4, 2.0),
  'bn/moving_mean': np.full(4, 3.0),
  'bn/moving_variance': np.full(4, 4.0),
}


def test_from_keras_puts_each_weight_in_its_place():
  loaded = from_keras(TEMPLATE, WEIGHTS)
  assert jax.tree.structure(loaded) == jax.tree.structure(TEMPLATE)
  assert loaded['params']['dw']['kernel'][0, 1, 0, 2] == 6
  found = {**loaded['params']['bn'], **loaded['batch_stats']['bn']}
  assert {k: v[0] for k, v in found.items()} == {
    'scale': 1,
    'bias': 2,
    'mean': 3,
    'var': 4,
  }


def test_from_keras_names_all_that_does_not_fit():
  weights = {**WEIGHTS, 'top/kernel': np.ones(1), 'bn/beta': np.ones(5)}
  del weights['conv/kernel']
  with pytest.raises(ValueError, match='3 Keras weights') as error:
    from_keras(TEMPLATE, weights)
  message = str(error.value)
  assert 'missing: conv/kernel (3, 3, 2, 4)' in message
  assert 'left over: top/kernel' in message
  assert 'shape of bn/beta: (5,), expected (4,)' in message


@pytest.mark.slow
@pytest.mark.parametrize('i', range(8))
def test_sizes_equal_those_of_keras(i):
  theirs = reference(f'EfficientNetB{i}', (64, 64))
  trainable = sum(int(np.prod(w.shape)) for w in theirs.trainable_weights)
  ours = getattr(encoders, f'EfficientNetB{i}')(taps=('top_activation',))
  assert parameters(ours, 64) == (trainable, theirs.count_params())
