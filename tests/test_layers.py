from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import SIZES, assert_forms_agree, normal, quick_jit
from flax import errors
from jax import lax

from jaxderm.models import layers
from jaxderm.models.forms import use_form
from jaxderm.models.layers import Taps
from jaxderm.models.parameters import parameter

KEY = jax.random.key(0)


@pytest.mark.parametrize(
  'size, stride, padding, groups',
  [
    (1, 1, 'SAME', 3),  # one product for each group
    (1, 2, 'SAME', 3),
    (1, 1, ((1, 0), (0, 1)), 3),
    (3, 1, 'SAME', 3),  # a part for each group
    (3, 2, 'SAME', 16),  # two groups in each of eight parts
    (3, 2, ((1, 1), (1, 1)), 16),
    (3, 1, 'VALID', 11),  # no parts
  ],
)
def test_grouped_equals_lax(size, stride, padding, groups):
  """Forward and both gradients, with two inputs and three outputs a group."""

  assert_forms_agree(
    lambda x, k: layers.conv(x, k, stride, padding, groups),
    channels=2 * groups,
    kernel=(size, size, 2, 3 * groups),
  )


@pytest.mark.parametrize('size', [1, 3])
def test_grouped_is_never_lax_on_the_cpu(size):
  """Its gradient takes seconds there."""
  x, kernel = jnp.ones((1, 4, 4, 32)), jnp.ones((size, size, 1, 64))
  with use_form('cpu'):
    jaxpr = jax.make_jaxpr(lambda x, k: layers.conv(x, k, groups=32))(x, kernel)
  for equation in jaxpr.eqns:
    assert equation.params.get('feature_group_count', 1) == 1


def test_grouped_keeps_bfloat16():
  for size in (1, 3):
    x = jnp.ones((1, 4, 4, 32), jnp.bfloat16)
    kernel = jnp.ones((size, size, 2, 16), jnp.bfloat16)
    with use_form('cpu'):
      assert layers.conv(x, kernel, groups=16).dtype == jnp.bfloat16


def test_kernel_of_two_sides():
  conv = layers.Conv(4, (1, 3))
  variables = jax.eval_shape(conv.init, KEY, jnp.ones((1, 5, 5, 2)))
  assert variables['params']['kernel'].shape == (1, 3, 2, 4)


def test_channel_shuffle_deals_each_group_out():
  x = jnp.arange(6.0).reshape(1, 1, 1, 6)  # groups 0 1, 2 3, 4 5
  shuffled = layers.channel_shuffle(x, 3)
  np.testing.assert_array_equal(shuffled[0, 0, 0], [0, 2, 4, 1, 3, 5])


def test_unknown_form():
  with pytest.raises(ValueError, match='cpu, lax'), use_form('fast'):
    pass


def test_conv_transpose_2x2_by_hand():
  x = jnp.array([[1.0, 10.0]])[None, ..., None]
  kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None, None]
  expected = [[1, 2, 10, 20], [3, 4, 30, 40]]
  y = layers.conv_transpose_2x2(x, kernel)
  np.testing.assert_array_equal(y[0, ..., 0], expected)


@pytest.mark.parametrize('size', [2, 3])
@pytest.mark.parametrize('side', SIZES)
def test_conv_transpose_is_the_gradient_of_a_convolution(size, side):
  """That of stride 2 and SAME padding, which is how Keras defines it."""
  x, kernel = normal(0, 2, *side, 5), normal(1, size, size, 5, 4)
  form = getattr(layers, f'conv_transpose_{size}x{size}')

  def convolution(y):
    return lax.conv_general_dilated(
      y,
      kernel.transpose(0, 1, 3, 2),
      (2, 2),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  @quick_jit
  def both(x):
    y = jnp.zeros((2, 2 * side[0], 2 * side[1], 4))
    return form(x, kernel), *jax.vjp(convolution, y)[1](x)

  np.testing.assert_allclose(*both(x), atol=1e-4)


@pytest.mark.parametrize('size', [2, 3])
def test_conv_transpose_has_the_parameters_of_keras(size):
  module = layers.ConvTranspose(4, size)
  variables = jax.eval_shape(module.init, KEY, jnp.ones((1, 2, 2, 5)))
  shapes = jax.tree.map(jnp.shape, variables['params'])
  assert shapes == {'kernel': (size, size, 5, 4), 'bias': (4,)}


def test_1x1_convolution_is_a_convolution():
  x, kernel = normal(0, 2, 7, 9, 5), normal(1, 1, 1, 5, 4)
  expected = lax.conv_general_dilated(
    x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  np.testing.assert_allclose(layers.conv(x, kernel, 2), expected, atol=1e-5)


def test_convolution_of_the_whole_map_is_a_convolution():
  x, kernel = normal(0, 2, 5, 3, 4), normal(1, 5, 3, 4, 6)
  expected = lax.conv_general_dilated(
    x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  assert expected.shape == (2, 1, 1, 6)
  found = layers.conv(x, kernel, padding='VALID')
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
  'size, stride, padding',
  [
    (2, 2, 'VALID'),
    (3, 2, ((1, 1), (1, 1))),
    (3, 2, 'SAME'),
    (3, 2, 'VALID'),
    (3, 1, 'SAME'),
    (3, 3, 'VALID'),
    (2, 3, ((0, 1), (1, 0))),
  ],
)
@pytest.mark.parametrize('side', SIZES)
def test_max_pool_is_that_of_xla(side, size, stride, padding):
  """Its values, and its gradient to the first of equals."""
  x = jnp.round(2 * normal(0, 2, *side, 3))  # whole numbers: many are equal

  def weighed(pool, x):
    y = pool(x)
    return jnp.sum(y * jnp.arange(y.size).reshape(y.shape)), y

  def of(pool):
    (_, y), dx = jax.value_and_grad(partial(weighed, pool), has_aux=True)(x)
    return y, dx

  ours = of(lambda x: layers.max_pool(x, size, stride, padding))
  theirs = of(lambda x: nn.max_pool(x, (size, size), (stride, stride), padding))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_max_pool_of_padding_is_not_zero():
  x = jnp.full((1, 4, 4, 1), -1.0)
  pooled = layers.max_pool(x, 3, 2, ((1, 1), (1, 1)))
  np.testing.assert_array_equal(pooled, -np.ones((1, 2, 2, 1)))


@pytest.mark.parametrize('form', ['cpu', 'lax'])
def test_avg_pool_by_hand(form):
  """Of 0 to 3 in a square, the padding counted or not; bfloat16 stays so."""
  x = jnp.arange(4.0).reshape(1, 2, 2, 1)
  with use_form(form):
    mean = layers.avg_pool(x, 3, 1, 'SAME')
    counted = layers.avg_pool(x, 3, 1, 'SAME', count_padding=True)
    shifted = layers.avg_pool(x, 3, 2, ((0, 1), (1, 0)))
    assert layers.avg_pool(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
  np.testing.assert_allclose(mean, np.full((1, 2, 2, 1), 1.5))
  np.testing.assert_allclose(counted, np.full((1, 2, 2, 1), 6 / 9), rtol=1e-6)
  np.testing.assert_allclose(shifted, np.full((1, 1, 1, 1), 1.5))


@pytest.mark.parametrize('size, stride', [(2, 2), (3, 1), (3, 2)])
def test_avg_pool_is_that_of_xla(size, stride):
  """Its values and its gradient, at odd and even sides."""
  x = jnp.asarray(np.random.RandomState(0).rand(2, 7, 10, 3), jnp.float32)

  def pool(form):
    with use_form(form):
      y, back = jax.vjp(lambda x: layers.avg_pool(x, size, stride, 'SAME'), x)
      return y, *back(jnp.sin(jnp.arange(y.size)).reshape(y.shape))

  pool = quick_jit(pool, static_argnums=0)
  for ours, expected in zip(pool('cpu'), pool('lax'), strict=True):
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
  'kind, expected',
  [('nearest', [0, 0, 4, 4]), ('bilinear', [0, 1, 3, 4])],
)
def test_upsample(kind, expected):
  y = layers.upsample(jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1), kind)
  np.testing.assert_allclose(y[0, :, :, 0], [expected] * 2)


# At -1 and 1.5. Computed with Python's math module from the definitions.
@pytest.mark.parametrize(
  'kind, expected',
  [
    ('relu', (0, 1.5)),
    ('leaky_relu', (-0.1, 1.5)),
    ('swish', (-0.2689414, 1.2263617)),
    ('mish', (-0.3034015, 1.4033783)),
    ('gelu', (-0.1586553, 1.3997892)),
    ('selu', (-1.1113307, 1.5760515)),
    ('prelu', (-0.25, 1.5)),
    ('sigmoid', (0.2689414, 0.8175745)),
    ('none', (-1, 1.5)),
  ],
)
def test_activation(kind, expected):
  x = jnp.array([-1.0, 1.5])[:, None]
  y, variables = layers.Activation(kind).init_with_output(KEY, x)
  np.testing.assert_allclose(y[:, 0], expected, atol=1e-6)
  shapes = jax.tree.map(jnp.shape, variables)
  assert shapes == ({'params': {'slope': (1,)}} if kind == 'prelu' else {})


@pytest.mark.parametrize(
  'make, match',
  [
    (lambda: layers.Activation('rleu'), 'relu, relu6'),
    (lambda: layers.Up(3, 'cubic'), 'nearest, bilinear, transpose'),
    (lambda: layers.BatchNorm('pytorch'), 'keras, torch'),
    (lambda: layers.ConvTranspose(3, 4), 'expected 2 or 3'),
  ],
)
def test_a_wrong_name_lists_the_right_ones(make, match):
  with pytest.raises(ValueError, match=match):
    make().init(KEY, jnp.ones((1, 4, 4, 3)))


def test_torch_pads_both_sides():
  image = jnp.ones((1, 4, 4, 1))
  ones = nn.initializers.ones

  def corner(origin):
    padding = layers.same_padding(3, origin)
    conv = layers.Conv(1, 3, 2, padding, bias=False, kernel_init=ones)
    return conv.init_with_output(KEY, image)[0][0, 0, 0, 0]

  assert (corner('keras'), corner('torch')) == (9, 4)


def test_taps_come_in_the_order_they_are_built():
  taps = Taps(('b', 'a'))
  assert not taps('a', 1)
  assert not taps('x', 2)
  assert taps('b', 3)
  assert taps.features == (1, 3)


def test_unknown_taps_list_the_known():
  taps = Taps(('a', 'c'))
  taps('a', 1)
  taps('b', 2)
  assert str(taps.unknown()) == "no tap is called 'c'; there are: a, b"


@pytest.mark.parametrize('names', [(), 'stage1'])
def test_taps_are_a_sequence_of_names(names):
  with pytest.raises(ValueError, match='sequence of names'):
    Taps(names)


class Scaled(nn.Module):
  """One parameter of a shape and an initialiser to choose."""

  shape: tuple[int, ...]
  init_fn: Callable = nn.initializers.ones

  @nn.compact
  def __call__(self, x):
    return x * parameter(self, 'factor', self.init_fn, self.shape)


def test_a_parameter_is_made_once_and_read_after_that():
  variables = Scaled((2,)).init(jax.random.key(0), jnp.ones(2))
  assert variables['params']['factor'].shape == (2,)

  def never(key, shape):
    raise AssertionError('an initialiser was traced that is not needed')

  network = Scaled((2,), never)
  given = {'params': {'factor': np.array([2.0, 3.0], np.float32)}}
  np.testing.assert_array_equal(network.apply(given, jnp.ones(2)), [2, 3])


def test_a_parameter_of_another_shape_is_refused():
  given = {'params': {'factor': jnp.ones(3)}}
  with pytest.raises(errors.ScopeParamShapeError, match=r'factor.*\(3,\)'):
    Scaled((2,)).apply(given, jnp.ones(2))


def test_a_parameter_that_is_missing_is_named():
  with pytest.raises(errors.ScopeParamNotFoundError, match='factor'):
    Scaled((2,)).apply({'params': {'other': jnp.ones(2)}}, jnp.ones(2))
