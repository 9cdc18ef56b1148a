"""Comparing our encoders with a publisher's, on weights that mean nothing.

The draw is a function of a variable's place and shape, on a generator whose
stream NumPy has frozen, so the weights behind a golden file need not be
stored. A network as it is drawn answers every image alike and would agree with
ours whatever we did, so each BatchNorm then gets the statistics that it sees.
"""

import functools
import zlib

import jax
import numpy as np
from compiling import quick_jit

from jaxderm.models.forms import use_form
from jaxderm.pretrained import statistics
from jaxderm.pretrained.table import norms, places


@use_form('lax')  # which compiles faster
def draw(encoder, image, seed=0, constants=None):
  """Variables of an encoder that tells apart the images [B, H, W, 3].

  Args:
    encoder: An encoder.
    image: Images.
    seed: Of the draw.
    constants: Variables that have one value only, by 'layer/name'.
  """
  template = jax.eval_shape(encoder.init, jax.random.key(0), image)
  found = places(template)
  normalised = norms(found)
  leaves = []
  for place, leaf in found.items():
    value = (constants or {}).get('/'.join(place[1:]))
    if value is None:
      value = _value(place, leaf.shape, place[1:-1] in normalised, seed)
    leaves.append(np.broadcast_to(np.float32(value), leaf.shape))
  variables = jax.tree.unflatten(jax.tree.structure(template), leaves)
  if not normalised:
    return variables
  calibrate = functools.partial(statistics.calibrate, jit=quick_jit)
  variables = calibrate(encoder, variables, image)
  # Where a map is constant, rounding would be divided by next to nothing.
  return jax.tree_util.tree_map_with_path(
    lambda path, x: np.maximum(x, 0.05) if path[-1].key == 'var' else x,
    variables,
  )


def _value(place, shape, norm, seed):
  rng = np.random.RandomState(zlib.crc32('/'.join(place).encode()) + seed)
  name = place[-1]
  if 'kernel' in name:
    value = rng.standard_normal(shape)
    if shape[-2] > 1:
      value -= value.mean(axis=-2, keepdims=True)
    # What ReLU leaves of a unit normal has a variance of 0.34.
    value *= np.sqrt(1 / (0.34 * np.prod(shape[:-1])))
  elif name in ('scale', 'var', 'variance'):
    value = rng.uniform(0.5, 1.0, shape)
  elif norm:
    # Most of what ReLU gets is above 0: a random network whose units are half
    # dead enlarges each rounding error from layer to layer.
    value = rng.uniform(0.5, 1.5, shape)
  else:
    value = 0.1 * rng.standard_normal(shape)
  return value.astype(np.float32)


def images(side, n=2, seed=0, low=-2.0, high=2.0):
  """Noise [n, *side, 3] that is half smooth, as a photograph is."""
  rng = np.random.RandomState(seed)
  small = rng.uniform(low, high, (n, 5, 5, 3)).astype(np.float32)
  rows, columns = (np.linspace(0, 4, length) for length in side)
  i, j = (np.minimum(x.astype(int), 3) for x in (rows, columns))
  u = (rows - i)[:, None, None].astype(np.float32)
  v = (columns - j)[:, None].astype(np.float32)

  def at(a, b):
    return small[:, i + a][:, :, j + b]

  upper = at(0, 0) * (1 - v) + at(0, 1) * v
  lower = at(1, 0) * (1 - v) + at(1, 1) * v
  fine = rng.uniform(low, high, (n, *side, 3)).astype(np.float32)
  return 0.5 * (upper * (1 - u) + lower * u + fine)


def inputs(encoder, side):
  """Images as an encoder wants them: 0 to 255 where it scales them itself."""
  if encoder.normalisation == 'none':
    return images(side, low=0.0, high=255.0)
  return images(side)


def assert_sees(expected, where):
  """The reference tells its images apart, or nothing can be concluded."""
  assert np.std(expected, axis=0).mean() > 0.05, f'{where} does not see'


def assert_features(ours, expected, taps, where, atol=1e-4):
  """Features equal, relative to their deviation where that is above 1."""
  for tap, a, b in zip(taps, ours, expected, strict=True):
    b = np.asarray(b)
    about = f'{tap} of {where}'
    assert_sees(b, about)
    scale = max(1.0, float(np.std(b)))
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * scale, err_msg=about)
