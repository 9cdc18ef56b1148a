"""Attention U-Net: its gate by hand, its decoder of its parts, its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import draw, quick_jit

from jaxderm import systems
from jaxderm.cost import parameters
from jaxderm.models import decoders
from jaxderm.models.decoders.gated import Gate
from jaxderm.models.layers import ConvNormAct, DoubleConv

KEY = jax.random.key(0)


def layer(weight, bias):
  """A 1x1 convolution of one channel, then a normalisation that doubles."""
  params = {
    'conv': {
      'kernel': jnp.full((1, 1, 1, 1), weight),
      'bias': jnp.array([bias]),
    },
    'norm': {'scale': jnp.array([2.0]), 'bias': jnp.array([0.0])},
  }
  stats = {'norm': {'mean': jnp.array([0.0]), 'var': jnp.array([1 - 1e-5])}}
  return params, stats


def test_gate_by_hand():
  layers = {
    'signal': layer(3.0, 1.0),
    'skip': layer(-1.0, 0.5),
    'weight': layer(0.25, -0.5),
  }
  variables = {
    'params': {name: params for name, (params, _) in layers.items()},
    'batch_stats': {name: stats for name, (_, stats) in layers.items()},
  }
  skip = jnp.array([2.0, 10.0]).reshape(1, 1, 2, 1)
  signal = jnp.array([1.0, 1.0]).reshape(1, 1, 2, 1)
  y = Gate(1).apply(variables, skip, signal)
  # 2 (3 + 1) + 2 (-2 + 0.5) = 5, and 2 (5 / 4 - 0.5) = 1.5; the second pixel
  # is 8 - 19, so ReLU leaves nothing and the gate is that of -1.
  gates = 1 / (1 + np.exp([-1.5, 1.0]))
  np.testing.assert_allclose(y[0, 0, :, 0], [2, 10] * gates, rtol=1e-5)


def test_decoder_of_its_parts():
  """Enlarge, 3x3, gate of half the width, [gated skip, up], twice 3x3."""
  shapes = [(2, 8, 12, 3), (2, 4, 6, 5)]
  pyramid = tuple(
    np.random.default_rng(i).normal(size=shape).astype('f')
    for i, shape in enumerate(shapes)
  )
  decoder = decoders.GatedUNet(widths=(4, 2))
  variables = draw(decoder, pyramid)
  y = quick_jit(decoder.apply)(variables, pyramid)

  def part(module, name, *inputs):
    own = {kind: tree[name] for kind, tree in variables.items()}
    return quick_jit(module.apply)(own, *inputs)

  def block(x, i, width):
    double = DoubleConv(width, origin='torch')
    return part(double, f'block{i}', x)

  def up(x, i, width):
    x = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    conv = ConvNormAct(width, bias=True, origin='torch')
    return part(conv, f'conv{i}', x)

  x = up(pyramid[1], 1, 4)
  gated = part(Gate(2), 'gate1', pyramid[0], x)
  x = block(np.concatenate([gated, x], axis=-1), 1, 4)
  expected = block(up(x, 2, 2), 2, 2)  # no skip is left
  assert y.shape == (2, 16, 24, 2)
  assert np.std(expected) > 0.05
  np.testing.assert_allclose(y, expected, atol=1e-4)


def test_needs_a_width_for_each_skip():
  pyramid = [jnp.ones((1, 8 >> i, 8 >> i, 2)) for i in range(3)]
  with pytest.raises(ValueError, match='1 widths for 2 skips'):
    jax.eval_shape(decoders.GatedUNet((4,)).init, KEY, pyramid)


def test_size_of_attention_unet():
  """SPEC 4.3, and once more by hand; with biases everywhere."""

  def conv(size, fan_in, fan_out):  # with its normalisation
    return size**2 * fan_in * fan_out + 3 * fan_out

  expected, entering = 64 + 1, 3
  for width in (64, 128, 256, 512, 1024):
    expected += conv(3, entering, width) + conv(3, width, width)
    entering = width
  for width in (512, 256, 128, 64):
    expected += conv(3, 2 * width, width)
    expected += 2 * conv(1, width, width // 2) + conv(1, width // 2, 1)
    expected += conv(3, 2 * width, width) + conv(3, width, width)
  assert expected == 34_878_573
  network = systems.build('zarrin2025/AttentionUNet', classes=1)
  assert parameters(network, 32)[0] == expected


def test_size_of_unet():
  """SPEC 4.3: 31,031,745 without normalisation; 65 more with two classes."""
  for changes, expected in (
    ({'classes': 1}, 31_043_521),
    ({'classes': 1, 'norm': False}, 31_031_745),
    ({'classes': 1, 'up': 'transpose'}, 31_043_521),
    ({}, 31_043_521 + 65),
  ):
    network = systems.build('zarrin2025/UNet', **changes)
    assert parameters(network, 32)[0] == expected
