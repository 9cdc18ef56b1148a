"""Sums over the pixels of several maps of one shape, as XLA's CPU likes them.

By itself XLA hands each sum to YNNPACK, which reads its map by itself, slowly,
and takes milliseconds to get ready before it runs for the first time.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
# XLA unrolls a sum of so many parts in its loop, and not one of twelve, which
# takes four times as long.
PARTS = 8


def in_one_loop(maps: Sequence[Array], axis: int) -> list[Array]:
  """Adds up along an axis of at most eight; of several maps in one loop over all.

  Args:
    maps: of one shape, float32; three at most.
    axis: not the last.

  Returns:
    Each without that axis.
  """
  return lax.reduce(
    tuple(maps),
    (jnp.zeros((), jnp.float32),) * len(maps),
    lambda totals, more: [a + b for a, b in zip(totals, more, strict=True)],
    (axis,),
  )


def of_pixels(maps: Sequence[Array]) -> Array:
  """[B, H, W, C] of each, float32, to [N, C], by products with ones.

  As a sum of sums, rows first: of many numbers in a row digits would be lost.
  """
  # What makes them stays apart.
  maps = lax.optimization_barrier(list(maps))
  b, h, w, c = maps[0].shape
  rows = jnp.ones((1, b * h))
  sums = [rows @ x.reshape(b * h, w * c) for x in maps]
  sums = jnp.concatenate([x.reshape(w, 1, c) for x in sums], axis=1)
  return (jnp.ones(w) @ sums.reshape(w, -1)).reshape(len(maps), c)
