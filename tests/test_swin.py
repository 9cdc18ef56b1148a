"""Swin and Swin-Unet: what parity with torchvision does not reach."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from compiling import draw, quick_jit

from jaxderm import cost
from jaxderm.models import attention, decoders, encoders
from jaxderm.models.decoders.swin import PatchExpand
from jaxderm.step import cast
from jaxderm.systems import build

KEY = jax.random.key(0)
NAME = 'zarrin2025/SwinUNet'


# SPEC 4.3, with two classes.
@pytest.mark.parametrize(
  'window, trainable, products', [(7, 27_168_228, 6.08), (8, 27_175_620, 8.02)]
)
def test_size_and_cost(window, trainable, products):
  network = build(NAME, window=window)
  assert cost.parameters(network, 64) == (trainable, trainable)
  assert round(cost.multiply_adds(network, 32 * window) / 1e9, 2) == products


# --- Windows -----------------------------------------------------------------


def test_distances_by_hand():
  expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
  np.testing.assert_array_equal(attention._distances(2), expected)


def test_position_bias_is_added_to_the_scores():
  """One that says that only the pixel on the left counts."""
  layer = attention.WindowAttention(1, window=2)
  x = jnp.arange(16.0).reshape(1, 2, 2, 4)
  variables = draw(layer, x)
  params = jax.tree.map(np.zeros_like, variables['params'])
  # Distance 0 down, 1 to the right: row 1, column 2 of 3 x 3.
  params['position_bias'][0, 3 + 2] = 200
  eye = np.eye(4, dtype=np.float32)[None, None]
  params['qkv']['kernel'][..., 8:] = eye
  params['out']['kernel'] = eye
  y = quick_jit(layer.apply)({'params': params}, x)
  # Those on the left have nothing there, and take the mean of the window.
  np.testing.assert_allclose(y[0, :, 1], x[0, :, 0], rtol=1e-5)
  mean = x.mean((1, 2))[0]
  np.testing.assert_allclose(y[0, :, 0], [mean, mean], rtol=1e-5)


# In maps of 6 x 8 and 4 x 8; the first is filled up to 8 x 8.
@pytest.mark.parametrize(
  'height, shifted, pixel, rows, columns',
  [
    (6, False, (0, 0), (0, 4), (0, 4)),
    (6, False, (5, 7), (4, 6), (4, 8)),
    (6, True, (0, 0), (0, 2), (0, 2)),
    (6, True, (0, 3), (0, 2), (2, 6)),
    (6, True, (5, 7), (2, 6), (6, 8)),
    (4, True, (0, 3), (0, 4), (2, 6)),
    (4, True, (3, 0), (0, 4), (0, 2)),
  ],
)
def test_a_pixel_is_seen_in_its_window(height, shifted, pixel, rows, columns):
  """And those that came round are not seen beside those that did not."""
  layer = attention.WindowAttention(2, window=4, shifted=shifted)
  x = np.random.RandomState(0).rand(1, height, 8, 4).astype('f4')
  variables = draw(layer, x)
  other = x.copy()
  other[0, *pixel] += 1
  apply = quick_jit(layer.apply)
  difference = apply(variables, other) - apply(variables, x)
  expected = np.zeros((height, 8), bool)
  expected[slice(*rows), slice(*columns)] = True
  np.testing.assert_array_equal(np.abs(difference[0]).max(-1) > 1e-6, expected)


@pytest.mark.parametrize(
  'width, heads', [(96, 3), (768, 24), (240, 6), (5, 1), (64, 2)]
)
def test_heads(width, heads):
  block = attention.swin_block(width, 7, False, 0.0, 'block')
  assert block.attention().heads == heads


# --- The network -------------------------------------------------------------


def drop_rates(network, *inputs):
  """Of all blocks by name."""
  rates = {}

  def watch(following, args, kwargs, context):
    if isinstance(context.module, nn.Dropout):
      *_, block, path = context.module.path
      assert path in ('drop1', 'drop2', 'path1', 'path2')
      if path.startswith('path'):
        rates.setdefault(block, set()).add(round(context.module.rate, 6))
        assert context.module.broadcast_dims == (1, 2, 3)
      else:
        assert context.module.rate == 0
    return following(*args, **kwargs)

  with nn.intercept_methods(watch):
    jax.eval_shape(
      lambda *x: network.init({'params': KEY, 'dropout': KEY}, *x, True),
      *inputs,
    )
  return {block: rate for block, (rate,) in rates.items()}


def test_blocks_drop_more_often_the_deeper_they_are():
  linear = [round(0.2 * i / 7, 6) for i in range(8)]
  encoder = encoders.SwinCao2021(width=32)
  found = drop_rates(encoder, np.ones((1, 64, 64, 3)))
  names = [f'stage{i}_block{j}' for i in (1, 2, 3, 4) for j in (1, 2)]
  assert found == dict(zip(names, linear, strict=True))
  pyramid = tuple(np.ones((1, 16 >> i, 16 >> i, 32 << i)) for i in range(4))
  found = drop_rates(decoders.SwinDecoder(), pyramid)
  names = [f'level{i}_block{j}' for i in (1, 2, 3) for j in (1, 2)]
  assert found == dict(zip(names, linear[:6], strict=True))


def test_every_second_block_is_shifted():
  shifted = {}

  def watch(following, args, kwargs, context):
    layer = context.module
    if isinstance(layer, attention.WindowAttention):
      assert layer.window == 8
      shifted[layer.path[-3:-1]] = layer.shifted
    return following(*args, **kwargs)

  network = build(NAME)
  with nn.intercept_methods(watch):
    jax.eval_shape(network.init, KEY, np.ones((1, 32, 32, 3)))
  assert len(shifted) == 8 + 6
  for (_, block), found in shifted.items():
    assert found == block.endswith('_block2')


def test_patch_expand_by_hand():
  """Channels go to the pixels row by row; 0 and 1 are normalised to -1, 1."""
  layer = PatchExpand(2)
  x = jnp.array([0.0, 1, 0, 1, 1, 0, 1, 0]).reshape(1, 1, 1, 8)
  variables = draw(layer, x)
  params = {
    'dense': {'kernel': jnp.eye(8)[None, None]},
    'norm': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)},
  }
  assert jax.tree.structure(params) == jax.tree.structure(variables['params'])
  y = layer.apply({'params': params}, x)
  expected = [[[-1, 1]] * 2, [[1, -1]] * 2]
  np.testing.assert_allclose(y[0], expected, atol=1e-4)


class Literal:
  """The decoder of SPEC 4.3 without its blocks, in NumPy."""

  def __init__(self, params):
    self.params = jax.tree.map(np.asarray, params)

  def norm(self, x, params):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-5)
    return x * params['scale'] + params['bias']

  def expand(self, name, x, n):
    x = x @ self.params[name]['dense']['kernel'][0, 0]
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, n, n, c // n**2).swapaxes(2, 3)
    x = x.reshape(b, h * n, w * n, c // n**2)
    return self.norm(x, self.params[name]['norm'])

  def join(self, name, x, skip):
    kernel, bias = (self.params[name][k] for k in ('kernel', 'bias'))
    return np.concatenate([x, skip], axis=-1) @ kernel[0, 0] + bias

  def __call__(self, pyramid):
    fine, middle, coarse = pyramid
    x = self.join('join2', self.expand('expand2', coarse, 2), middle)
    x = self.join('join1', self.expand('expand1', x, 2), fine)
    return self.expand('expand', self.norm(x, self.params['norm']), 4)


def test_decoder_equals_the_literal_one():
  decoder = decoders.SwinDecoder(depth=0)
  rng = np.random.RandomState(0)
  pyramid = tuple(
    rng.standard_normal((2, 8 >> i, 12 >> i, 6 << i)).astype('f4')
    for i in range(3)
  )
  variables = draw(decoder, pyramid)
  found = quick_jit(decoder.apply)(variables, pyramid)
  expected = Literal(variables['params'])(pyramid)
  assert found.shape == (2, 32, 48, 6)
  parity.assert_features([found], [expected], ['features'], 'SwinDecoder')


def test_trains_in_both_precisions():
  """What is dropped follows the key; gradients are finite and everywhere."""
  network = build(
    NAME,
    encoder=encoders.SwinCao2021(
      width=32, depths=(2, 1), taps=('embedding', 'norm')
    ),
    window=4,
    drop_rate=0.9,
  )
  # 12 x 10 pixels of the first stage: filled up, and shifted.
  image = parity.images((48, 40))
  variables = draw(network, image)

  def apply(params, key, train):
    x = image.astype(params['encoder']['norm']['scale'].dtype)
    rngs = {'dropout': key} if train else None
    return network.apply({'params': params}, x, train, rngs=rngs)

  @quick_jit
  def run(params, narrow):
    keys = jax.random.split(KEY)
    grads = jax.grad(lambda p: jnp.sum(jnp.sin(apply(p, None, False))))(params)
    a, b = (apply(params, key, True) for key in keys)
    return grads, a, b, apply(params, None, False), apply(narrow, None, False)

  params = variables['params']
  grads, a, b, still, narrow = run(params, cast(params, 'bfloat16'))
  assert np.abs(a - b).max() > 0.1
  for path, g in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(g).all() and np.any(g != 0), path
  assert still.shape == (2, 48, 40, 2)
  assert np.std(narrow - still) < 0.05 * np.std(still)
