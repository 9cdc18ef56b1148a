"""Small tests spend their time on compiling: how to compile less, and faster."""

import functools

import jax
import numpy as np

from jaxderm.models.forms import use_form

SIZES = [(8, 8), (7, 10)]  # of maps: even, odd and not square

# Without XLA's optimisations, in less than half the time. For what is compared
# with a tolerance; what is promised to the bit is compiled as users do.
quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  },
)


def draw(network, *inputs, seed=0):
  """Variables drawn by NumPy, for a network whose `init` is not compiled then.

  Args:
    network: A module.
    *inputs: Arrays or shapes that it is called with.
    seed: Of the draw.

  Returns:
    What `init` would give, with other values, none of them a default.
  """
  shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    if path[-1].key in ('scale', 'var', 'variance'):
      value = rng.uniform(0.5, 1.5, leaf.shape)
    elif path[-1].key == 'kernel':
      fan = np.prod(leaf.shape[:-1])
      value = rng.normal(0, np.sqrt(2 / fan), leaf.shape)
    else:
      value = rng.normal(0, 0.1, leaf.shape)
    return np.asarray(value, leaf.dtype)

  return jax.tree_util.tree_map_with_path(one, shapes)


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def assert_forms_agree(convolve, channels, kernel, sizes=SIZES):
  """Ours and that of lax: forward and both gradients, at every size."""

  def everything(form, side):
    with use_form(form):
      y, back = jax.vjp(
        convolve, normal(0, 2, *side, channels), normal(1, *kernel)
      )
      return y, *back(normal(2, *y.shape))

  # One program for all: compiling is what takes time here.
  ours, theirs = quick_jit(
    lambda: [
      [everything(form, side) for side in sizes] for form in ('cpu', 'lax')
    ]
  )()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), ours, theirs
  )
