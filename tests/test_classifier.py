"""The classifier and its head: hand numbers, Keras."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import step, systems
from jaxderm.models import heads
from jaxderm.models.classifier import Classifier
from jaxderm.models.layers import Encoder


class Means(Encoder):
  """The image, and its mean twice as deep, for an encoder."""

  taps: tuple | None = ('image',)

  @nn.nowrap
  def features(self, image, train):
    yield 'image', image
    yield 'a_deeper', 2 * image
    yield 'predictions', jnp.zeros((len(image), 1, 1, 1000))


def shapes(network, side=(64, 64)):
  """Logits and variables, as shapes."""
  image = jax.ShapeDtypeStruct((2, *side, 3), jnp.float32)
  return jax.eval_shape(
    lambda x: network.init_with_output(jax.random.key(0), x), image
  )


@pytest.mark.parametrize('side', [(64, 64), (97, 70)])
@pytest.mark.parametrize('encoder', ['Plain8', 'EfficientNetB0'])
def test_logits_and_variables(encoder, side):
  network = systems.build('classifier', encoder=encoder, classes=3, hidden=5)
  logits, variables = shapes(network, side)
  assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
  assert set(variables['params']) == {'encoder', 'head', 'logits'}
  assert variables['params']['logits']['kernel'].shape == (5, 3)
  # A graft replaces one subtree: that of the encoder on its own.
  alone = shapes(network.encoder, side)[1]
  ours = variables['params']['encoder']
  assert jax.tree.map(jnp.shape, ours) == jax.tree.map(
    jnp.shape, alone['params']
  )


def test_a_bare_head_has_no_variables():
  network = systems.build('classifier', encoder='Plain8', dropout=0.5)
  _, variables = shapes(network)
  assert set(variables['params']) == {'encoder', 'logits'}
  assert variables['params']['logits']['kernel'].shape == (128, 7)


def test_the_deepest_map_is_taken_and_no_publishers_classifier():
  assert systems.build('classifier', encoder=Means()).encoder.taps == (
    'a_deeper',
  )
  network = systems.build('classifier', encoder=Means(), taps=('image',))
  assert network.encoder.taps == ('image',)
  deep = systems.build('classifier', encoder='EfficientNetB0')
  assert deep.encoder.taps == ('top_activation',)
  taps = ('stage1', 'stage3')
  network = systems.build('classifier', encoder='Plain8', taps=taps)
  _, variables = shapes(network)
  assert variables['params']['logits']['kernel'].shape == (32, 7)


def test_the_pooled_head_by_hand():
  # Means 2 and -1; hidden units 2 - (-1) and -2; ReLU leaves 3 and 0.
  x = jnp.asarray([[[[1.0, 0.0], [3.0, -2.0]]]])
  kernel = jnp.asarray([[1.0, -1.0], [-1.0, 0.0]])
  params = {'hidden': {'kernel': kernel, 'bias': jnp.zeros(2)}}
  bare = heads.Pooled().apply({}, x)
  np.testing.assert_allclose(bare, [[2, -1]])
  features = heads.Pooled(2).apply({'params': params}, x)
  np.testing.assert_allclose(features, [[3, 0]])


def test_dropout_is_of_training_only():
  x = jnp.ones((1, 2, 2, 1000))
  head = heads.Pooled(dropout=0.25)
  np.testing.assert_array_equal(head.apply({}, x, False), np.ones((1, 1000)))
  keys = [{'dropout': jax.random.key(i)} for i in range(2)]
  one, two = (np.asarray(head.apply({}, x, True, rngs=k)) for k in keys)
  np.testing.assert_allclose(np.unique(one), [0, 4 / 3], rtol=1e-6)
  assert 0.2 < (one == 0).mean() < 0.3
  assert (one != two).any()


def test_it_is_keras():
  """GlobalAveragePooling, Dense, Dropout, Dense with the same weights."""
  keras = pytest.importorskip('keras')
  image = np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype(np.float32)
  network = Classifier(Means(('a_deeper',)), heads.Pooled(4, 0.5), 7)
  variables = draw(network, image)
  params = variables['params']
  x = start = keras.Input((None, None, 3))
  x = keras.layers.GlobalAveragePooling2D()(2 * x)
  x = keras.layers.Dense(4, activation='relu')(x)
  x = keras.layers.Dropout(0.5)(x)
  theirs = keras.Model(start, keras.layers.Dense(7)(x))
  theirs.set_weights(
    [
      part[name]
      for part in (params['head']['hidden'], params['logits'])
      for name in ('kernel', 'bias')
    ]
  )
  ours = quick_jit(network.apply)(variables, image)
  expected = np.asarray(theirs(image, training=False))
  assert expected.std(axis=0).mean() > 0.1
  np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_logits_are_of_single_precision():
  network = Classifier(Means(('a_deeper',)), heads.Pooled(4), 7)
  image = np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype(np.float32)
  params = step.cast(draw(network, image)['params'], 'bfloat16')
  assert params['head']['hidden']['kernel'].dtype == jnp.bfloat16
  assert params['logits']['kernel'].dtype == jnp.float32
  logits = network.apply({'params': params}, step.cast(image, 'bfloat16'))
  assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
  'changes, told',
  [
    ({}, 'needs encoder=.*Plain8'),
    ({'encoder': 'Plane8'}, "Did you mean 'Plain8'"),
    ({'encoder': 'Plain8', 'hiden': 3}, "Did you mean 'hidden'"),
    (
      {'encoder': 'Plain8', 'widths': 3},
      'taps, origin, classes, hidden, dropout',
    ),
  ],
)
def test_what_does_not_exist_is_refused(changes, told):
  with pytest.raises(ValueError, match=told):
    systems.build('classifier', **changes)
