"""HRNet's fusion and head in `yang2021` (SPEC 1.5)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import systems
from jaxderm.models import decoders, encoders, layers
from jaxderm.models.segmenter import Segmenter


def test_fusion_by_hand():
  """Maps of 3, 2 and 1 pixels a side; the second is tripled, the third not."""
  finest = jnp.arange(9.0).reshape(1, 3, 3, 1)
  second = jnp.asarray([[1.0, 2.0], [3.0, -4.0]])[None, :, :, None]
  third = jnp.full((1, 1, 1, 1), -7.0)
  decoder = decoders.Fuse(1)
  pyramid = (finest, second, third)
  variables = draw(decoder, pyramid)
  for i, factor in ((2, 3.0), (3, 1.0)):
    params, stats = (
      variables[kind][f'branch{i}'] for kind in ('params', 'batch_stats')
    )
    params['conv']['kernel'] = jnp.full((1, 1, 1, 1), factor)
    params['norm'] = {'scale': jnp.ones(1), 'bias': jnp.zeros(1)}
    stats['norm'] = {'mean': jnp.zeros(1), 'var': jnp.full(1, 1 - 1e-3)}
  fused = decoder.apply(variables, pyramid)[0]
  expected = [[3, 3, 6], [3, 3, 6], [9, 9, -12]]
  np.testing.assert_array_equal(fused[..., 0], finest[0, :, :, 0])
  np.testing.assert_allclose(fused[..., 1], expected, rtol=1e-6)
  np.testing.assert_allclose(fused[..., 2], np.full((3, 3), -7), rtol=1e-6)


def test_layout_is_that_of_the_paper():
  """64, 128 and 256 channels to 32 each, then 128 to one, without biases."""
  network = systems.build('yang2021/HRNet')
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  params = variables['params']
  fusion = {k: v['conv'] for k, v in params['decoder'].items()}
  assert jax.tree.map(lambda x: x.shape, fusion) == {
    'branch2': {'kernel': (1, 1, 64, 32)},
    'branch3': {'kernel': (1, 1, 128, 32)},
    'branch4': {'kernel': (1, 1, 256, 32)},
  }
  assert jax.tree.map(lambda x: x.shape, params['logits']) == {
    'conv': {'kernel': (1, 1, 128, 1)},
    'norm': {'scale': (1,), 'bias': (1,)},
  }
  assert network.enlarge == 'nearest'


@pytest.mark.parametrize('train', [False, True])
def test_logits_are_enlarged_as_the_features_would_be(train):
  """'nearest' before a 1x1 convolution and BatchNorm is 'nearest' after."""
  encoder = encoders.Plain8(
    widths=(2, 3, 4, 5), taps=('stage2', 'stage3', 'stage4')
  )
  decoder = decoders.Fuse(4)
  head = functools.partial(layers.ConvNormAct, size=1, activation='none')
  network = Segmenter(
    encoder, decoder, multiple=8, head=head, enlarge='nearest'
  )
  image = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype('f')
  variables = draw(network, image)

  def of(part):
    return {
      kind: tree[part] for kind, tree in variables.items() if part in tree
    }

  def before(image):
    """What SPEC says: the features, twice as large, then the head."""
    collections = ['batch_stats'] if train else []
    pyramid, _ = encoder.apply(of('encoder'), image, train, mutable=collections)
    x, _ = decoder.apply(of('decoder'), pyramid, train, mutable=collections)
    return head(1).apply(
      of('logits'), layers.upsample(x), train, mutable=collections
    )

  def ours(image):
    collections = ['batch_stats'] if train else []
    return network.apply(variables, image, train, mutable=collections)

  (expected, stats), (found, ours_stats) = quick_jit(
    lambda x: (before(x), ours(x))
  )(image)
  assert found.shape == (2, 16, 24, 1)
  assert np.std(expected) > 0.1
  np.testing.assert_allclose(found, expected, atol=1e-5)
  if train:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, atol=1e-6),
      ours_stats['batch_stats']['logits'],
      stats['batch_stats'],
    )
