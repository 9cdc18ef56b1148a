"""VGG16: what parity with its publishers does not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_members
from compiling import draw, quick_jit
from flax.errors import InvalidRngError

from jaxderm.cost import feature_maps
from jaxderm.models import encoders
from jaxderm.models.encoders.vgg import mean_to
from jaxderm.pretrained import names
from jaxderm.pretrained.table import norms, places, source


def test_mean_to_by_hand():
  # Two windows of three rows share the one in the middle; three windows of two
  # columns are the first, both, the second.
  x = jnp.asarray([[1.0, 3.0], [5.0, 7.0], [9.0, 19.0]])[None, :, :, None]
  down = [[3.0, 5.0], [7.0, 13.0]]
  np.testing.assert_allclose(mean_to(x, 2)[0, :, :, 0], down)
  across = [[1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [9.0, 14.0, 19.0]]
  np.testing.assert_allclose(mean_to(x, 3)[0, :, :, 0], across)


def test_mean_to_of_a_map_of_that_size_is_the_map():
  x = jnp.zeros((1, 7, 7, 2))
  assert mean_to(x, 7) is x


def classify(origin, train):
  encoder = encoders.VGG16(taps=('predictions',), origin=origin)
  image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
  variables = jax.eval_shape(encoder.init, jax.random.key(0), image)
  return jax.eval_shape(
    lambda v, x: encoder.apply(v, x, train), variables, image
  )


@pytest.mark.parametrize('origin', ['keras', 'torch'])
def test_only_the_classifier_of_torch_drops_units(origin):
  (logits,) = classify(origin, train=False)
  assert logits.shape == (2, 1, 1, 1000)
  if origin == 'keras':
    classify(origin, train=True)  # needs no key, so it drops nothing
  else:
    with pytest.raises(InvalidRngError, match='dropout'):
      classify(origin, train=True)


def test_normalisation_follows_the_weights():
  assert encoders.VGG16().normalisation == 'caffe'
  assert encoders.VGG16(origin='torch').normalisation == 'torch'
  assert encoders.VGG16BN().normalisation == 'torch'
  # SegNet's, trained from scratch as the other networks of `yang2021`.
  assert encoders.VGG16BN(origin='keras').normalisation == 'imagenet_mean'


@pytest.mark.parametrize(
  'name, origin, lowest',
  # ReLU last: nothing is below 0. BatchNorm last: what ReLU cut off becomes
  # (0 - 2) / sqrt(4 - epsilon + epsilon) = -1.
  [('VGG16BN', 'keras', 0), ('VGG16BN', 'torch', 0), ('VGG16Do2022', None, -1)],
)
def test_order_of_relu_and_batch_norm(name, origin, lowest):
  settings = {} if origin is None else {'origin': origin}
  encoder = getattr(encoders, name)(taps=('block1_conv1',), **settings)
  image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
  variables = draw(encoder, image)
  epsilon = 1e-5 if origin == 'torch' else 1e-3
  layer = {'mean': jnp.full(64, 2.0), 'var': jnp.full(64, 4.0 - epsilon)}
  variables['batch_stats']['block1_bn1'] = layer
  norm = {'scale': jnp.ones(64), 'bias': jnp.zeros(64)}
  variables['params']['block1_bn1'] = norm
  (feature,) = quick_jit(encoder.apply)(variables, image)
  np.testing.assert_allclose(feature.min(), lowest, atol=1e-6)
  conv = variables['params']['block1_conv1']
  first = (image[0, :3, :3, :, None] * conv['kernel']).sum((0, 1, 2))
  first = first + conv['bias']
  expected = (
    np.maximum(first / 2 - 1, 0)
    if lowest == 0
    else np.maximum(first, 0) / 2 - 1
  )
  np.testing.assert_allclose(feature[0, 1, 1], expected, atol=1e-5)


def test_soft_attention_of_do2022_gets_its_map():
  image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  maps = feature_maps(encoders.VGG16Do2022(), image)
  assert list(maps.values())[-1].shape == (1, 28, 28, 512)
  kernels = jax.eval_shape(
    encoders.VGG16Do2022().init, jax.random.key(0), image
  )['params']
  sizes = [kernels[f'{tap}']['kernel'].shape[0] for tap in maps]
  assert sizes == [3, 1, 3, 1, 3, 3, 1, 3, 3, 1]


@pytest.mark.parametrize('name, each', [('VGG16', 2), ('VGG16BN', 3)])
def test_places_in_the_sequence_of_torch(name, each):
  """A convolution, BatchNorm and ReLU count one each, and so do maxima."""
  place, expected = 0, {}
  for i, repeats in enumerate((2, 2, 3, 3, 3), start=1):
    for j in range(1, repeats + 1):
      expected[f'block{i}_conv{j}'] = f'features.{place}'
      if each == 3:
        expected[f'block{i}_bn{j}'] = f'features.{place + 1}'
      place += each
    place += 1
  assert place == {2: 31, 3: 44}[each]
  for table in names.of(getattr(encoders, name)()):
    if table.library != 'keras':
      found = {
        layer: [theirs for theirs, _ in table.names(layer, 'bias')]
        for layer in expected
      }
      assert found == {layer: [there] for layer, there in expected.items()}


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
@pytest.mark.parametrize(
  'name, factory', [('VGG16', 'vgg16'), ('VGG16BN', 'vgg16_bn')]
)
def test_every_tensor_of_torch_has_a_name(library, name, factory):
  """The classifier's too, of which no golden file tells."""
  torch = pytest.importorskip('torch')
  torch_members.library('torchvision')
  module = pytest.importorskip(f'{library}.models')
  encoder = getattr(encoders, name)(taps=('predictions',), origin='torch')
  (table,) = (t for t in names.of(encoder) if t.library == library)
  with torch.device('meta'):
    state = getattr(module, factory)().state_dict()
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  found = places(jax.eval_shape(encoder.init, jax.random.key(0), image))
  normalised = norms(found)
  used = {}
  for place, leaf in found.items():
    (theirs,) = source(
      table, place, place[1:-1] in normalised, leaf.shape
    ).names
    used[theirs] = leaf.size
  assert used == {n: v.numel() for n, v in state.items() if table.counts(n)}
