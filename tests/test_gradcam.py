"""Grad-CAM: by hand, against torch, and on every kind of network."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import gradcam, systems
from jaxderm.models.classifier import Classifier
from jaxderm.models.heads import Pooled
from jaxderm.models.taps import Encoder


class Small(Encoder):
  """Two convolutions: 'fine' at the image's size, 'coarse' at half of it."""

  taps: tuple[str, ...] = ('coarse',)
  normalisation: ClassVar[str] = 'unit'

  @nn.nowrap
  def features(self, image, train):
    x = nn.relu(nn.Conv(4, (3, 3), name='first')(image))
    yield 'fine', x
    how = {'strides': 2, 'padding': ((1, 1), (1, 1))}
    x = nn.relu(nn.Conv(5, (3, 3), **how, name='second')(x))
    yield 'coarse', x
    yield 'unused', nn.Conv(7, (1, 1), name='third')(x)


class Bare(Encoder):
  """Twice the image."""

  taps: tuple[str, ...] = ('map',)

  @nn.nowrap
  def features(self, image, train):
    yield 'map', 2 * image


def explained(network, variables, image, chosen, tap=None):
  """Heat maps and logits."""
  cut = gradcam.cut(network, variables, [image], tap)
  return gradcam.explain(
    cut,
    variables,
    [image],
    lambda logits: gradcam.of_class(logits, jnp.asarray(chosen)),
  )


def test_a_heat_map_by_hand():
  network = Classifier(Bare(), Pooled(), classes=2)
  image = np.zeros((2, 2, 2, 3), np.float32)
  image[0, ..., 0] = [[1, 2], [3, 4]]
  image[0, ..., 1] = [[4, 0], [1, 1]]
  image[1] = 5.0
  kernel = np.array([[1.0, 0.0], [-1.0, 2.0], [0.0, 0.0]], 'f')
  logits = {'kernel': kernel, 'bias': np.zeros(2, 'f')}
  variables = {'params': {'logits': logits}}
  maps, logits = explained(network, variables, image, [0, 1])
  # Weights are 1/4 and -1/4, so the sum is (-3, 2, 2, 3) / 2, cut at 0.
  np.testing.assert_allclose(maps[0], [[0, 2 / 3], [2 / 3, 1]], rtol=1e-6)
  # An even map has no least and no greatest place.
  np.testing.assert_array_equal(maps[1], np.zeros((2, 2)))
  np.testing.assert_allclose(logits[0], [2, 6], rtol=1e-6)
  # Of the other class the second channel alone counts.
  maps, _ = explained(network, variables, image, [1, 1])
  np.testing.assert_allclose(maps[0], [[1, 0], [1 / 4, 1 / 4]], rtol=1e-6)


@pytest.fixture(scope='module')
def small():
  network = Classifier(Small(), Pooled(hidden=6), classes=3)
  image = np.random.default_rng(0).normal(size=(3, 10, 12, 3)).astype('f')
  return network, draw(network, image), image


def torchs(params, image, chosen, tap):
  """The same network in torch, its own gradients, and its own enlarging."""
  torch = pytest.importorskip('torch')
  f = torch.nn.functional

  def given(path):
    at = params
    for key in path.split('/'):
      at = at[key]
    return torch.from_numpy(np.array(at))

  def conv(x, name, stride):
    kernel = given(f'encoder/{name}/kernel').permute(3, 2, 0, 1)
    return f.relu(
      f.conv2d(x, kernel, given(f'encoder/{name}/bias'), stride, padding=1)
    )

  def dense(x, name):
    return x @ given(f'{name}/kernel') + given(f'{name}/bias')

  x = torch.from_numpy(image).permute(0, 3, 1, 2)
  maps = {'fine': conv(x, 'first', 1).requires_grad_()}
  if tap == 'fine':
    maps['fine'] = maps['fine'].detach().requires_grad_()
  maps['coarse'] = conv(maps['fine'], 'second', 2)
  maps['coarse'].retain_grad()
  hidden = f.relu(dense(maps['coarse'].mean((2, 3)), 'head/hidden'))
  logits = dense(hidden, 'logits')
  logits[torch.arange(len(x)), torch.tensor(chosen)].sum().backward()
  weights = maps[tap].grad.mean((2, 3), keepdim=True)
  heat = f.relu((weights * maps[tap]).sum(1, keepdim=True))
  heat = f.interpolate(heat, x.shape[2:], mode='bilinear', align_corners=False)[
    :, 0
  ]
  least, most = heat.amin((1, 2), True), heat.amax((1, 2), True)
  return ((heat - least) / (most - least)).detach().numpy()


@pytest.mark.parametrize('tap', ['coarse', 'fine'])
def test_heat_maps_are_torchs(small, tap):
  network, variables, image = small
  chosen = [0, 2, 1]
  maps, logits = explained(network, variables, image, chosen, tap)
  expected = torchs(variables['params'], image, chosen, tap)
  assert maps.shape == (3, 10, 12)
  assert np.std(expected, axis=(1, 2)).min() > 0.05
  np.testing.assert_allclose(maps, expected, atol=2e-5)
  np.testing.assert_allclose(
    logits, network.apply(variables, image, False), atol=1e-6
  )


def test_the_map_that_the_head_reads_is_explained(small):
  network, variables, image = small
  assert gradcam.cut(network, variables, [image]).tap == 'coarse'
  # At 2 pixels that map has one position, which shows nothing.
  tiny = gradcam.cut(network, variables, [image[:, :2, :2]])
  assert tiny.tap == 'fine'


def test_a_pooled_map_is_passed_over():
  """VGG16 is explained at block5_conv3 (SPEC 5.5), though block5_pool is read."""
  network = systems.build('classifier', encoder='VGG16')
  image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  assert network.encoder.taps == ('block5_pool',)
  assert gradcam.cut(network, variables, [image]).tap == 'block5_conv3'


def test_a_map_that_is_not_built_is_told(small):
  network, variables, image = small
  with pytest.raises(ValueError, match="no map called 'unused'.*fine, coarse"):
    gradcam.cut(network, variables, [image], 'unused')


KINDS = {
  'classifier': dict(encoder='Plain8', classes=3),
  'metadata': dict(encoder='Plain8', classes=3, metadata=21),
  'discriminant': dict(encoder='Plain8'),
  'unet': dict(encoder='Plain8', taps=('stage1', 'stage2'), widths=(8,)),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_network_is_cut_without_a_change(kind):
  """Cut and joined it answers as before; its map is on the way."""
  name = 'classifier' if kind == 'metadata' else kind
  network = systems.build(name, **KINDS[kind])
  if kind == 'discriminant':
    network = network.clone(chosen=2)
  rng = np.random.default_rng(0)
  image = rng.normal(size=(2, 32, 32, 3)).astype('f')
  inputs = [image]
  if kind == 'metadata':
    inputs.append(np.abs(rng.normal(size=(2, 21))).astype('f'))
  variables = draw(network, *inputs)
  cut = gradcam.cut(network, variables, inputs, 'stage2')

  def both(variables, *inputs):
    score = {'unet': lambda x: gradcam.of_lesion(x, x > 0)}.get(
      kind, lambda x: gradcam.of_class(x, jnp.asarray([0, 1]))
    )
    return (
      gradcam.explain(cut, variables, inputs, score),
      network.apply(variables, *inputs, False),
    )

  (maps, outputs), expected = quick_jit(both)(variables, *inputs)
  np.testing.assert_allclose(outputs, expected, atol=1e-5)
  assert maps.shape == (2, 32, 32)
  assert np.isfinite(maps).all() and maps.min() == 0
  assert np.asarray(maps).std() > 0.01


def test_the_score_of_a_lesion_by_hand():
  logits = jnp.asarray([[1.0, 5.0], [-2.0, 3.0]])[None, :, :, None]
  found = logits > 0
  assert gradcam.of_lesion(logits, found)[0] == 3  # of 1, 5 and 3
  two = jnp.concatenate([jnp.ones_like(logits), logits], axis=-1)
  assert gradcam.of_lesion(two, found)[0] == 2
  heads = (logits, 3 * logits)
  assert gradcam.of_lesion(heads, found)[0] == 6
  assert gradcam.of_lesion(logits, jnp.zeros_like(found))[0] == 0
