"""Pairs of images in a batch, made on the device (Wei 2020, paper 001).

A step's batch holds 2 n images: n pairs, of image i and image n + i. In the
paper n is 32. Two methods say who is whose partner (SPEC 2.3):

- Method 1, every fifth step: the first half of the batch alone. Each image and
  the next one of its class are partners, so nearly all pairs are of one class.
  The second half becomes the partners of the first, and what lay there is not
  seen in that step.
- Method 2, the other four: the halves as they are. They are of one shuffled
  order and so as independent as two shuffled batches, but that no image is
  paired with itself.

Which one it is depends on the number of the step alone, so that a run that
goes on, or many steps in one dispatch, see the same. Partners are found before
augmentation: an image that is there twice is augmented in two ways.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxderm import sharding

Array = jax.Array

METHOD_1_EVERY = 5  # steps: 1 : 4


def partners(label: Array, valid: Array) -> Array:
  """Who is whose partner in a batch by Method 1.

  The paper goes from left to right: an image that has no partner yet gets the
  next one after it that has none and is of its class. So within a class the
  first goes with the second and the third with the fourth; the last of an odd
  number is left over. Those that are left over, at most one of each class, are
  paired in turn, and one that remains is its own partner.

  Args:
    label: Classes, [n].
    valid: 0 for padding, which is its own partner and nobody else's; [n].

  Returns:
    int32 [n]; partners[partners[i]] is i.
  """
  place = jnp.arange(len(label))
  valid = valid > 0
  alike = (label[:, None] == label[None]) & valid[:, None] & valid[None]
  rank = jnp.sum(alike & (place[:, None] > place[None]), axis=1)
  left_over = (rank % 2 == 0) & (rank == jnp.sum(alike, axis=1) - 1)
  # In this order partners are neighbours: the classes, each an even number,
  # then those left over, then padding.
  last = jnp.iinfo(jnp.int32).max
  key = jnp.where(left_over, last - 1, label)
  order = jnp.argsort(jnp.where(valid, key, last), stable=True)
  neighbour = jnp.where(place ^ 1 < jnp.sum(valid), place ^ 1, place)
  neighbour = jnp.where(place < jnp.sum(valid), neighbour, place)
  partner = jnp.zeros_like(order).at[order].set(order[neighbour])
  return partner.astype(jnp.int32)


def arrange(batch: Mapping[str, Array], step: Array) -> dict[str, Array]:
  """A batch whose image i and image n + i are a pair, by the step's method.

  Args:
    batch: `label` and `valid` [2 n], and other entries of 2 n rows.
    step: Updates done.

  Returns:
    The batch with its second half as the method wants it, and with `same`,
    int32 [2 n]: whether the two labels of a pair are equal. A pair with padding
    in it is padding.

  Raises:
    ValueError: The batch is of an odd number of images.
  """
  half = check_even(len(batch['label']))
  chosen = partners(batch['label'][:half], batch['valid'][:half])
  first = jnp.arange(half)
  second = jnp.where(step % METHOD_1_EVERY == 0, chosen, half + first)
  rows = jnp.concatenate([first, second])
  # Else every device would do the whole batch from here on.
  by_row = sharding.by_row(sharding.make_mesh())

  def take(column: Array) -> Array:
    taken = column.at[rows].get(mode='promise_in_bounds')
    return jax.lax.with_sharding_constraint(taken, by_row)

  taken = {name: take(column) for name, column in batch.items()}
  label, valid = taken['label'], taken['valid']
  same = label == jnp.roll(label, half)
  return taken | {
    'valid': valid * jnp.roll(valid, half),
    'same': same.astype(jnp.int32),
  }


def check_even(images: int) -> int:
  """The number of pairs, or ValueError if an image would be left over."""
  if images % 2:
    raise ValueError(
      f'{images} images cannot be pairs. A pairwise task needs an even '
      'data.batch_size, and even parts of it with optim.accumulate.'
    )
  return images // 2
