"""What a compiled step keeps from the forward pass, and what it computes once.

XLA merges what is written alike and repeats what looks cheap. Here is what that
cost us, in a program that is compiled as those of training are.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxderm.models import forms, layers
from jaxderm.models.norm import normalise

LAYERS = 6
MAP = (2, 32, 32, 32)
MAP_BYTES = 4 * int(np.prod(MAP))
on_a_cpu = pytest.mark.skipif(
  jax.default_backend() != 'cpu', reason='what XLA does on a CPU'
)


def compiled_gradient(function, *shapes):
  """The program of the gradients of the sum of squares of what it returns."""

  def loss(*arguments):
    return jnp.sum(function(*arguments) ** 2)

  gradient = jax.grad(loss, range(len(shapes)))
  program = jax.jit(gradient, compiler_options=forms.compiler_options())
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return program.lower(*shapes).compile()


def kept_maps(activation):
  """How many maps the gradient of some layers takes memory for, for a layer."""
  channels = MAP[-1]

  def stack(x, kernel, scale, bias):
    for _ in range(LAYERS):
      y = normalise(layers.conv(x, kernel), scale, bias, 1e-3)[0]
      x = activation(y)
    return x

  sizes = (MAP, (1, 1, channels, channels), (channels,), (channels,))
  plan = compiled_gradient(stack, *sizes).memory_analysis()
  return plan.temp_size_in_bytes / MAP_BYTES / LAYERS


@on_a_cpu
@pytest.mark.parametrize('activation', [nn.relu, layers.swish])
def test_a_layer_keeps_what_it_convolves_and_what_it_normalises(activation):
  # Two maps for each layer, and a few at a time on the way back.
  assert 2 <= kept_maps(activation) < 2 + 3.5 / LAYERS


@on_a_cpu
def test_a_sigmoid_of_the_forward_pass_is_a_third_map():
  assert kept_maps(nn.swish) > 2.8


def test_swish_is_that_of_flax():
  x = jnp.linspace(-30, 30, 301)

  def both(function):
    y, back = jax.vjp(function, x)
    return y, back(jnp.cos(x))[0]

  for ours, theirs in zip(both(layers.swish), both(nn.swish), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6)


def test_swish_of_half_precision_is_exact_to_its_digits():
  x = jnp.linspace(-12, 12, 241).astype(jnp.bfloat16)

  def slope(function, x):
    return jax.vmap(jax.grad(function))(x)

  ours = slope(layers.swish, x)
  assert ours.dtype == jnp.bfloat16
  exact = slope(nn.swish, x.astype(jnp.float32))
  np.testing.assert_allclose(
    ours.astype(np.float32), exact, rtol=2**-8, atol=1e-6
  )


def dense_block(join, x, *kernels):
  for kernel in kernels:
    x = join(x, layers.conv(jnp.tanh(x), kernel))
  return x


def plain(x, y):
  return jnp.concatenate([x, y], axis=-1)


SIZES = ((2, 8, 8, 8), *((1, 1, 8 * i, 8) for i in range(1, LAYERS + 1)))


def most_operands(join):
  """Of a loop over memory of the backward pass: how many arrays it reads."""
  program = compiled_gradient(lambda *given: dense_block(join, *given), *SIZES)
  fusions = re.findall(
    r' fusion\(([^)]*)\).*op_name="[^"]*transpose\(jvp', program.as_text()
  )
  return max(len(operands.split(',')) for operands in fusions)


@on_a_cpu
def test_gradients_of_a_dense_block_are_added_up_once():
  assert most_operands(layers.append_channels) == 3
  assert most_operands(plain) > 2 * LAYERS  # or the function is not needed


def test_append_channels_joins_and_parts():
  rng = np.random.default_rng(0)
  given = [rng.standard_normal(size, np.float32) for size in SIZES]

  def everything(join):
    y, back = jax.vjp(lambda *given: dense_block(join, *given), *given)
    return y, *back(jnp.cos(y))

  ours, theirs = map(everything, (layers.append_channels, plain))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, theirs
  )


@on_a_cpu
def test_the_place_of_a_maximum_is_found_once():
  """And kept: not found anew for each of the windows that a pixel is in."""
  program = compiled_gradient(
    lambda x: layers.max_pool(nn.relu(x), 3, 2, 'SAME'), (2, 16, 16, 8)
  )
  loops = program.as_text().split('\n\n')

  def compares(how):
    place = rf'pred\[2,8,8,8\]\S* compare\(.*direction={how}'
    return {i for i, loop in enumerate(loops) if re.search(place, loop)}

  assert compares('GT') and compares('EQ')
  assert not compares('GT') & compares('EQ')
