"""Colour on the device: constancy, normalisation, HSV and CLAHE.

Images are float32 RGB on 0..255, [..., H, W, 3], so one image and a batch are
treated alike. Everything is pure and can be jitted and mapped.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

IMAGENET_MEAN = (123.68, 116.779, 103.939)  # RGB, 0..255, as Caffe and Keras
_CAFFE_MEAN = (104.0, 117.0, 123.0)  # BGR, as its own networks round it
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, OpenCV's COLOR_RGB2YCrCb
_LEVELS = 256


def grey_world(image: Array, p: float = 1) -> Array:
  """Removes the colour of the light (Buchsbaum 1980; Finlayson 2004).

  p = 1 is grey-world: each channel is scaled so that its mean is the mean of
  the three. Any larger p is shades of grey: channel c is divided by
  sqrt(3) e_c, where e is the vector of the channels' Minkowski means scaled to
  unit length; p = 6 is common in dermoscopy. At p = 1 the two differ only by
  one factor for the whole image.

  Args:
    image: [..., H, W, 3] on 0..255, any dtype.
    p: Order of the Minkowski mean, at least 1.

  Returns:
    float32 as `image`, clipped to 0..255.

  Raises:
    ValueError: If p is below 1.
  """
  if p < 1:
    raise ValueError(f'grey_world needs p of at least 1, but p is {p}.')
  image = image.astype(jnp.float32)
  pixels = (-3, -2)
  if p == 1:
    mean = jnp.mean(image, axis=pixels, keepdims=True)
    gain = jnp.mean(mean, axis=-1, keepdims=True) / jnp.maximum(mean, 1e-6)
  else:
    # On 0..1, because 255**p leaves float32's range at p = 16.
    power = jnp.mean((image / 255.0) ** p, axis=pixels, keepdims=True)
    light = power ** (1.0 / p)
    length = jnp.sqrt(jnp.sum(light**2, axis=-1, keepdims=True))
    gain = length / (np.sqrt(3.0) * jnp.maximum(light, 1e-6))
  return jnp.clip(image * gain, 0.0, 255.0)


def _min_max(image: Array) -> Array:
  """Each image's darkest value to 0 and its brightest to 1, over all channels."""
  low = jnp.min(image, axis=(-3, -2, -1), keepdims=True)
  high = jnp.max(image, axis=(-3, -2, -1), keepdims=True)
  return (image - low) / jnp.where(high > low, high - low, 1.0)


def _constants(values: tuple[float, ...]) -> np.ndarray:
  return np.asarray(values, np.float32)


NORMALISATIONS: Mapping[str, Callable[[Array], Array]] = {
  'none': lambda x: x,
  'unit': lambda x: x / 255.0,
  'min_max': _min_max,
  'imagenet_mean': lambda x: (x - _constants(IMAGENET_MEAN)) / 255.0,
  'tf': lambda x: x / 127.5 - 1.0,
  'torch': lambda x: (
    (x / 255.0 - _constants(_TORCH_MEAN)) / _constants(_TORCH_STD)
  ),
  'caffe': lambda x: x[..., ::-1] - _constants(IMAGENET_MEAN[::-1]),
  'caffe_104': lambda x: x[..., ::-1] - _constants(_CAFFE_MEAN),
}


def normalise(image: Array, name: str) -> Array:
  """Turns 0..255 into what an encoder was trained on.

  Args:
    image: [..., H, W, 3] RGB on 0..255, any dtype.
    name: 'none': 0..255 stays. 'unit': /255. 'min_max': each image's own range
      to 0..1 (UCM-Net, arXiv:2310.09457); 0 where it is of one value.
      'imagenet_mean': minus the ImageNet mean, then /255 (networks from
      scratch, SPEC 1.1). 'tf': x/127.5 - 1. 'torch': /255, then ImageNet's mean
      and deviation. 'caffe': BGR minus the ImageNet mean. 'caffe_104': the
      same, the mean in whole numbers (104, 117, 123).

  Returns:
    float32 as `image`; the channels are BGR for 'caffe' and 'caffe_104'.

  Raises:
    ValueError: If no normalisation has this name.
  """
  if name not in NORMALISATIONS:
    raise ValueError(
      f'Unknown normalisation {name!r}; it must be one of '
      f'{", ".join(NORMALISATIONS)}.'
    )
  return NORMALISATIONS[name](image.astype(jnp.float32))


def rgb_to_hsv(image: Array) -> tuple[Array, Array, Array]:
  """Hue, saturation and value, as OpenCV's float COLOR_RGB2HSV.

  Args:
    image: [..., 3] RGB on 0..255.

  Returns:
    Hue in degrees in [0, 360), saturation and value in [0, 1], each [...]. A
    grey pixel has hue 0.
  """
  red, green, blue = (image[..., c] / 255.0 for c in range(3))
  value = jnp.maximum(jnp.maximum(red, green), blue)
  spread = value - jnp.minimum(jnp.minimum(red, green), blue)
  scale = 60.0 / jnp.where(spread > 0, spread, 1.0)
  hue = jnp.where(
    value == red,
    (green - blue) * scale,
    jnp.where(
      value == green,
      (blue - red) * scale + 120.0,
      (red - green) * scale + 240.0,
    ),
  )
  hue = jnp.where(hue < 0, hue + 360.0, hue)
  return hue, spread / jnp.where(value > 0, value, 1.0), value


def hsv_to_rgb(hue: Array, saturation: Array, value: Array) -> Array:
  """The inverse of `rgb_to_hsv`.

  Args:
    hue: [...], degrees, any number of turns.
    saturation: [...] in [0, 1].
    value: [...] in [0, 1].

  Returns:
    RGB on 0..255, [..., 3].
  """
  turns = hue / 360.0
  sextant = 6.0 * (turns - jnp.floor(turns))  # the floor is faster than mod

  def channel(offset):
    k = sextant + offset
    k = jnp.where(k >= 6.0, k - 6.0, k)
    fade = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return 255.0 * value * (1.0 - saturation * fade)

  return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def _clipped_histograms(tiles: Array, clip: Array) -> Array:
  """Histograms [T, 256] of tiles [T, P]; what is over the limit is shared out."""
  count, area = tiles.shape
  # A scatter-add takes 1 ms for 16 planes of 128 px, a product of one-hot
  # matrices 20 ms, a comparison with all levels 140 ms (two CPU cores).
  bins = tiles + _LEVELS * jnp.arange(count)[:, None]
  histogram = (
    jnp.zeros(count * _LEVELS, jnp.int32)
    .at[bins.reshape(-1)]
    .add(1, mode='promise_in_bounds')
    .reshape(count, _LEVELS)
  )
  limit = jnp.asarray(clip * area / _LEVELS).astype(jnp.int32)  # truncates
  limit = jnp.maximum(limit, 1)
  excess = jnp.sum(jnp.maximum(histogram - limit, 0), axis=1, keepdims=True)
  histogram = jnp.minimum(histogram, limit) + excess // _LEVELS
  # The rest goes one by one to every `step`-th level, from the darkest.
  rest = excess % _LEVELS
  step = jnp.maximum(_LEVELS // jnp.maximum(rest, 1), 1)
  level = jnp.arange(_LEVELS)
  return histogram + ((level % step == 0) & (level // step < rest))


def _neighbours(size: int, length: int, tiles: int):
  """For each pixel: the tile before, the tile after and the weight of it."""
  # OpenCV multiplies by the float32 inverse; dividing flips some roundings.
  inverse = np.float32(1.0 / length)
  place = np.arange(size, dtype=np.float32) * inverse - np.float32(0.5)
  before = np.floor(place).astype(np.int32)
  weight = (place - before).astype(np.float32)
  return (
    np.clip(before, 0, tiles - 1),
    np.clip(before + 1, 0, tiles - 1),
    weight,
  )


def clahe(plane: Array, clip: Array | float, *, tiles: int = 8) -> Array:
  """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994).

  Follows OpenCV's createCLAHE on 8-bit planes: the same padding, limit,
  sharing of the excess and interpolation. Every level is OpenCV's where the
  sides of a tile are powers of two (128 or 256 px by 8); elsewhere up to 2
  pixels in 1000 differ by one level, where a half rounds the other way.

  Args:
    plane: [H, W] on 0..255, rounded to levels here. `vmap` for a batch.
    clip: The limit, in multiples of a flat histogram; it may be traced.
    tiles: Tiles along each side.

  Returns:
    float32 whole levels in 0..255, [H, W].
  """
  height, width = plane.shape
  levels = jnp.clip(jnp.round(plane), 0, _LEVELS - 1).astype(jnp.int32)
  padded = levels
  if height % tiles or width % tiles:
    # OpenCV pads both sides when one needs it, a whole `tiles` where none is.
    below, right = tiles - height % tiles, tiles - width % tiles
    padded = jnp.pad(levels, ((0, below), (0, right)), mode='reflect')
  rows, columns = (side // tiles for side in padded.shape)
  area = rows * columns
  blocks = padded.reshape(tiles, rows, tiles, columns).transpose(0, 2, 1, 3)
  histogram = _clipped_histograms(blocks.reshape(tiles * tiles, area), clip)
  scale = np.float32(_LEVELS - 1) / np.float32(area)
  table = jnp.round(jnp.cumsum(histogram, axis=1).astype(jnp.float32) * scale)
  table = jnp.minimum(table, 255.0).reshape(-1)

  top, bottom, down = _neighbours(height, rows, tiles)
  left, right, across = _neighbours(width, columns, tiles)
  down, across = down[:, None], across[None, :]

  def look_up(row, column):
    tile = row[:, None] * tiles + column[None, :]
    index = tile * _LEVELS + levels
    return table.at[index].get(mode='promise_in_bounds')

  above = look_up(top, left) * (1 - across) + look_up(top, right) * across
  below = look_up(bottom, left) * (1 - across) + look_up(bottom, right) * across
  return jnp.clip(jnp.round(above * (1 - down) + below * down), 0.0, 255.0)


def equalise(image: Array, clip: Array | float, *, tiles: int = 8) -> Array:
  """CLAHE of an image's luma; the colour differences stay.

  The luma is Y of YCrCb, in which R - Y and B - Y stay, so that adding the
  change of Y to each channel is the whole way there and back. (Libraries that
  equalise L of CIELAB differ from it a little.)

  Args:
    image: [H, W, 3] RGB on 0..255. `vmap` for a batch.
    clip: The limit, in multiples of a flat histogram.
    tiles: Tiles along each side.

  Returns:
    float32 as `image`, clipped to 0..255.
  """
  luma = sum(weight * image[..., c] for c, weight in enumerate(_LUMA))
  change = clahe(luma, clip, tiles=tiles) - jnp.round(luma)
  return jnp.clip(image + change[..., None], 0.0, 255.0)
