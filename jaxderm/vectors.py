"""The hundreds of biases and scales of a network as one array.

What treats every number alike, such as an optimiser, is then traced, compiled
and run once for all of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Joined(NamedTuple):
  """A tree of arrays whose vectors are one.

  Attributes:
    vectors: [N], all numbers of the leaves of one axis or none, in order.
    others: The tree without those.
  """

  vectors: jax.Array
  others: Any


def _is_joined(path: Sequence, x: jax.Array) -> bool:
  # Whether a kernel decays is asked by its name.
  return x.ndim <= 1 and path[-1].key != 'kernel'


def join(tree: Any) -> Joined:
  """Joins the vectors of a tree of float32."""
  leaves = jax.tree.leaves_with_path(tree)
  vectors = [x.ravel() for path, x in leaves if _is_joined(path, x)]
  return Joined(
    jnp.concatenate([jnp.zeros(0), *vectors]),
    jax.tree.map_with_path(
      lambda path, x: None if _is_joined(path, x) else x, tree
    ),
  )


def part(joined: Joined, like: Any) -> Any:
  """What `join` joined, a tree like that one."""
  leaves = jax.tree.leaves_with_path(like)
  sizes = [x.size for path, x in leaves if _is_joined(path, x)]
  vectors = iter(jnp.split(joined.vectors, np.cumsum(sizes)))
  others = iter(jax.tree.leaves(joined.others))

  def take(path, x):
    if _is_joined(path, x):
      return next(vectors).reshape(x.shape)
    return next(others)

  return jax.tree.map_with_path(take, like)
