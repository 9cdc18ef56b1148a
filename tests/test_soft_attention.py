"""Soft-Attention and what it stands in: hand numbers, the paper's own code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit
from jax import lax

from jaxderm.models import heads
from jaxderm.models.soft_attention import SoftAttention


def apply(module, variables, *inputs, **how):
  return quick_jit(lambda v, *x: module.apply(v, *x, **how))(variables, *inputs)


def params(kernel, bias=0.0):
  kernel = np.asarray(kernel, np.float32)
  bias = np.full(kernel.shape[-1], bias, np.float32)
  return {'params': {'conv': {'kernel': kernel, 'bias': bias}}}


def test_by_hand():
  """Softmaxes of (log 2, 0), (log 4, 0) and, after ReLU, (0, 0)."""
  kernel = np.zeros((3, 3, 2, 3))
  kernel[1, 1, 0] = [1, 2, -1]
  x = jnp.asarray([[[[np.log(2), 5.0], [0.0, 7.0]]]], jnp.float32)
  y = apply(SoftAttention(3), params(kernel), x)
  first, second = 2 / 3 + 4 / 5 + 1 / 2, 1 / 3 + 1 / 5 + 1 / 2
  expected = [[[[np.log(2) * first, 5 * first], [0.0, 7 * second]]]]
  np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_a_place_is_seen_with_its_neighbours():
  """The kernel reads the place above on the right; beyond the map is 0."""
  kernel = np.zeros((3, 3, 1, 1))
  kernel[0, 2] = 1
  x = np.zeros((1, 3, 3, 1), np.float32)
  x[0, 1, 1] = np.log(3)
  _, seen = apply(
    SoftAttention(1), params(kernel), x, mutable=['intermediates']
  )
  (weights,) = seen['intermediates']['attention']
  expected = np.full((3, 3), 1 / 11)
  expected[2, 0] = 3 / 11
  np.testing.assert_allclose(weights[0, ..., 0], expected, rtol=1e-6)


def as_in_the_code(x, variables):
  """SoftAttention.py of the paper's authors, line for line in JAX.

  K.conv3d of [B, H, W, C, 1] with (C, 3, 3, 1, maps), strides (1, 1, C),
  'same'; ReLU; softmax over H W; the maps added; times x.
  """
  conv = variables['params']['conv']
  maps = conv['kernel'].shape[-1]
  scores = lax.conv_general_dilated(
    x[..., None],
    conv['kernel'][:, :, :, None],
    (1, 1, x.shape[-1]),
    'SAME',
    dimension_numbers=('NHWDC', 'HWDIO', 'NHWDC'),
  )
  scores = jax.nn.relu(scores + conv['bias'])
  scores = jnp.transpose(scores, (0, 4, 1, 2, 3)).squeeze(-1)
  alpha = jax.nn.softmax(scores.reshape(len(x), maps, -1), axis=-1)
  alpha = alpha.reshape(len(x), maps, *x.shape[1:3])
  return jnp.sum(jnp.transpose(alpha, (0, 2, 3, 1)), -1, keepdims=True) * x


@pytest.mark.parametrize('shape', [(5, 4, 8), (3, 6, 9), (2, 3, 3), (7, 2, 4)])
def test_literal_is_what_the_code_does(shape):
  module = SoftAttention(4, literal=True)
  x = np.random.default_rng(0).normal(size=(2, *shape)).astype('f')
  variables = draw(module, x)
  variables['params']['conv']['kernel'] *= 3  # so that the maps are uneven
  expected = quick_jit(as_in_the_code)(x, variables)
  assert np.std(expected / x, axis=(1, 2)).min() > 1e-3
  np.testing.assert_allclose(apply(module, variables, x), expected, atol=1e-5)


def test_literal_is_a_volume_convolved_by_torch():
  torch = pytest.importorskip('torch')
  module = SoftAttention(4, literal=True)
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 8)).astype('f')
  variables = draw(module, x)
  conv = variables['params']['conv']
  kernel = torch.from_numpy(conv['kernel']).permute(3, 0, 1, 2)[:, None]
  # TensorFlow pads an even kernel of 8 by 3 before and 4 behind.
  padded = torch.nn.functional.pad(
    torch.from_numpy(x)[:, None], (0, 0, 1, 1, 3, 4)
  )
  scores = torch.nn.functional.conv3d(
    padded, kernel, torch.from_numpy(conv['bias']), stride=(1, 1, 8)
  )
  alpha = scores[..., 0].relu().flatten(2).softmax(-1).sum(1)
  expected = alpha.reshape(2, 5, 4, 1).numpy() * x
  np.testing.assert_allclose(apply(module, variables, x), expected, atol=1e-5)


def test_the_default_is_a_plane_convolved_by_torch():
  torch = pytest.importorskip('torch')
  module = SoftAttention()
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 6)).astype('f')
  variables = draw(module, x)
  conv = variables['params']['conv']
  scores = torch.nn.functional.conv2d(
    torch.from_numpy(x).permute(0, 3, 1, 2),
    torch.from_numpy(conv['kernel']).permute(3, 2, 0, 1),
    torch.from_numpy(conv['bias']),
    padding=1,
  )
  alpha = scores.relu().flatten(2).softmax(-1).sum(1)
  expected = alpha.reshape(2, 5, 4, 1).numpy() * x
  np.testing.assert_allclose(apply(module, variables, x), expected, atol=1e-5)


def test_few_rows_of_the_literal_kernel_touch_the_map():
  """2 H - 1 of the C rows, around the middle one (SPEC 3.3)."""
  module = SoftAttention(2, literal=True)
  x = np.random.default_rng(0).uniform(1, 2, (1, 4, 5, 20)).astype('f')
  variables = draw(module, x)

  def total(variables):
    return jnp.sum(module.apply(variables, x)[..., 0] ** 2)

  gradient = quick_jit(jax.grad(total))(variables)['params']['conv']['kernel']
  touched = np.flatnonzero(np.abs(gradient).max(axis=(1, 2, 3)))
  np.testing.assert_array_equal(touched, np.arange(9 - 3, 9 + 4))


@pytest.mark.parametrize(
  'module, expected',
  [
    (SoftAttention(), 9 * 192 * 16 + 16),
    (SoftAttention(literal=True), 9 * 192 * 16 + 16),
    (SoftAttention(gamma=True), 9 * 192 * 16 + 17),
    (SoftAttention(8), 9 * 192 * 8 + 8),
  ],
)
def test_sizes(module, expected):
  x = jax.ShapeDtypeStruct((1, 8, 8, 192), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


def test_gamma_starts_at_a_hundredth():
  x = np.random.default_rng(0).normal(size=(1, 3, 3, 4)).astype('f')
  with_gamma = quick_jit(SoftAttention(gamma=True).init)(jax.random.key(0), x)
  plain = {'params': {'conv': with_gamma['params']['conv']}}
  ours = apply(SoftAttention(gamma=True), with_gamma, x)
  expected = 0.01 * apply(SoftAttention(), plain, x)
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  # Keras' he_uniform: as far as the root of 6 over what goes in.
  conv = plain['params']['conv']
  limit = np.sqrt(6 / 36)
  assert 0.95 * limit < np.abs(conv['kernel']).max() < limit
  assert not conv['bias'].any()


def test_weights_are_shown_and_of_single_precision():
  module = SoftAttention(16)
  x = np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype('f')
  narrow = jax.tree.map(
    lambda a: jnp.asarray(a, jnp.bfloat16), (draw(module, x), x)
  )
  y, seen = apply(module, *narrow, mutable=['intermediates'])
  (weights,) = seen['intermediates']['attention']
  assert (y.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
  assert weights.shape == (2, 9, 9, 1)
  np.testing.assert_allclose(weights.sum((1, 2, 3)), [16, 16], rtol=1e-5)


def test_literal_needs_three_channels():
  with pytest.raises(ValueError, match='a map of 2 channels.*literal=False'):
    jax.eval_shape(
      SoftAttention(literal=True).init,
      jax.random.key(0),
      jnp.ones((1, 4, 4, 2)),
    )


# -------------------------------------------------------------------- heads

X = np.asarray([[-1, 2, 3], [4, -5, 6], [-7, -8, -9]], np.float32)[
  None, ..., None
]


def attended(end=None, dropout=0.5):
  return heads.SoftAttended(lambda x: -x, end or heads.Flattened(), dropout)


def test_the_head_by_hand():
  """Maxima of 2x2 from the corner, of the map and of what attention made."""
  features = attended().apply({}, X)
  np.testing.assert_array_equal(features, [[4, 5, 6, 0, 0, 8, 0, 9]])
  features = attended(heads.Pooled()).apply({}, X)
  np.testing.assert_allclose(features, [[2.5, 5.5]])


def test_dropout_is_before_the_end():
  """The mean of what was dropped, not a mean that is dropped or not."""
  x = jnp.ones((1, 64, 64, 1))
  rngs = {'dropout': jax.random.key(0)}
  features = attended(heads.Pooled()).apply({}, x, True, rngs=rngs)
  assert features[0, 1] == 0  # ReLU of -1
  assert 0.8 < features[0, 0] < 1.2
  assert features[0, 0] != 1
  features = attended(dropout=0.0).apply({}, x, True)
  np.testing.assert_array_equal(np.unique(features), [0, 1])


def test_flattened_by_hand():
  np.testing.assert_array_equal(heads.Flattened().apply({}, X), X.reshape(1, 9))
  # Of 3x3 only one square of 2x2 is whole: -1 + 2 + 4 - 5 is 0, plus 8.
  halves = heads.Flattened(pool=2).apply({}, X + 2)
  np.testing.assert_allclose(halves, [[2]])
  kernel = np.asarray([[3.0, -1.0]], np.float32)
  hidden = {'params': {'hidden': {'kernel': kernel, 'bias': np.zeros(2, 'f')}}}
  features = heads.Flattened(2, pool=2).apply(hidden, X + 2)
  np.testing.assert_allclose(features, [[6, 0]])


def test_the_end_of_vgg16_is_torchs():
  torch = pytest.importorskip('torch')
  functional = torch.nn.functional
  module = heads.VGG16Do2022End(5)
  x = np.random.default_rng(0).normal(size=(3, 6, 7, 4)).astype('f')
  variables = draw(module, x)
  ours = apply(module, variables, x)

  given, stats = (
    jax.tree.map(torch.from_numpy, variables[k])
    for k in ('params', 'batch_stats')
  )
  y = torch.from_numpy(x).permute(0, 3, 1, 2)
  for j, size in enumerate((3, 3, 1), start=1):
    conv, norm = given[f'block5_conv{j}'], given[f'block5_bn{j}']
    seen = stats[f'block5_bn{j}']
    y = functional.conv2d(
      y, conv['kernel'].permute(3, 2, 0, 1), conv['bias'], padding=size // 2
    ).relu()
    y = functional.batch_norm(
      y, seen['mean'], seen['var'], norm['scale'], norm['bias'], eps=1e-3
    )
  # SAME of 6 and 7 in windows of 4: two and one pixels are lacking.
  lowest = -float('inf')
  y = functional.max_pool2d(functional.pad(y, (0, 1, 1, 1), value=lowest), 4)
  y = y.permute(0, 2, 3, 1).flatten(1)
  assert y.shape == (3, 2 * 2 * 512)
  for name in ('fc1', 'fc2'):
    y = functional.linear(
      y, given[name]['kernel'].T, given[name]['bias']
    ).relu()
  expected = y.numpy()
  assert expected.std(axis=0).mean() > 0.01
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
