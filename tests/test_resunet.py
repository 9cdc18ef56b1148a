"""Deep Residual U-Net, and what the convolutional kinds have in common."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick_jit
from training import in_both_precisions

from jaxderm import kinds, systems
from jaxderm.cost import parameters
from jaxderm.models import encoders
from jaxderm.models.layers import ResidualUnit

KEY = jax.random.key(0)


def centre(path, leaf):
  """Kernels of which only the middle counts; norms that leave things be."""
  if path[-1].key == 'kernel':
    half = leaf.shape[0] // 2
    return jnp.zeros(leaf.shape).at[half, half].set(3.0)
  value = {'scale': 1.0, 'var': 1 - 1e-3}
  return jnp.full(leaf.shape, value.get(path[-1].key, 0.0))


def run(unit, x):
  shapes = jax.eval_shape(unit.init, KEY, x)
  variables = jax.tree_util.tree_map_with_path(centre, shapes)
  return set(variables['params']), quick_jit(unit.apply)(variables, x)


def test_unit_by_hand():
  x = jnp.array([[1.0, -2.0], [4.0, 5.0]])[None, ..., None]
  layers = {'norm1', 'conv1', 'norm2', 'conv2'}
  # ReLU, three times, ReLU, three times; the input itself is added.
  names, y = run(ResidualUnit(1), x)
  assert names == layers
  np.testing.assert_allclose(y[0, ..., 0], [[10, -2], [40, 50]], rtol=1e-5)
  # An image is convolved as it is: -2 goes to -6 and is cut off after that.
  names, y = run(ResidualUnit(1, first=True), x - 3)
  assert names == layers - {'norm1'}
  np.testing.assert_allclose(y[0, ..., 0], [[-2, -5], [10, 20]], rtol=1e-5)


def test_unit_projects_what_changes_shape():
  """With a stride the shortcut is 3 x, of the first pixel of each four."""
  x = jnp.array([[1.0, 7.0, 2.0], [7.0, 7.0, 7.0], [3.0, 7.0, 4.0]])
  unit = ResidualUnit(2, stride=2)
  names, y = run(unit, x[None, ..., None])
  assert 'shortcut' in names
  # The second convolution sums both channels: 3 (3 x + 3 x), and 3 x.
  expected = 21 * np.array([[1, 2], [3, 4]])
  np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-5)
  np.testing.assert_allclose(y[0, ..., 1], expected, rtol=1e-5)


def unit_size(fan_in, width, first=False):
  """Weights and biases; then the channels that are normalised."""
  weights = 9 * fan_in * width + 9 * width**2 + 2 * width
  if fan_in != width:
    weights += fan_in * width + width
  return weights, width + (0 if first else fan_in)


def test_size_by_hand():
  """Units of 64 to 512 channels and back; a skip comes beside what is below.

  Table 1 of the paper gives the 3x3 convolutions, of which there are
  7,780,032 weights.
  """
  encoder = [(3, 64, True), (64, 128), (128, 256), (256, 512)]
  decoder = [(512 + 256, 256), (256 + 128, 128), (128 + 64, 64)]
  kernels = [9 * (i * o + o * o) for i, o, *_ in encoder + decoder]
  assert sum(kernels) == 7_780_032
  sizes = [unit_size(*unit) for unit in encoder + decoder]
  weights, channels = map(sum, zip(*sizes, strict=True))
  head = 64 * 2 + 2
  network = systems.build('zarrin2025/ResUNet')
  expected = weights + 2 * channels + head
  assert parameters(network, 32) == (expected, expected + 2 * channels)


# ----------------------------------------------------------------- all of them

SMALL = {
  'gated': {},
  'resunet': {},
  'rfe': {},
  'rfe, added': {'fuse': 'eachadd'},
  'rfe, none': {'fuse': None},
}


@pytest.mark.parametrize('name', SMALL)
def test_trains_in_both_precisions(name):
  """A loss and gradients, in every part of the network."""
  encoder = encoders.PlainResidual64(widths=(4, 6, 8)).clone(
    taps=('stage1', 'stage2', 'stage3'), origin='torch'
  )
  kind = name.partition(',')[0]
  network = kinds.KINDS[kind](encoder, **SMALL[name])
  image = np.random.default_rng(0).normal(size=(2, 18, 13, 3)).astype('f')
  losses = []
  for loss, found in in_both_precisions(network, image):
    losses.append(loss)
    for part in found.values():
      assert all(np.isfinite(x).all() for x in jax.tree.leaves(part))
      assert max(np.abs(x).max() for x in jax.tree.leaves(part)) > 1e-4
  assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
  'name', ['UNet', 'AttentionUNet', 'ResUNet', 'ResNet34RFE', 'ResNet50']
)
def test_all_normalise_as_torch_does(name):
  """Epsilon 1e-5; but for YOLO's convolutions, 1e-3."""
  network = systems.build(f'zarrin2025/{name}')
  found = {'encoder': set(), 'neck': set(), 'decoder': set()}

  def look(following, args, kwargs, context):
    if isinstance(context.module, nn.BatchNorm):
      module = context.module
      found[module.scope.path[0]].add((module.epsilon, module.momentum))
    return following(*args, **kwargs)

  image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  with nn.intercept_methods(look):
    jax.eval_shape(network.init, KEY, image)
  assert found['encoder'] == found['decoder'] == {(1e-5, 0.9)}
  assert found['neck'] == ({(1e-3, 0.97)} if 'RFE' in name else set())
