"""Parameters are drawn together, and are those that flax draws one by one."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm import draws, fresh_state, systems
from jaxderm.models.layers import BatchNorm, Conv

# As a fresh state is made. Other options may round otherwise.
jit = partial(jax.jit, compiler_options=fresh_state._QUICK)
IMAGE = jnp.zeros((1, 32, 32, 3))


class Twins(nn.Module):
  """Six kernels of one shape, one of another."""

  @nn.compact
  def __call__(self, x):
    for _ in range(6):
      x = nn.relu(BatchNorm()(Conv(3)(x)))
    return Conv(5)(x)


def two_parts(key, shape, dtype=jnp.float32):
  """An initialiser that parts its key, and calls what has its own gradient."""
  first, second = jax.random.split(key)
  size = jax.nn.softplus(jax.random.normal(first, shape[-1:], dtype))
  return size * jax.random.uniform(second, shape, dtype)


class Own(nn.Module):
  """Parameters as nobody of ours makes them, two of them of one array."""

  @nn.compact
  def __call__(self, x):
    first = self.param('first', two_parts, (3, 4))
    self.param('second', lambda key, shape: two_parts(key, shape) + 1, (3, 4))
    self.param('third', nn.initializers.orthogonal(), (4, 4))
    self.param('fourth', lambda key: jnp.float32(0.25))
    self.variable('batch_stats', 'kept', lambda: first)
    return x @ first


def program_of(network, key):
  def init(key):
    variables = network.init(key, IMAGE)
    return variables, jax.random.fold_in(key, 1)

  return jax.make_jaxpr(init, return_shape=True)(key)


@pytest.mark.parametrize(
  'make',
  [
    Twins,
    Own,
    lambda: systems.build('yang2021/UNet', encoder='MobileNetV1'),
  ],
  ids=['twins', 'own', 'UNet'],
)
def test_every_number_is_the_same(make):
  network, key = make(), jax.random.key(3)
  program, shapes = program_of(network, key)
  leaves = jit(draws.together(program))(key)
  got, next_key = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
  want = jit(network.init)(key, IMAGE)
  jax.tree.map(np.testing.assert_array_equal, got, want)
  assert next_key == jax.random.fold_in(key, 1)
  other = jit(draws.together(program))(jax.random.key(4))
  assert any(map(np.any, jax.tree.map(np.not_equal, leaves[:-1], other[:-1])))


def test_a_loop_for_each_shape_and_one_for_the_keys():
  key = jax.random.key(0)
  program, _ = program_of(Twins(), key)
  lowered = jax.jit(draws.together(program)).lower(key)
  plain = jax.jit(Twins().init).lower(key, IMAGE)

  def loops(lowered):
    return lowered.compile().as_text().count(' while(')

  assert loops(plain) == 14  # of each kernel, its key and its draw
  assert loops(lowered) == 3  # of all keys, and of either shape
  assert 'convolution' not in lowered.as_text()


def test_what_comes_in_goes_out():
  program = jax.make_jaxpr(lambda key, x: (x, 2.0, x + 1))(jax.random.key(0), 3)
  assert draws.together(program)(jax.random.key(0), 3) == [3, 2.0, 4]
