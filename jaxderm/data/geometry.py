"""Random moves of an image and its mask: affine maps, and sampling at one.

Each operation takes (key, (height, width)) and returns the [3, 3] map from a
place in the output to its source, in pixels (y, x, 1) from the image's centre.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def _linear(a, b, c, d, *, y=0.0, x=0.0) -> Array:
  rows = ((a, b, y), (c, d, x), (0.0, 0.0, 1.0))
  return jnp.stack([jnp.stack([jnp.float32(v) for v in row]) for row in rows])


def centre_crop(key, size, *, fraction=0.8):
  """Keeps the middle `fraction` of both sides, resized back."""
  return _linear(fraction, 0, 0, fraction)


def crop(key, size, *, low=0.8, high=1.0):
  """Keeps a random window, low to high of both sides, resized back."""
  keys = jax.random.split(key)
  side = jax.random.uniform(keys[0], minval=low, maxval=high)
  place = jax.random.uniform(keys[1], (2,), minval=-0.5, maxval=0.5)
  y, x = (1 - side) * place * jnp.asarray(size)
  return _linear(side, 0, 0, side, y=y, x=x)


def scale(key, size, *, low=0.8, high=1.2):
  """Magnifies both sides by one factor."""
  inverse = 1 / jax.random.uniform(key, minval=low, maxval=high)
  return _linear(inverse, 0, 0, inverse)


def zoom(key, size, *, low=0.9, high=1.1):
  """Magnifies each side by a factor of its own."""
  y, x = 1 / jax.random.uniform(key, (2,), minval=low, maxval=high)
  return _linear(y, 0, 0, x)


def rotate(key, size, *, degrees=180.0):
  """Turns by up to `degrees` either way."""
  angle = jnp.deg2rad(degrees) * jax.random.uniform(key, minval=-1.0)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return _linear(cos, -sin, sin, cos)


def shift(key, size, *, fraction=0.1):
  """Moves by up to `fraction` of each side."""
  move = fraction * jax.random.uniform(key, (2,), minval=-1.0)
  y, x = move * jnp.asarray(size)
  return _linear(1, 0, 0, 1, y=y, x=x)


def rot90(key, size):
  """Turns by 90, 180 or 270 degrees; p = 0.75 makes the four turns alike."""
  cos = jnp.asarray([0.0, -1.0, 0.0])
  sin = jnp.asarray([1.0, 0.0, -1.0])
  turns = jax.random.randint(key, (), 0, 3)
  return _linear(cos[turns], sin[turns], -sin[turns], cos[turns])


def hflip(key, size):
  """Mirrors left and right."""
  return _linear(1, 0, 0, -1)


def vflip(key, size):
  """Mirrors top and bottom."""
  return _linear(-1, 0, 0, 1)


def border(at: Array, size: int, *, mode: str = 'mirror') -> Array:
  """What lies outside the image; an entry of a recipe, without `p`.

  Args:
    at: Places along one axis, in pixels.
    size: Pixels of the axis.
    mode: 'mirror' reflects about the outermost pixels (cv2's REFLECT_101),
      'nearest' repeats them.

  Returns:
    Places in 0..size - 1.
  """
  if mode == 'mirror':
    # The distance to the nearest multiple of the period: no slow modulo.
    period = max(2 * (size - 1), 1)
    at = jnp.abs(at - period * jnp.round(at / period))
  return jnp.clip(at, 0, size - 1)


def warp(image: Array, mask: Array | None, matrix: Array, **edge):
  """Samples an image, bilinear, and its mask, nearest, at one affine map.

  Args:
    image: float32 [H, W, C].
    mask: [H, W, 1] of any type, or None.
    matrix: [3, 3] from a place in the output to its source, both in pixels
      (y, x, 1) from the centre of the image.
    **edge: Arguments of `border`.

  Returns:
    The image and the mask (or None), of the shapes given. Whole steps (flips,
    quarter turns of a square, nothing) move pixels without changing a bit.
  """
  height, width = image.shape[:2]
  y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
  x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
  (a, b, up), (c, d, left), _ = matrix
  y, x = a * y + b * x + up, c * y + d * x + left
  y = border(y + (height - 1) / 2, height, **edge)
  x = border(x + (width - 1) / 2, width, **edge)
  row, column = jnp.floor(y), jnp.floor(x)
  down, right = (y - row)[..., None], (x - column)[..., None]
  first = row.astype(jnp.int32) * width + column.astype(jnp.int32)
  below = jnp.where(row < height - 1, width, 0)
  beside = jnp.where(column < width - 1, 1, 0)

  # Rows of a flat image, known to exist: the quickest of five ways on a CPU.
  # Under vmap the gather keeps its batch axis, so a sharded batch stays put.
  def look_up(values, index):
    flat = values.reshape(height * width, -1)
    return flat.at[index].get(mode='promise_in_bounds')

  above = look_up(image, first) * (1 - right) + (
    look_up(image, first + beside) * right
  )
  under = look_up(image, first + below) * (1 - right) + (
    look_up(image, first + below + beside) * right
  )
  image = above * (1 - down) + under * down
  if mask is not None:
    y, x = jnp.floor(y + 0.5), jnp.floor(x + 0.5)
    nearest = y.astype(jnp.int32) * width + x.astype(jnp.int32)
    mask = look_up(mask, nearest)
  return image, mask
