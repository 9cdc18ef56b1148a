"""TransUNet: its encoder against Keras' layers, its sizes, Google's weights."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import parity
import pytest
from compiling import draw, quick_jit
from flax import traverse_util
from scipy import ndimage

from jaxderm import cost, pretrained
from jaxderm.models import attention, encoders, layers
from jaxderm.models.encoders.r50vit import StdConv
from jaxderm.step import cast
from jaxderm.systems import build

NAME = 'zarrin2025/TransUNet'
SMALL = dict(
  grid=4, width=32, depths=(1, 2, 1), hidden=24, layers=2, heads=3, mlp=40
)
MAPS = ('root', 'block1', 'block2', 'block3', 'embedding', 'encoder_norm')


def small(**changes):
  return encoders.R50ViT(**{**SMALL, 'taps': MAPS, **changes})


# SPEC 4.3: with two classes; the images of that grid have 16 times its side.
@pytest.mark.parametrize(
  'grid, trainable, products',
  [(14, 105_276_066, 29.2), (16, 105_322_146, 38.4)],
)
def test_size_and_cost(grid, trainable, products):
  network = build(NAME, grid=grid)
  assert cost.parameters(network, 64)[0] == trainable
  assert round(cost.multiply_adds(network, 16 * grid) / 1e9, 1) == products


def test_grid_is_that_of_an_encoder_with_positions():
  with pytest.raises(ValueError, match='ResNet has no learnt positions'):
    build(NAME, encoder='ResNet50', grid=14)


# --- The encoder -------------------------------------------------------------


class Literal:
  """SPEC 4.3 written out, with the layers of Keras."""

  def __init__(self, variables):
    self.params = jax.tree.map(np.asarray, variables['params'])

  def apply(self, layer, x, *weights):
    layer.build(x.shape)
    layer.set_weights(weights)
    return layer(x)

  def conv(self, name, x, stride=1):
    kernel = self.params[name]['kernel']
    filters = kernel.reshape(-1, kernel.shape[-1])
    kernel = (kernel - filters.mean(0)) / np.sqrt(filters.var(0) + 1e-5)
    half = kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    return keras.ops.conv(x, kernel.astype('f4'), stride, 'valid')

  def group_norm(self, name, x, groups=32, epsilon=1e-6):
    layer = keras.layers.GroupNormalization(groups, epsilon=epsilon)
    params = self.params[name]
    return self.apply(layer, x, params['scale'], params['bias'])

  def layer_norm(self, params, x):
    layer = keras.layers.LayerNormalization(epsilon=1e-6)
    return self.apply(layer, x, params['scale'], params['bias'])

  def unit(self, name, x, stride=1):
    y = self.conv(f'{name}_conv1', x)
    y = keras.ops.relu(self.group_norm(f'{name}_gn1', y))
    y = self.conv(f'{name}_conv2', y, stride)
    y = keras.ops.relu(self.group_norm(f'{name}_gn2', y))
    y = self.group_norm(f'{name}_gn3', self.conv(f'{name}_conv3', y))
    if f'{name}_conv_proj' in self.params:
      x = self.conv(f'{name}_conv_proj', x, stride)
      x = self.group_norm(f'{name}_gn_proj', x, x.shape[-1], 1e-5)
    return keras.ops.relu(x + y)

  def dense(self, params, x, **settings):
    kernel = params['kernel'][0, 0]
    layer = keras.layers.Dense(kernel.shape[1], **settings)
    return self.apply(layer, x, kernel, params['bias'])

  def block(self, name, x):
    params, (_, _, width) = self.params[name], x.shape
    heads = SMALL['heads']
    weights = []
    for part in ('query', 'key', 'value', 'out'):
      outer = (heads, width // heads)
      kernel, bias = (params['attention'][part][k] for k in ('kernel', 'bias'))
      if part == 'out':
        weights += [kernel.reshape(*outer, width), bias]
      else:
        weights += [kernel.reshape(width, *outer), bias.reshape(outer)]
    y = self.layer_norm(params['norm1'], x)
    layer = keras.layers.MultiHeadAttention(heads, width // heads)
    layer.build(y.shape, y.shape)
    layer.set_weights(weights)
    x = x + layer(y, y)
    y = self.layer_norm(params['norm2'], x)
    y = self.dense(params['mlp']['dense1'], y, activation='gelu')
    return x + self.dense(params['mlp']['dense2'], y)

  def __call__(self, image):
    x = self.group_norm('gn_root', self.conv('conv_root', image, 2))
    root = keras.ops.relu(x)
    x = keras.layers.MaxPooling2D(3, 2, 'valid')(root)
    x = self.unit('block1_unit1', x)
    # 31 x 47 of 64 x 96.
    block1 = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    x = self.unit('block2_unit1', x, 2)
    block2 = x = self.unit('block2_unit2', x)
    block3 = x = self.unit('block3_unit1', x, 2)
    embedding = self.params['embedding']
    x = keras.ops.conv(x, embedding['kernel']) + embedding['bias']
    b, h, w, c = x.shape
    position = self.params['position']['embedding']
    x = embedded = x + position.reshape(h, w, c)
    x = keras.ops.reshape(x, (b, h * w, c))
    x = self.block('encoderblock_1', self.block('encoderblock_0', x))
    x = self.layer_norm(self.params['encoder_norm'], x)
    return root, block1, block2, block3, embedded, x.reshape(b, h, w, c)


def test_encoder_equals_the_literal_one():
  encoder = small()
  image = parity.images((64, 64))
  variables = parity.draw(encoder, image)
  found = quick_jit(encoder.apply)(variables, image)
  parity.assert_features(found, Literal(variables)(image), MAPS, 'R50ViT')
  assert np.all(found[1][:, -1] == 0)  # the pool ends before
  assert np.std(found[1][:, -2]) > 0.05


def test_standardised_convolution_by_hand():
  x = jnp.array([5.0, 7.0]).reshape(1, 1, 1, 2)
  # 1 and 3 become -1 and 1; a filter of one value becomes nothing.
  kernel = jnp.array([[1.0, 4.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
  y = StdConv(2).apply({'params': {'kernel': kernel}}, x)
  np.testing.assert_allclose(y.reshape(2), [2, 0], atol=2e-5)


@pytest.mark.parametrize(
  'values, expected', [([0.0, 3.0], [0, 1, 2, 3]), ([7.0], [7, 7])]
)
def test_aligned_upsampling_by_hand(values, expected):
  row = jnp.array(values).reshape(1, 1, -1, 1)
  for x, axes in ((row, 'rc'), (jnp.swapaxes(row, 1, 2), 'cr')):
    y = layers.Up(1, 'aligned').apply({}, x)
    assert y.shape == (1, *(2 * n for n in x.shape[1:3]), 1)
    y = y[0, :, :, 0] if axes == 'rc' else y[0, :, :, 0].T
    np.testing.assert_allclose(y, [expected] * 2, atol=1e-6)


@pytest.mark.parametrize('sides', [(5, 4), (3, 8)])
def test_aligned_upsampling_is_that_of_scipy(sides):
  """Whose zoom has corner on corner, too."""
  x = np.random.RandomState(0).rand(2, *sides, 3).astype('f4')
  expected = ndimage.zoom(x, (1, 2, 2, 1), order=1, mode='nearest')
  found = quick_jit(layers.upsample_aligned)(x)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  narrow = jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)
  assert jax.eval_shape(layers.upsample_aligned, narrow).dtype == jnp.bfloat16


def test_positions_between_positions():
  corners = jnp.array([[0.0, 2.0], [4.0, 6.0]])[..., None]
  found = attention.interpolate(corners, (3, 2))[..., 0]
  np.testing.assert_allclose(found, [[0, 2], [2, 4], [4, 6]])
  grid = np.random.RandomState(0).rand(14, 14, 5).astype('f4')
  assert attention.interpolate(grid, (14, 14)) is grid
  expected = ndimage.zoom(grid, (16 / 14, 16 / 14, 1), order=1, mode='nearest')
  found = attention.interpolate(grid, (16, 16))
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_positions_belong_to_places():
  """With them, an image that is turned round is another image."""
  encoder = small(taps=('encoder_norm',))
  x = np.random.RandomState(0).rand(1, 4, 6, 24).astype('f4')
  position = attention.GridPosition(4)
  variables = {'params': {'embedding': np.arange(384.0).reshape(16, 24)}}
  added = position.apply(variables, x) - x
  np.testing.assert_allclose(added[0, :, 0, 0], [0, 96, 192, 288], rtol=1e-5)
  np.testing.assert_allclose(
    added[0, 0, :, 0], np.linspace(0, 72, 6), rtol=1e-5, atol=1e-4
  )
  made = jax.eval_shape(
    encoder.init, jax.random.key(0), np.ones((1, 96, 64, 3))
  )
  assert made['params']['position']['embedding'].shape == (16, 24)


def test_softmax_is_seen_and_of_full_precision():
  """Scores of 255 and 257 are one to bfloat16."""
  seen = []

  def watch(following, args, kwargs, context):
    y = following(*args, **kwargs)
    if isinstance(context.module, attention.Softmax):
      seen.append((args[0], y))
    return y

  x = jnp.array([[16.0, 1.0], [16.0, -1.0]], jnp.bfloat16).reshape(1, 1, 2, 2)
  layer = attention.Attention(1)
  variables = jax.tree.map(
    lambda p: np.eye(2).reshape(p.shape) if p.ndim > 1 else 0 * p,
    draw(layer, x),
  )
  with nn.intercept_methods(watch):
    y = layer.apply(cast(variables, 'bfloat16'), x)
  ((scores, weights),) = seen
  assert y.dtype == jnp.bfloat16
  assert scores.dtype == weights.dtype == jnp.float32
  assert attention.Softmax().apply({}, y).dtype == jnp.float32
  # (257 - 255) / sqrt(2)
  np.testing.assert_allclose(
    scores[0, 0, 0, 0, 0] - scores[0, 0, 0, 0, 1], 2**0.5, rtol=1e-4
  )
  share = np.exp(2**0.5) / (1 + np.exp(2**0.5))
  np.testing.assert_allclose(weights[0, 0, 0, 0, 0], share, rtol=1e-4)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_trains_in_both_precisions():
  """Dropout follows its key; gradients are finite, and reach everything."""
  encoder = small(taps=('block1', 'encoder_norm'), depths=(1, 1, 1), layers=1)
  image = parity.images((32, 48))
  variables = draw(encoder, image)

  def apply(params, key, train):
    image_ = image.astype(jax.tree.leaves(params)[0].dtype)
    rngs = {'dropout': key} if train else None
    return encoder.apply({'params': params}, image_, train, rngs=rngs)

  def loss(params, key):
    return sum(
      jnp.sum(jnp.sin(x.astype(jnp.float32))) for x in apply(params, key, True)
    )

  @quick_jit
  def run(params, narrow):
    keys = jax.random.split(jax.random.key(0))
    grads = jax.grad(loss)(params, keys[0])
    a, b = (apply(params, key, True)[-1] for key in keys)
    return grads, a, b, apply(params, None, False), apply(narrow, None, False)

  params = variables['params']
  grads, a, b, still, narrow = run(params, cast(params, 'bfloat16'))
  assert np.abs(a - b).max() > 0.1
  assert all(np.isfinite(g).all() and np.any(g != 0) for g in leaves(grads))
  for wide, x in zip(still, narrow, strict=True):
    assert x.dtype == jnp.bfloat16
    difference = np.asarray(x, np.float32) - wide
    assert np.std(difference) < 0.05 * np.std(wide)


def leaves(grads):
  """All but the keys' biases: they add the same to every score of a row."""
  flat = traverse_util.flatten_dict(grads)
  return [g for path, g in flat.items() if path[-2:] != ('key', 'bias')]


# --- Google's weights --------------------------------------------------------

THEIRS = {
  'attention': 'MultiHeadDotProductAttention_1',
  'norm1': 'LayerNorm_0',
  'norm2': 'LayerNorm_2',
  'mlp': 'MlpBlock_3',
  'dense1': 'Dense_0',
  'dense2': 'Dense_1',
}


def theirs(first, *rest):
  if first == 'position':
    return 'Transformer/posembed_input/pos_embedding'
  if first.startswith('encoder'):
    first = f'Transformer/{first}'
  first = re.sub(r'(block\d+)_(unit\d+)_', r'\1/\2/', first)
  return '/'.join([first, *(THEIRS.get(name, name) for name in rest)])


def google_file(variables, heads=3):
  """What a file of theirs has, as shaped there, with a token for the class."""
  params = traverse_util.flatten_dict(variables['params'])
  tensors = {}
  for path, value in params.items():
    value = np.asarray(value)
    if path[0] == 'position':
      value = np.concatenate([0 * value[:1], value])[None]
    elif 'mlp' in path and path[-1] == 'kernel':
      value = value[0, 0]
    elif 'attention' in path:
      sides = value.shape[2:] if path[-1] == 'kernel' else value.shape
      outer = [(heads, side // heads) for side in sides]
      if path[-2:] == ('out', 'kernel'):
        value = value.reshape(*outer[0], sides[1])
      elif path[-2] != 'out':
        value = value.reshape(*sides[:-1], *outer[-1])
    elif re.search(r'(^|_)gn', path[0]):
      value = value.reshape(1, 1, 1, -1)
    tensors[theirs(*path)] = value
  tensors['cls'] = np.zeros((1, 1, 24), np.float32)
  tensors['head/kernel'] = np.zeros((24, 10), np.float32)
  tensors['head/bias'] = np.zeros(10, np.float32)
  return tensors


@pytest.fixture(scope='module')
def google():
  """An encoder's variables, no two of their values alike, and their file."""
  encoder = small(taps=('root', 'encoder_norm'))
  shapes = jax.eval_shape(
    encoder.init, jax.random.key(0), np.ones((1, 64, 64, 3))
  )
  flat, structure = jax.tree.flatten(shapes)
  values = [
    np.linspace(i, i + 0.5, leaf.size, dtype=np.float32).reshape(leaf.shape)
    for i, leaf in enumerate(flat)
  ]
  variables = jax.tree.unflatten(structure, values)
  return encoder, variables, google_file(variables)


def test_names_and_shapes_are_googles(google):
  _, _, tensors = google
  block = 'Transformer/encoderblock_1'
  expected = {
    'conv_root/kernel': (7, 7, 3, 32),
    'gn_root/scale': (1, 1, 1, 32),
    'block1/unit1/conv1/kernel': (1, 1, 32, 32),
    'block2/unit1/conv_proj/kernel': (1, 1, 128, 256),
    'block1/unit1/gn_proj/bias': (1, 1, 1, 128),
    'embedding/kernel': (1, 1, 512, 24),
    'Transformer/posembed_input/pos_embedding': (1, 17, 24),
    f'{block}/LayerNorm_2/scale': (24,),
    f'{block}/MultiHeadDotProductAttention_1/query/kernel': (24, 3, 8),
    f'{block}/MultiHeadDotProductAttention_1/key/bias': (3, 8),
    f'{block}/MultiHeadDotProductAttention_1/out/kernel': (3, 8, 24),
    f'{block}/MlpBlock_3/Dense_0/kernel': (24, 40),
    'Transformer/encoder_norm/bias': (24,),
  }
  assert {name: tensors[name].shape for name in expected} == expected


def test_loads_googles_file(google, tmp_path):
  encoder, variables, tensors = google
  path = tmp_path / 'R50+ViT-B_16.npz'
  np.savez(path, **tensors)
  weights = pretrained.load(path, encoder)
  jax.tree.map(np.testing.assert_array_equal, weights.variables, variables)
  assert (weights.library, weights.normalisation) == ('google', 'tf')
  # The class's token has no place in the grid.
  (told,) = weights.adapted
  assert told == (
    'Transformer/posembed_input/pos_embedding [1, 17, 24] to [16, 24]'
  )


def test_positions_of_another_grid_are_interpolated(google, tmp_path):
  encoder, variables, tensors = google
  path = tmp_path / 'R50+ViT-B_16.npz'
  np.savez(path, **tensors)
  weights = pretrained.load(path, encoder.clone(grid=6))
  found = weights.variables['params']['position']['embedding']
  grid = variables['params']['position']['embedding'].reshape(4, 4, 24)
  expected = ndimage.zoom(grid, (6 / 4, 6 / 4, 1), order=1, mode='nearest')
  np.testing.assert_allclose(found, expected.reshape(36, 24), rtol=1e-5)
  assert 'resized Transformer/posembed_input' in str(weights)
  assert weights.describe()['adapted'] == weights.adapted


def test_file_without_a_class(google, tmp_path):
  encoder, variables, tensors = google
  name = 'Transformer/posembed_input/pos_embedding'
  tensors = {**tensors, name: tensors[name][:, 1:]}
  path = tmp_path / 'weights.npz'
  np.savez(path, **tensors)
  weights = pretrained.load(path, encoder)
  jax.tree.map(np.testing.assert_array_equal, weights.variables, variables)
  assert weights.adapted == ()


@pytest.mark.parametrize(
  'how, told',
  [
    ('missing', ['missing: Transformer/encoderblock_1/LayerNorm_0/scale']),
    ('deeper', ['left over: Transformer/encoderblock_2/LayerNorm_0/scale']),
    ('wider', ['shape of embedding/kernel']),
    ('no square', ['shape of Transformer/posembed_input/pos_embedding']),
  ],
)
def test_loads_whole_or_not_at_all(google, tmp_path, how, told):
  encoder, _, tensors = google
  tensors = dict(tensors)
  block = 'Transformer/encoderblock_{}/LayerNorm_0/scale'
  if how == 'missing':
    del tensors[block.format(1)]
  elif how == 'deeper':
    tensors[block.format(2)] = tensors[block.format(1)]
  elif how == 'wider':
    tensors['embedding/kernel'] = np.zeros((1, 1, 512, 48), np.float32)
  else:
    tensors['Transformer/posembed_input/pos_embedding'] = np.zeros(
      (1, 19, 24), np.float32
    )
  path = tmp_path / 'weights.npz'
  np.savez(path, **tensors)
  with pytest.raises(pretrained.WeightsError) as error:
    pretrained.load(path, encoder)
  for words in ('R50ViT', 'google', '1 tensors do not fit', *told):
    assert words in str(error.value)
