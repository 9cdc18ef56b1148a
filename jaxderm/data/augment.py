"""Random augmentation on the device, keyed, of a whole batch at once.

A recipe maps names to arguments; a name that is missing is off:

  recipe = dict(rotate=dict(p=0.5, degrees=180.0), hflip=dict())
  batch = augment(key, batch, recipe)

All geometry (`geometry`) is composed into one affine map per image and sampled
once: bilinear for the image, nearest for the mask. Colours follow, image only.
Both tables below are in the order of application, whatever the recipe's order.
The draws of an image are a function of the key, the image's place in the batch
and the operation's name, not of the batch's size or of the other operations.
"""

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxderm.data import colour, geometry

Array = jax.Array
Recipe = Mapping[str, Mapping[str, Any]]

PROBABILITY = 0.5  # of each operation, where the recipe has no `p`

# ------------------------------------------------------------------ colour
# Each takes (key, image [H, W, 3] on 0..255) and returns such an image.


def brightness(key, image, *, amount=0.2):
  """Adds up to `amount` of the full range either way."""
  change = amount * jax.random.uniform(key, minval=-1.0)
  return jnp.clip(image + 255.0 * change, 0.0, 255.0)


def exposure(key, image, *, low=0.8, high=1.2):
  """Multiplies by low to high."""
  gain = jax.random.uniform(key, minval=low, maxval=high)
  return jnp.clip(image * gain, 0.0, 255.0)


def contrast(key, image, *, amount=0.2):
  """Multiplies the distance from the image's mean by 1 - amount to 1 + amount."""
  gain = 1.0 + amount * jax.random.uniform(key, minval=-1.0)
  mean = jnp.mean(image)
  return jnp.clip((image - mean) * gain + mean, 0.0, 255.0)


def clahe(key, image, *, low=1.0, high=4.0, tiles=8):
  """Equalises the luma with a limit of low to high; see `colour.equalise`."""
  clip = jax.random.uniform(key, minval=low, maxval=high)
  return colour.equalise(image, clip, tiles=tiles)


def hsv(key, image, *, hue=10.0, saturation=0.2, value=0.1):
  """Adds up to these either way: hue in degrees, the others in 0..1."""
  change = jax.random.uniform(key, (3,), minval=-1.0)
  h, s, v = colour.rgb_to_hsv(image)
  return colour.hsv_to_rgb(
    h + hue * change[0],
    jnp.clip(s + saturation * change[1], 0.0, 1.0),
    jnp.clip(v + value * change[2], 0.0, 1.0),
  )


def cutout(key, image, *, squares=3, low=0.1, high=0.2, fill=None):
  """Hides 1 to `squares` squares (arXiv:1708.04552); the mask stays.

  Their sides are low to high of the image's shorter side, each square lies
  inside the image, and its colour is `fill` or, if None, the image's mean.
  """
  height, width = image.shape[:2]
  count_key, side_key, place_key = jax.random.split(key, 3)
  count = jax.random.randint(count_key, (), 1, squares + 1)
  side = jax.random.uniform(side_key, (squares,), minval=low, maxval=high)
  side = jnp.maximum(jnp.round(side * min(height, width)), 1.0)
  place = jax.random.uniform(place_key, (squares, 2))
  top = jnp.floor(place[:, 0] * (height - side + 1))
  left = jnp.floor(place[:, 1] * (width - side + 1))

  def inside(length, first):
    at = jnp.arange(length, dtype=jnp.float32)[:, None]
    return (at >= first) & (at < first + side)  # [length, squares]

  rows = inside(height, top) & (jnp.arange(squares) < count)
  hidden = jnp.any(rows[:, None] & inside(width, left)[None], axis=-1)
  paint = jnp.mean(image, axis=(0, 1)) if fill is None else jnp.float32(fill)
  return jnp.where(hidden[..., None], paint, image)


def noise(key, image, *, sigma=0.1):
  """Adds Gaussian noise with a deviation of `sigma` of the full range."""
  drawn = jax.random.normal(key, image.shape)
  return jnp.clip(image + 255.0 * sigma * drawn, 0.0, 255.0)


# ---------------------------------------------------------------- the tables


def _by_name(*functions: Callable) -> dict[str, Callable]:
  return {f.__name__: f for f in functions}


GEOMETRY = _by_name(
  geometry.scale,
  geometry.zoom,
  geometry.rotate,
  geometry.shift,
  geometry.rot90,
  geometry.hflip,
  geometry.vflip,
  geometry.centre_crop,
  geometry.crop,
)
COLOUR = _by_name(brightness, exposure, contrast, clahe, hsv, cutout, noise)
OPERATIONS = {**GEOMETRY, **COLOUR, 'border': geometry.border}


def _right(name: str) -> dict[str, Any]:
  """The arguments of an operation and their defaults."""
  parameters = inspect.signature(OPERATIONS[name]).parameters.values()
  right = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
  return right if name == 'border' else {'p': PROBABILITY, **right}


def check(recipe: Recipe) -> None:
  """Raises ValueError, listing what is right, if a recipe cannot be used."""
  for name, arguments in recipe.items():
    if name not in OPERATIONS:
      raise ValueError(
        f'Unknown augmentation {name!r}; it must be one of '
        f'{", ".join(OPERATIONS)}.'
      )
    right = _right(name)
    if not hasattr(arguments, 'keys'):  # a ConfigDict is no Mapping
      raise ValueError(
        f'{name} takes a mapping of {", ".join(right)}, not {arguments!r}.'
      )
    wrong = [a for a in arguments if a not in right]
    if wrong:
      raise ValueError(
        f'{name} has no argument {wrong[0]!r}; it takes {", ".join(right)}.'
      )
    values = {**right, **arguments}
    if not 0 <= values.get('p', 0) <= 1:
      raise ValueError(f'{name}: p must be in 0..1, not {values["p"]}.')
    if 'low' in values and values['low'] > values['high']:
      raise ValueError(
        f'{name}: low, {values["low"]}, is above high, {values["high"]}.'
      )
    if values.get('mode', 'mirror') not in ('mirror', 'nearest'):
      raise ValueError(
        f"border: mode must be 'mirror' or 'nearest', not {values['mode']!r}."
      )


def _draw(key: Array, name: str, arguments: Mapping[str, Any]):
  """Whether to apply an operation, its own key, and its arguments."""
  arguments = dict(arguments)
  p = arguments.pop('p', PROBABILITY)
  # The name's hash, so that no operation's draws depend on the others'.
  key = jax.random.fold_in(key, zlib.crc32(name.encode()))
  coin, key = jax.random.split(key)
  return jax.random.bernoulli(coin, p), key, arguments


def _augment_one(key: Array, image: Array, mask: Array | None, recipe: Recipe):
  used = [name for name in GEOMETRY if name in recipe]
  matrix = jnp.eye(3)
  for name in used:
    wanted, own, arguments = _draw(key, name, recipe[name])
    step = GEOMETRY[name](own, image.shape[:2], **arguments)
    step = jnp.where(wanted, step, jnp.eye(3))
    # The first operation's map comes last on the way from output to source.
    # HIGHEST: accelerators otherwise round the products to ten bits or fewer.
    matrix = jnp.matmul(matrix, step, precision=jax.lax.Precision.HIGHEST)
  if used:
    edge = recipe.get('border', {})
    image, mask = geometry.warp(image, mask, matrix, **edge)
  for name in (name for name in COLOUR if name in recipe):
    wanted, own, arguments = _draw(key, name, recipe[name])
    image = jnp.where(wanted, COLOUR[name](own, image, **arguments), image)
  return image, mask


def augment(key: Array, batch: Mapping[str, Array], recipe: Recipe):
  """Augments a batch: image i by draws that depend on (key, i) alone.

  Args:
    key: A PRNG key; in training, of the step.
    batch: `image` [B, H, W, 3] on 0..255 and, optionally, `mask`
      [B, H, W, 1]. Other entries are passed on.
    recipe: Names to arguments, see the two tables; `p`, the probability of
      each operation, is 0.5 where it is not given. Static under `jit`.

  Returns:
    The batch with `image` float32 and `mask` of the type that it had.

  Raises:
    ValueError: If `check(recipe)` does, or the mask is not of the image's size.
  """
  check(recipe)
  image = batch['image'].astype(jnp.float32)
  mask = batch.get('mask')
  if mask is not None and mask.shape != (*image.shape[:3], 1):
    raise ValueError(
      f'The mask must have the shape {[*image.shape[:3], 1]}, as the image, '
      f'not {list(mask.shape)}.'
    )
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
    jnp.arange(image.shape[0])
  )
  image, mask = jax.vmap(lambda *one: _augment_one(*one, recipe))(
    keys, image, mask
  )
  changed = {'image': image} | ({} if mask is None else {'mask': mask})
  return {**batch, **changed}


_FLIPS = {'hflip': {'p': 0.5}, 'vflip': {'p': 0.5}}
_TURN = {'rotate': {'p': 0.5, 'degrees': 180.0}}

# The papers' recipes; SPEC 1.10, 2.6, 3.7, 4.5 and 5.3 say what is decided.
RECIPES: Mapping[str, Recipe] = {
  'none': {},
  'flips': _FLIPS,
  'd4': {'rot90': {'p': 0.75}, 'hflip': {'p': 0.5}},
  'yang2021': dict(
    **_FLIPS,
    **_TURN,
    scale={'p': 0.5, 'low': 0.8, 'high': 1.2},
    crop={'p': 0.5, 'low': 0.8, 'high': 1.0},
    brightness={'p': 0.5, 'amount': 0.2},
    contrast={'p': 0.5, 'amount': 0.2},
    clahe={'p': 0.3, 'low': 1.0, 'high': 4.0, 'tiles': 8},
    hsv={'p': 0.5, 'hue': 10.0, 'saturation': 0.2, 'value': 0.1},
  ),
  'wei2020': dict(
    **_FLIPS,
    rot90={'p': 0.75},
    centre_crop={'p': 0.5, 'fraction': 0.8},
    exposure={'p': 0.5, 'low': 0.8, 'high': 1.2},
    cutout={'p': 0.5, 'squares': 3, 'low': 0.1, 'high': 0.2},
  ),
  'do2022': dict(
    **_FLIPS,
    rotate={'p': 1.0, 'degrees': 180.0},
    shift={'p': 1.0, 'fraction': 0.1},
    zoom={'p': 1.0, 'low': 0.9, 'high': 1.1},
    border={'mode': 'nearest'},
  ),
  'zarrin2025': dict(**_FLIPS, **_TURN),
  'le2020': dict(
    **_FLIPS,
    **_TURN,
    crop={'p': 0.5, 'low': 0.8, 'high': 1.0},
    # Sides of 16 to 56 px at 224.
    cutout={'p': 0.5, 'squares': 1, 'low': 16 / 224, 'high': 56 / 224},
  ),
}
