"""Sizes and costs of networks, from their shapes: nothing is computed."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxderm.models.forms import use_form


class Cost(NamedTuple):
  """What `measure` counts: variables, and products that are summed."""

  trainable: int
  all: int
  multiply_adds: int


def example(
  network: nn.Module, size: int, count: int = 1
) -> dict[str, jax.ShapeDtypeStruct]:
  """What a network is called with, by its name in a batch.

  Args:
    network: With `inputs`, or of images only.
    size: Side of the images, in pixels.
    count: Of images.
  """
  shapes = {}
  for name in getattr(network, 'inputs', ('image',)):
    if name == 'metadata':
      shapes[name] = (count, network.metadata.width)
    else:
      shapes[name] = (count, size, size, 3)
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }


def parameters(network: nn.Module, size: int = 256) -> tuple[int, int]:
  """Counts the variables of a network: trainable ones, and all of them."""
  inputs = example(network, size).values()
  with use_form('lax'):
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  return _count(variables['params']), _count(variables)


def multiply_adds(network: nn.Module, size: int = 256) -> int:
  """Counts products that are summed, in one image's convolutions and matrices.

  Normalisations, activations and pools are not counted; nor are the zeros that
  a transposed convolution would insert.
  """
  return measure(network, size).multiply_adds


def measure(network: nn.Module, size: int = 256) -> Cost:
  """What `parameters` and `multiply_adds` count, from one look at a network."""
  # The first call draws the variables, which is no convolution and no matrix.
  with use_form('lax'):  # one equation for each convolution
    program, (_, variables) = jax.make_jaxpr(
      network.init_with_output, return_shape=True
    )(jax.random.key(0), *example(network, size).values())
  return Cost(
    _count(variables['params']),
    _count(variables),
    _jaxpr_products(program.jaxpr),
  )


def stride(size: int, side: int) -> int:
  """How many times `side` goes into `size`, to the nearest power of two."""
  return 2 ** round(math.log2(size / side))


def feature_maps(
  encoder: nn.Module, image: Any
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of all maps that an encoder can return, in the order it builds them.

  Args:
    encoder: An encoder.
    image: [B, H, W, 3], or its shape and type.
  """
  order: list[str] = []

  def build(image):
    maps, _ = encoder.clone(taps=None).init_with_output(
      jax.random.key(0), image
    )
    order.extend(maps)  # what comes out of JAX is sorted by name
    return maps

  with use_form('lax'):  # it is traced in half the time
    maps = jax.eval_shape(build, image)
  return {name: maps[name] for name in order}


def _count(tree: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _jaxpr_products(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'conv_general_dilated':
      total += _conv_products(equation)
    elif equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      depth = np.prod([left[axis] for axis in contracted], dtype=int)
      total += equation.outvars[0].aval.size * int(depth)
    else:
      inner = [
        _jaxpr_products(each) for each in inner_programs(equation.params)
      ]
      # Of the branches of a condition one is run: the dearest is counted.
      join = max if equation.primitive.name == 'cond' else sum
      total += equation.params.get('length', 1) * join(inner or [0])
  return total


def inner_programs(params: dict[str, Any]) -> list[Any]:
  """The programs inside an equation: of a jit, a scan, a condition."""
  leaves = jax.tree.leaves(
    list(params.values()),
    is_leaf=lambda x: hasattr(x, 'eqns') or hasattr(x, 'jaxpr'),
  )
  return [
    getattr(leaf, 'jaxpr', leaf)
    for leaf in leaves
    if hasattr(leaf, 'eqns') or hasattr(leaf, 'jaxpr')
  ]


def _conv_products(equation: Any) -> int:
  """Output elements times the kernel's taps and the channels of one group."""
  kernel = equation.invars[1].aval
  numbers = equation.params['dimension_numbers']
  each = kernel.size // kernel.shape[numbers.rhs_spec[0]]
  inserted = int(np.prod(equation.params['lhs_dilation']))
  return equation.outvars[0].aval.size * each // inserted
