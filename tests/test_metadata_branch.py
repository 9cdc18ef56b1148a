"""What is known of the patient: standardised, and beside the features."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import cost, folding, step, systems, task, thop
from jaxderm.benchmark import ours
from jaxderm.benchmark.workloads import Workload
from jaxderm.models import encoders
from jaxderm.models.classifier import MetadataClassifier
from jaxderm.models.layers import Encoder
from jaxderm.models.metadata import MetadataBranch

SIDE = 32


def test_by_hand():
  """(60 - 50) / 5 = 2: hidden units 2 * 3 + 1 * 4 and -2 + 1."""
  kernel = np.asarray([[3, -1], [5, 5], [4, 1]], np.float32)
  variables = {
    'params': {'hidden': {'kernel': kernel, 'bias': np.zeros(2, 'f')}},
    'batch_stats': {
      'mean': np.float32(50),
      'variance': np.float32(25),
      'count': np.float32(9),
    },
  }
  metadata = jnp.asarray([[60.0, 0.0, 1.0]])
  features = MetadataBranch(3, 2).apply(variables, metadata)
  np.testing.assert_allclose(features, [[10, 0]])


def test_it_is_keras():
  """Normalization of the age, adapted to some; Dense with ReLU."""
  keras = pytest.importorskip('keras')
  rng = np.random.default_rng(0)
  ages = rng.integers(5, 90, (200, 1)).astype('f')
  metadata = np.concatenate([ages, rng.integers(0, 2, (200, 20))], 1)
  metadata = metadata.astype('f')
  normalise = keras.layers.Normalization(axis=None)
  normalise.adapt(ages)
  variables = draw(MetadataBranch(), metadata)
  variables['batch_stats'] = {
    'mean': ages.mean(),
    'variance': ages.var(),
    'count': np.float32(len(ages)),
  }
  dense = keras.layers.Dense(4096, activation='relu')
  dense.build((None, 21))
  hidden = variables['params']['hidden']
  dense.set_weights([hidden['kernel'], hidden['bias']])
  age = np.asarray(normalise(ages))
  expected = np.asarray(dense(np.concatenate([age, metadata[:, 1:]], 1)))
  assert expected.std(axis=0).mean() > 0.1
  features = MetadataBranch().apply(variables, metadata)
  np.testing.assert_allclose(features, expected, atol=1e-4)


def test_the_age_passes_until_its_statistics_are_known():
  variables = MetadataBranch(2, 3).init(jax.random.key(0), jnp.ones((1, 2)))
  stats = jax.tree.map(float, variables['batch_stats'])
  assert stats == {'mean': 0, 'variance': 1, 'count': 0}


def test_another_number_of_columns_is_refused():
  with pytest.raises(ValueError, match=r'\(1, 20\): expected \[B, 21\]'):
    MetadataBranch().init(jax.random.key(0), jnp.ones((1, 20)))


# ----------------------------------------------------------------- networks


def small(metadata=3, hidden=None):
  encoder = encoders.Plain8(widths=(4, 6), taps=('stage1', 'stage2'))
  network = systems.build(
    'soft_attention', encoder=encoder, classes=4, metadata=metadata
  )
  if hidden is None:
    return network
  return network.clone(metadata=MetadataBranch(metadata, hidden))


def make_batch(count=4):
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(count, SIDE, SIDE, 3)).astype('f'),
    'metadata': rng.integers(0, 90, (count, 3)).astype('f'),
    'label': np.arange(count, dtype=np.int32),
    'valid': np.ones(count, 'f'),
  }


def given(network, batch):
  return [batch[name] for name in network.inputs]


def its_task(network):
  plain = task.classification({'name': 'cross_entropy'})
  return dataclasses.replace(plain, inputs=network.inputs)


def test_features_stand_beside_those_of_the_image():
  network, batch = small(hidden=9), make_batch()
  assert network.inputs == ('image', 'metadata')
  variables = draw(network, *given(network, batch))
  assert set(variables['params']) == {'encoder', 'head', 'metadata', 'logits'}

  def parts(variables, image, metadata):
    bound = network.bind(variables)
    logits = network.apply(variables, image, metadata, False)
    return bound.features(image, False), bound.metadata(metadata), logits

  image, metadata, logits = quick_jit(parts)(variables, *given(network, batch))
  last = variables['params']['logits']
  # 16x16 is halved; 6 channels and what attention made of them.
  assert image.shape == (4, 8 * 8 * 12)
  assert last['kernel'].shape == (8 * 8 * 12 + 9, 4)
  expected = np.concatenate([image, metadata], 1) @ last['kernel']
  np.testing.assert_allclose(logits, expected + last['bias'], atol=1e-3)


def test_without_metadata_only_the_image_goes_in():
  network = small(0)
  assert network.inputs == ('image',)
  assert not isinstance(network, MetadataClassifier)
  assert list(cost.example(network, 8)) == ['image']
  shapes = cost.example(small(), 8, 5)
  assert {k: v.shape for k, v in shapes.items()} == {
    'image': (5, 8, 8, 3),
    'metadata': (5, 3),
  }
  # A hidden layer, its part of the logits, and what is known of the age.
  sizes = [cost.parameters(small(columns), SIDE) for columns in (0, 21)]
  trainable, everything = np.diff(sizes, axis=0)[0]
  assert trainable == 22 * 4096 + 4096 * 4
  assert everything == trainable + 3


@pytest.mark.parametrize('metadata', [True, -1])
def test_metadata_is_a_number_of_columns(metadata):
  with pytest.raises(ValueError, match='expected the number of its columns'):
    small(metadata)


class Image(Encoder):
  """The image, for an encoder."""

  taps: tuple | None = ('image',)

  @nn.nowrap
  def features(self, image, train):
    yield 'image', image


def test_products_are_counted():
  network = systems.build(
    'soft_attention', encoder=Image(), taps=('image',), metadata=21
  )
  # 16 maps at 16 places; the branch; 2x2 places of 6 channels and the branch.
  expected = 16 * 27 * 16 + 21 * 4096 + (24 + 4096) * 7
  assert cost.multiply_adds(network, 4) == expected
  assert thop.operations(network, 4) == expected


def test_a_step_leaves_the_statistics_of_the_age():
  network, batch = small(hidden=9), make_batch()
  variables = draw(network, *given(network, batch))
  gradient = step.make_gradient(network, its_task(network), 'float32')
  (_, stats), grads = quick_jit(gradient)(
    variables['params'], variables['batch_stats'], batch, jax.random.key(0)
  )
  before = variables['batch_stats']
  jax.tree.map(
    np.testing.assert_array_equal, stats['metadata'], before['metadata']
  )
  norm = stats['encoder']['stage1']['conv1']['norm']['mean']
  assert (norm != before['encoder']['stage1']['conv1']['norm']['mean']).any()
  for part in ('encoder', 'head', 'metadata', 'logits'):
    assert any(np.any(leaf) for leaf in jax.tree.leaves(grads[part])), part


def test_activations_made_anew_give_the_same_gradient():
  network, batch = small(hidden=9), make_batch()
  variables = draw(network, *given(network, batch))
  plain, again = (
    quick_jit(step.make_gradient(network, its_task(network), 'float32', remat))(
      variables['params'], variables['batch_stats'], batch, jax.random.key(1)
    )
    for remat in (False, True)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, again
  )


def test_folded_it_answers_alike():
  network, batch = small(hidden=9), make_batch()
  inputs = given(network, batch)
  variables = draw(network, *inputs)
  member = folding.fold(network, variables, *inputs)
  assert len(member.norms) == 4
  known = member.variables['batch_stats']
  assert set(known) == {'metadata'}
  plain = quick_jit(lambda v, *x: network.apply(v, *x, False))
  answer = quick_jit(lambda m, *x: folding.apply(network, m, *x))
  expected = plain(variables, *inputs)
  assert np.std(expected, axis=0).mean() > 0.1
  np.testing.assert_allclose(
    answer(member, *inputs), expected, atol=1e-4 * np.std(expected)
  )


def test_momentum_is_of_every_batchnorm():
  encoder = encoders.VGG16Do2022()
  network = systems.build(
    'soft_attention', encoder=encoder, taps=('block1_conv1',), end='vgg16'
  )
  image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)

  def kept(network):
    found = []

    def watch(following, args, kwargs, context):
      if isinstance(context.module, nn.BatchNorm):
        found.append(context.module.momentum)
      return following(*args, **kwargs)

    with nn.intercept_methods(watch):
      jax.eval_shape(network.init, jax.random.key(0), image)
    return set(found)

  assert kept(network) == {0.99}
  assert kept(network.clone(momentum=0.5)) == {0.5}


def test_the_benchmark_gives_it_metadata():
  encoder = encoders.Plain8(widths=(4, 6), taps=('stage1', 'stage2'))
  changes = {'encoder': encoder, 'classes': 4, 'metadata': 3}
  workload = Workload('A', 'soft_attention', changes, size=16)
  made = ours.make(workload, 'float32')
  batch = ours.random_batch(16, 4, 4)
  batch |= ours.random_metadata(made.network, 4)
  assert batch['metadata'].shape == (4, 3)
  state = made.plan_state(batch).make()
  # Nothing more is compiled: a step and an answer come of these inputs.
  after, scalars = jax.eval_shape(made.update(), state, batch)
  assert scalars['loss'].shape == ()
  variables = {'params': after.params, 'batch_stats': after.batch_stats}
  answer = jax.eval_shape(made.predict_step(), variables, batch)
  assert answer.shape == (4, 4)
  # A network of images only is given nothing else.
  assert ours.random_metadata(small(0), 4) == {}
