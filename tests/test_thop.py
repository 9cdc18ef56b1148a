"""What the profiler thop would count, rule by rule and as the paper prints."""

import flax.linen as nn
import pytest

from jaxderm import systems, thop
from jaxderm.models.attention import Softmax
from jaxderm.models.layers import (
  BatchNorm,
  Conv,
  ConvTranspose,
  DepthwiseConv,
  PReLU,
  SeparableConv,
  Up,
  upsample,
)
from jaxderm.systems import printing


class One(nn.Module):
  """A network of one layer."""

  layer: nn.Module

  @nn.compact
  def __call__(self, image, train=False):
    return self.layer(image)


class Standardised(Conv):
  """thop looks for a module's very class."""


class Function(nn.Module):
  @nn.compact
  def __call__(self, x):
    return upsample(nn.relu(x), 'bilinear')


PIXELS = 8 * 8


# On 8x8x3.
@pytest.mark.parametrize(
  'layer, expected',
  [
    (Conv(4, 3), PIXELS * 4 * 9 * 3),
    (Conv(4, 3, bias=False), PIXELS * 4 * 9 * 3),
    (Conv(4, 3, stride=2), 16 * 4 * 9 * 3),
    (Conv(4, (1, 3)), PIXELS * 4 * 3 * 3),
    (Conv(6, 3, groups=3), PIXELS * 6 * 9),
    (DepthwiseConv(5), PIXELS * 3 * 25),
    (SeparableConv(4), PIXELS * (3 * 9 + 4 * 3)),
    (SeparableConv(4, stride=2), 16 * (3 * 9 + 4 * 3)),
    # For each output pixel, of which there are four times as many.
    (ConvTranspose(4), 4 * PIXELS * 4 * 4 * 3),
    (nn.Dense(5), PIXELS * 5 * 3),
    (BatchNorm(), 4 * PIXELS * 3),
    (BatchNorm(use_scale=False), 4 * PIXELS * 3),
    (nn.LayerNorm(), 4 * PIXELS * 3),
    (nn.LayerNorm(use_scale=False, use_bias=False), 2 * PIXELS * 3),
    (nn.GroupNorm(num_groups=3), 0),
    (PReLU(), PIXELS * 3),
    (Softmax(), PIXELS * (3 * 3 - 1)),
    (Up(5, 'nearest'), 4 * PIXELS * 3),
    (Up(5, 'bilinear'), 11 * 4 * PIXELS * 3),
    (Up(5, 'aligned'), 11 * 4 * PIXELS * 3),
    (Up(5, 'conv2'), 4 * PIXELS * 5 * 4 * 3),
    (Up(5, 'transpose'), 4 * PIXELS * 5 * 4 * 3),
    (Standardised(4, 3), 0),
    (Function(), 0),
  ],
)
def test_rule(layer, expected):
  assert thop.operations(One(layer), 8) == expected


def unet_by_hand(outputs):
  """By the pixel of the image: 65,536 at 256 pixels (SPEC 4.3)."""
  products, norms, entering = 64 * outputs, 0, 3
  for level, width in enumerate((64, 128, 256, 512, 1024)):
    products += 9 * (entering * width + width**2) / 4**level
    norms += 2 * width / 4**level
    entering = width
  for level, width in enumerate((64, 128, 256, 512)):
    # 2x2 to half the width, 3x3 of both, 3x3.
    products += (4 * 2 + 9 * 2 + 9) * width**2 / 4**level
    norms += 2 * width / 4**level
  return 65_536 * (products + 4 * norms)


@pytest.mark.parametrize('up', ['conv2', 'transpose'])
@pytest.mark.parametrize('outputs, printed', [(1, 54.7378), (2, 54.7420)])
def test_unet(up, outputs, printed):
  network = systems.build('zarrin2025/UNet', classes=outputs, up=up)
  found = thop.operations(network, 256)
  assert found == unet_by_hand(outputs)
  assert round(found / 1e9, 4) == printed


def test_attention_unet_by_hand():
  total = unet_by_hand(1) / 65_536
  for level, width in enumerate((64, 128, 256, 512)):
    # 3x3 instead of 2x2, after a module that enlarges; the gate.
    products = (9 - 4) * 2 * width**2 + width**2 + width / 2
    norms = width + 2 * width / 2 + 1
    total += (products + 4 * norms + 2 * width) / 4**level
  network = systems.build('zarrin2025/AttentionUNet', classes=1)
  assert thop.operations(network, 256) == 65_536 * total


# Printed; by thop's rules the default, and alternative A (SPEC 4.2).
RFE = {
  'ResNet34RFE': (9.046, 9.151, 9.070),
  'ResNet50RFE': (39.701, 39.498, 39.683),
  'ResNet101RFE': (44.576, 44.374, 44.559),
}


@pytest.mark.parametrize('name', RFE)
def test_rfe(name):
  printed, default, alternative = RFE[name]
  name = f'zarrin2025/{name}'
  assert systems.SYSTEMS[name].printed_gmacs == printed
  assert gmacs(systems.build(name)) == default
  assert gmacs(systems.build(name, fuse='eachadd')) == alternative
  assert abs(default / printed - 1) < 0.012
  assert abs(alternative / printed - 1) < 0.003


def gmacs(network):
  return round(thop.operations(network, 256) / 1e9, 3)


def test_rfe_on_deeper_encoders():
  """What 17 more blocks cost does not depend on the neck."""
  deep, shallow = (
    thop.operations(systems.build(f'zarrin2025/{name}'), 256)
    for name in ('ResNet101RFE', 'ResNet50RFE')
  )
  assert round((deep - shallow) / 1e9, 3) == 4.875 == round(44.576 - 39.701, 3)


@pytest.mark.parametrize('name', ['UNet', 'AttentionUNet', 'TransUNet'])
def test_to_the_printed_digits(name):
  row = printing.describe(systems.SYSTEMS[f'zarrin2025/{name}'])
  assert row['thop_gmacs'] == row['printed_gmacs'] > 20
