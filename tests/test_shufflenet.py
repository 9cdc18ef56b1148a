"""ShuffleNet against a slow one in NumPy, since no library has it."""

import jax
import numpy as np
import parity
import pytest
from compiling import quick_jit

from jaxderm.models import encoders

SIDE = (67, 64)  # rows stay odd at every level but one, columns even


class Slow:
  """The layout as SPEC 2.1 has it, in float64, pixel by pixel and in loops."""

  def __init__(self, variables):
    flat = jax.tree_util.tree_flatten_with_path(variables)[0]
    self.values = {
      '/'.join(key.key for key in path): np.asarray(x, np.float64)
      for path, x in flat
    }

  def norm(self, x, name):
    def get(place):
      return self.values[place.format(name)]

    x = (x - get('batch_stats/{}/mean')) / np.sqrt(
      get('batch_stats/{}/var') + 1e-3
    )
    return x * get('params/{}/scale') + get('params/{}/bias')

  def grouped(self, x, name, groups):
    """Each group of outputs sees its group of inputs."""
    kernel = self.values[f'params/{name}/kernel'][0, 0]
    seen, made = x.shape[-1] // groups, kernel.shape[-1] // groups
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for g in range(groups):
      for d in range(g * made, (g + 1) * made):
        for c in range(seen):
          y[..., d] += x[..., g * seen + c] * kernel[c, d]
    return y

  def windows(self, x, stride, outside):
    """The 3x3 windows of Keras' 'same', [3, 3, B, H, W, C]."""
    pads = []
    for size in x.shape[1:3]:
      total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
      pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=outside)
    rows, columns = (size - 2 for size in x.shape[1:3])
    return np.array(
      [
        [
          x[:, a : a + rows : stride, b : b + columns : stride]
          for b in range(3)
        ]
        for a in range(3)
      ]
    )

  def conv(self, x, name, stride):
    kernel = self.values[f'params/{name}/kernel']
    return np.einsum('abnhwc,abcd->nhwd', self.windows(x, stride, 0), kernel)

  def depthwise(self, x, name, stride):
    kernel = self.values[f'params/{name}/kernel'][:, :, 0]
    return np.einsum('abnhwc,abc->nhwc', self.windows(x, stride, 0), kernel)

  def unit(self, x, name, groups, stride):
    y = self.norm(
      self.grouped(x, f'{name}_gconv1', groups), f'{name}_gconv1_bn'
    )
    y = np.maximum(y, 0)
    n = y.shape[-1] // groups
    y = y[..., [g * n + i for i in range(n) for g in range(groups)]]
    y = self.norm(
      self.depthwise(y, f'{name}_dwconv', stride), f'{name}_dwconv_bn'
    )
    y = self.norm(
      self.grouped(y, f'{name}_gconv2', groups), f'{name}_gconv2_bn'
    )
    if stride == 1:
      return np.maximum(y + x, 0)
    mean = np.nanmean(self.windows(x, 2, np.nan), axis=(0, 1))
    return np.maximum(np.concatenate([y, mean], axis=-1), 0)

  def features(self, image):
    x = np.maximum(self.conv(image, 'conv1', 2), 0)
    yield x
    x = self.windows(x, 2, -np.inf).max(axis=(0, 1))
    yield x
    x = self.unit(x, 'stage2_unit1', 1, 2)
    for i in (2, 3, 4):
      x = self.unit(x, f'stage2_unit{i}', 3, 1)
    yield x
    x = self.unit(x, 'stage3_unit1', 3, 2)
    for i in (2, 3, 4, 5, 6, 7, 8):
      x = self.unit(x, f'stage3_unit{i}', 3, 1)
    yield x
    x = self.unit(x, 'stage4_unit1', 3, 2)
    for i in (2, 3, 4):
      x = self.unit(x, f'stage4_unit{i}', 3, 1)
    yield x


def test_features_equal_the_slow_ones():
  """With a quarter of the channels, for the loops."""
  encoder = encoders.ShuffleNet(scale=0.5)
  image = parity.inputs(encoder, SIDE)
  variables = parity.draw(encoder, image)
  expected = list(Slow(variables).features(np.asarray(image, np.float64)))
  found = quick_jit(encoder.apply)(variables, image)
  parity.assert_features(found, expected, encoder.taps, 'ShuffleNet')


# Table 1 of the paper, times the scale.
@pytest.mark.parametrize(
  'groups, scale, widths',
  [
    (1, 1.0, (24, 24, 144, 288, 576)),
    (8, 0.5, (12, 12, 192, 384, 768)),
    (3, 2.0, (48, 48, 480, 960, 1920)),
  ],
)
def test_widths(groups, scale, widths):
  encoder = encoders.ShuffleNet(groups=groups, scale=scale)
  image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  pyramid = jax.eval_shape(
    lambda x: encoder.init_with_output(jax.random.key(0), x)[0], image
  )
  assert tuple(x.shape[-1] for x in pyramid) == widths
