"""The neck of zarrin2025: its parts by hand, its sizes, what it joins."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import systems
from jaxderm.cost import parameters
from jaxderm.models import necks
from jaxderm.models.layers import max_pool

KEY = jax.random.key(0)


def silu(x):
  return x / (1 + np.exp(-x))


def sub(variables, name):
  return {kind: tree[name] for kind, tree in variables.items()}


def test_yolo_conv_by_hand():
  """SiLU of (2 * 3 - 4) / 0.5 * 1.5 + 1: the deviation is sqrt(0.249 + 1e-3)."""
  variables = {
    'params': {
      'conv': {'kernel': jnp.full((1, 1, 1, 1), 2.0)},
      'norm': {'scale': jnp.array([1.5]), 'bias': jnp.array([1.0])},
    },
    'batch_stats': {
      'norm': {'mean': jnp.array([4.0]), 'var': jnp.array([0.249])}
    },
  }
  x = jnp.array([3.0, 5.0]).reshape(1, 1, 2, 1)
  apply = necks.YoloConv(1).apply
  y = apply(variables, x)
  np.testing.assert_allclose(y[0, 0, :, 0], silu(np.array([7, 19])), rtol=1e-6)
  _, updated = apply(variables, x, True, mutable=['batch_stats'])
  # 97 % of the old mean; that of the batch is (6 + 10) / 2.
  np.testing.assert_allclose(
    updated['batch_stats']['norm']['mean'], [0.97 * 4 + 0.03 * 8], rtol=1e-6
  )


def identity(path, leaf):
  """Variables of layers that leave what they get as it is."""
  value = {'scale': 1.0, 'var': 1 - 1e-3, 'kernel': 0.0}
  if path[-1].key == 'kernel':
    height, width, fan_in, fan_out = leaf.shape
    out = jnp.zeros(leaf.shape)
    return out.at[height // 2, width // 2].set(jnp.eye(fan_in, fan_out))
  return jnp.full(leaf.shape, value.get(path[-1].key, 0.0))


def test_sppf_spreads_a_pixel_to_5_9_and_13():
  x = jnp.zeros((1, 15, 16, 2)).at[0, 7, 8, 0].set(1)
  sppf = necks.SPPF(4)
  shapes = jax.eval_shape(sppf.init, KEY, x)
  variables = jax.tree_util.tree_map_with_path(identity, shapes)
  y = np.asarray(quick_jit(sppf.apply)(variables, x))
  for i, reach in enumerate((0, 2, 4, 6)):
    expected = np.zeros((15, 16))
    expected[7 - reach : 8 + reach, 8 - reach : 9 + reach] = silu(silu(1.0))
    np.testing.assert_allclose(y[0, ..., i], expected, rtol=1e-5)


def test_max_pool_of_two_sides():
  """Columns, then rows, is the square; forward and gradient as XLA has them."""
  x = jax.random.normal(KEY, (2, 9, 7, 3))

  def ours(x):
    return max_pool(max_pool(x, (5, 1), 1, 'SAME'), (1, 5), 1, 'SAME')

  def theirs(x):
    return nn.max_pool(x, (5, 5), (1, 1), 'SAME')

  (y, dx), (expected, gradient) = quick_jit(
    lambda: [
      (of(x), jax.grad(lambda x, of=of: (of(x) ** 2).sum())(x))
      for of in (ours, theirs)
    ]
  )()
  np.testing.assert_array_equal(y, expected)
  np.testing.assert_allclose(dx, gradient, rtol=1e-5)


@pytest.mark.parametrize('repeats', [1, 2])
def test_c2f_in_numpy(repeats):
  """Of one pixel, where of a 3x3 kernel the centre counts."""
  x = np.random.default_rng(0).normal(size=(1, 1, 1, 5)).astype('f')
  c2f = necks.C2f(6, repeats)
  variables = draw(c2f, x)

  def unit(name, x):
    layer = sub(variables, name)
    kernel = layer['params']['conv']['kernel']
    stats, norm = layer['batch_stats']['norm'], layer['params']['norm']
    x = x @ kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
    x = (x - stats['mean']) / np.sqrt(stats['var'] + 1e-3)
    return silu(x * norm['scale'] + norm['bias'])

  parts = np.split(unit('split', x[0, 0, 0]), [3])
  for i in range(1, repeats + 1):
    parts.append(unit(f'repeat{i}_2', unit(f'repeat{i}_1', parts[-1])))
  expected = unit('join', np.concatenate(parts))
  y = quick_jit(c2f.apply)(variables, x)
  np.testing.assert_allclose(y[0, 0, 0], expected, rtol=2e-4)


WIDTHS = (4, 6, 10)
PYRAMID = tuple(
  np.random.default_rng(i).normal(size=(2, 8 >> i, 12 >> i, width)).astype('f')
  for i, width in enumerate(WIDTHS)
)


@pytest.mark.parametrize('fuse', necks.FUSIONS)
def test_rfe_of_its_parts(fuse):
  """SPEC 4.1, and alternative A of SPEC 4.2, written out."""
  neck = necks.RFE(fuse)
  variables = draw(neck, PYRAMID)
  skips = quick_jit(neck.apply)(variables, PYRAMID)
  assert [x.shape for x in skips] == [x.shape for x in PYRAMID]
  np.testing.assert_array_equal(skips[-1], PYRAMID[-1])

  def part(module, name, x):
    return quick_jit(module.apply)(sub(variables, name), x)

  for i, width in enumerate(WIDTHS[:-1]):
    sppf, c2f = necks.SPPF(width), necks.C2f(width)
    own = part(sppf, f'sppf{i + 1}', PYRAMID[i])
    below = part(sppf, f'sppf{i + 1}_below', PYRAMID[i + 1])
    if fuse == 'eachadd':
      below = part(c2f, f'c2f{i + 1}_below', below)
    below = np.repeat(np.repeat(below, 2, axis=1), 2, axis=2)
    if fuse == 'cat':
      both = np.concatenate([own, below], axis=-1)
      expected = part(c2f, f'c2f{i + 1}', both)
    else:
      expected = part(c2f, f'c2f{i + 1}', own) + below
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(skips[i], expected, atol=1e-4)


def test_unknown_fusion():
  with pytest.raises(ValueError, match="fuse 'sum': expected one of cat, each"):
    jax.eval_shape(necks.RFE('sum').init, KEY, PYRAMID)


# ---------------------------------------------------------------------- sizes


def sppf(fan_in, fan_out):
  half = fan_in // 2
  return fan_in * half + 4 * half * fan_out, half + fan_out


def c2f(fan_in, fan_out):
  half = fan_out // 2
  weights = fan_in * 2 * half + 2 * 9 * half**2 + 3 * half * fan_out
  return weights, 2 * half + 2 * half + fan_out


@pytest.mark.parametrize('fuse', necks.FUSIONS)
def test_size_of_the_neck(fuse):
  """Weights, and the channels that are normalised, part by part (SPEC 4.1)."""
  parts = []
  for fine, coarse in ((4, 6), (6, 10)):
    parts += [sppf(fine, fine), sppf(coarse, fine)]
    merged = [2 * fine] if fuse == 'cat' else [fine, fine]
    parts += [c2f(fan_in, fine) for fan_in in merged]
  weights, channels = map(sum, zip(*parts, strict=True))
  variables = jax.eval_shape(necks.RFE(fuse).init, KEY, PYRAMID)
  found = sum(x.size for x in jax.tree.leaves(variables['params']))
  assert found == weights + 2 * channels


# SPEC 4.2.
@pytest.mark.parametrize(
  'name, default, alternative',
  [
    ('ResNet34RFE', 25_094_506, 25_635_714),
    ('ResNet50RFE', 82_279_210, 90_569_922),
    ('ResNet101RFE', 101_271_338, 109_562_050),
  ],
)
def test_size_of_the_systems(name, default, alternative):
  name = f'zarrin2025/{name}'
  assert parameters(systems.build(name), 64)[0] == default
  other = systems.build(name, fuse='eachadd')
  assert parameters(other, 64)[0] == alternative
  # The option T2 has as many.
  transposed = systems.build(name, up='transpose')
  assert parameters(transposed, 64)[0] == default


def test_alternative_ends_at_half_size():
  network = systems.build('zarrin2025/ResNet50RFE', fuse='eachadd')
  assert network.decoder.widths == (1024, 512, 256, 64)
  assert network.encoder.stride_first
  assert network.encoder.origin == 'torch'  # so that it has no biases
  network = systems.build('zarrin2025/ResNet50RFE')
  assert network.decoder.widths == (1024, 512, 256, 64, 8)
  assert not network.encoder.stride_first


def test_neck_goes_with_any_encoder():
  network = systems.build('rfe', encoder='Plain8', repeats=2)
  assert network.decoder.widths == (64, 32, 16, 8)  # full size without `last`
  logits = jax.eval_shape(
    lambda x: network.init_with_output(KEY, x)[0], jnp.ones((1, 50, 71, 3))
  )
  assert logits.shape == (1, 50, 71, 1)
