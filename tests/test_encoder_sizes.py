"""Sizes that publishers and papers print, to the last parameter."""

from typing import NamedTuple

import pytest

from jaxderm.cost import parameters
from jaxderm.models import encoders
from jaxderm.systems import build


class Published(NamedTuple):
  """One printed number.

  Attributes:
    name: Of our encoder.
    tap: The last layer that is counted.
    trainable: Parameters; None where only the sum is printed.
    everything: With the statistics of BatchNorm; None where it is not printed.
    changes: Fields of our encoder.
    side: Of the image, where a layer's size depends on it.
  """

  name: str
  tap: str
  trainable: int | None
  everything: int | None
  changes: dict = {}  # noqa: RUF012  nobody writes to it
  side: int = 64


def do2022(total: int, side: int, channels: int) -> int:
  """What SPEC 3.1's total leaves for the encoder, to a map [side, side, C]."""
  attention = 9 * channels * 16 + 16
  pooled = -(-side // 2)
  dense = pooled * pooled * 2 * channels * 7 + 7
  metadata = 22 * 4096 + 4096 * 7 + 3
  return total - attention - dense - metadata


def convolutions(size: int, entering: int, *widths: int) -> int:
  """Biased convolutions in a row, each with BatchNorm, all its variables."""
  total = 0
  for width in widths:
    total += size * size * entering * width + width + 4 * width
    entering = width
  return total


def segnet(total: int) -> int:
  """What SPEC 1.3's total leaves for the encoder."""
  dense = 512 * 1024 + 1024 + 1024 * 1024 + 1024
  decoder = convolutions(3, 1024, *[512] * 5, 256, 256, 256, 128, 128, 64, 64)
  head = 64 + 1 + 4
  return total - dense - decoder - head


def do2022_vgg(total: int) -> int:
  """What SPEC 3.1's total of VGG16 leaves for the encoder, to 28x28x512."""
  attention = 9 * 512 * 16 + 16
  after = convolutions(3, 1024, 512, 512) + convolutions(1, 512, 512)
  flattened = 4 * 4 * 512
  dense = (flattened + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 7
  return total - attention - after - dense


def yang2021_hrnet(total: int, norm: int) -> int:
  """What SPEC 1.5's total leaves for the encoder.

  Args:
    total: Printed.
    norm: Variables of BatchNorm that are counted for each channel.
  """
  fusion = (64 + 128 + 256) * 32 + 3 * 32 * norm
  head = 128 * 1 + 1 * norm
  return total - fusion - head


def transunet(total: int) -> int:
  """What SPEC 4.3's total, with two classes, leaves for the encoder."""
  bridge = 9 * 768 * 512 + 2 * 512
  decoder, entering = 0, 512
  for width, skip in ((256, 512), (128, 256), (64, 64), (16, 0)):
    decoder += 9 * (entering + skip) * width + 9 * width * width + 4 * width
    entering = width
  head = 9 * 16 * 2 + 2
  return total - bridge - decoder - head


def swinunet(total: int, window: int) -> int:
  """What SPEC 4.3's total, with two classes, leaves for the encoder."""
  decoder = 0
  for width in (384, 192, 96):
    expand = 2 * width * 4 * width + 2 * width
    join = 2 * width * width + width
    # Queries, keys, values and what comes of them; MLP; both normalisations.
    block = (4 * width + 4) * width + (8 * width + 5) * width + 4 * width
    bias = width // 32 * (2 * window - 1) ** 2
    decoder += expand + join + 2 * (block + bias)
  enlarge = 2 * 96 + 96 * 16 * 96 + 2 * 96
  head = 96 * 2
  return total - decoder - enlarge - head


# SPEC sections 7, 2.1, 3.1, 2.5, 4.3. Where a paper prints a total, its head is
# taken off here, in sight.
PUBLISHED = (
  Published('DenseNet121', 'relu', 6_953_856, 7_037_504),
  # wei2020: without the head Dense(2) on 1,024 channels.
  Published('DenseNet121', 'relu', None, 7_039_554 - (1024 * 2 + 2)),
  Published('DenseNet169', 'predictions', 14_149_480, None),
  Published('DenseNet201', 'relu', 18_092_928, 18_321_984),
  Published('DenseNet201', 'predictions', None, 20_242_984),
  Published(
    'DenseNet201', 'conv5_block29_1_relu', None, do2022(17_596_250, 7, 128)
  ),
  Published('EfficientNetB0', 'top_activation', 4_007_548, 4_049_571),
  Published('EfficientNetB1', 'top_activation', 6_513_184, 6_575_239),
  Published(
    'HRNet',
    'stage4_branch4',
    yang2021_hrnet(9_504_578, 2),
    yang2021_hrnet(9_524_036, 4),
  ),
  Published('InceptionResNetV2', 'conv_7b_ac', None, 54_336_736, side=299),
  Published('InceptionResNetV2', 'predictions', None, 55_873_736, side=299),
  Published(
    'InceptionResNetV2',
    'block8_9_branch0_bn',
    None,
    do2022(47_654_074, 8, 192),
    side=299,
  ),
  Published('NASNetLarge', 'predictions', None, 88_949_818),
  Published('NASNetLarge', 'activation_258', None, do2022(78_573_004, 11, 672)),
  Published('NASNetMobile', 'predictions', None, 5_326_716),
  Published('NASNetMobile', 'activation_186', None, do2022(3_956_094, 7, 176)),
  Published('MobileNetV1', 'predictions', 4_231_976, None),
  Published('MobileNetV1', 'conv_pw_13_relu', 3_206_976, 3_228_864),
  # wei2020: without the head Dense(2) on 1,024 channels; and the pair's two
  # such heads and its Dense(512), Dense(2).
  Published('MobileNetV1', 'conv_pw_13_relu', None, 3_230_914 - (1024 * 2 + 2)),
  Published(
    'MobileNetV1',
    'conv_pw_13_relu',
    3_736_902 - 2 * (1024 * 2 + 2) - (1024 * 512 + 512) - (512 * 2 + 2),
    None,
  ),
  # le2020: without Dense(512), Dense(7).
  Published(
    'MobileNetV1',
    'conv_pw_13_relu',
    None,
    3_757_255 - (1024 * 512 + 512) - (512 * 7 + 7),
  ),
  Published('MobileNetV2', 'out_relu', None, 2_257_984),
  Published('MobileNetV2', 'predictions', None, 3_538_984),
  Published(
    'MobileNetV2', 'block_14_depthwise', None, do2022(1_354_714, 7, 960)
  ),
  Published('MobileNetV3Large', 'conv_1_activation', None, 2_996_352),
  Published('MobileNetV3Large', 'predictions', None, 5_507_432),
  Published(
    'MobileNetV3Large',
    'expanded_conv_14_depthwise_activation',
    None,
    do2022(2_694_762, 7, 960),
  ),
  Published(
    'MobileNetV3Large',
    'expanded_conv_14_expand_activation',
    None,
    do2022(2_666_922, 7, 960),
  ),
  Published('MobileNetV3Small', 'conv_1_activation', None, 939_120),
  Published('MobileNetV3Small', 'predictions', None, 2_554_968),
  Published(
    'MobileNetV3Small',
    'expanded_conv_10_depthwise_activation',
    None,
    do2022(990_010, 7, 576),
  ),
  # torchvision's and timm's, from their documentation.
  Published('MobileNetV2', 'predictions', 3_504_872, None, {'origin': 'torch'}),
  Published(
    'MobileNetV3Large', 'predictions', 5_483_032, None, {'origin': 'torch'}
  ),
  Published(
    'MobileNetV3Small', 'predictions', 2_542_856, None, {'origin': 'torch'}
  ),
  Published(
    'R50ViT', 'encoder_norm', transunet(105_276_066), None, {'grid': 14}
  ),
  Published('R50ViT', 'encoder_norm', transunet(105_322_146), None),
  Published('ResNet18', 'predictions', 11_689_512, None),
  Published('ResNet34', 'predictions', 21_797_672, None),
  Published('ResNet50', 'conv5_block3_out', 23_534_592, 23_587_712),
  Published('ResNet50', 'conv5_block3_out', None, do2022(24_460_186, 7, 2048)),
  Published('ResNet152', 'conv5_block1_out', None, do2022(50_299_802, 7, 2048)),
  Published('ResNet152', 'predictions', None, 60_419_944),
  Published('ResNeXt50', 'conv5_block3_out', 22_979_904, 23_048_128),
  Published('ResNeXt50', 'predictions', 25_028_904, None),
  Published(
    'PreResNet18', 'predictions', 11_179_973, 11_187_915, {'classes': 2}
  ),
  # wei2020: with the head Dense(2).
  Published('ShuffleNet', 'predictions', 3_568_082, 3_616_946, {'classes': 2}),
  Published('SqueezeNet10', 'predictions', 1_248_424, 1_248_424),
  Published('SqueezeNet11', 'predictions', 1_235_496, 1_235_496),
  # wei2020: without the head Dense(2) on the 1,000 classes.
  Published('SqueezeNet11', 'predictions', None, 1_237_498 - (1000 * 2 + 2)),
  Published('SwinCao2021', 'norm', swinunet(27_168_228, 7), None),
  Published(
    'SwinCao2021', 'norm', swinunet(27_175_620, 8), None, {'window': 8}
  ),
  # torchvision's, from its documentation.
  Published('SwinTiny', 'predictions', 28_288_354, None),
  Published('VGG16', 'block5_pool', 14_714_688, 14_714_688),
  Published('VGG16', 'predictions', 138_357_544, 138_357_544),
  Published('VGG16BN', 'predictions', 138_365_992, None),
  Published(
    'VGG16BN', 'block5_pool', None, segnet(33_393_157), {'origin': 'keras'}
  ),
  Published('VGG16Do2022', 'block4_conv3', None, do2022_vgg(62_650_711)),
  Published('Xception', 'block14_sepconv2_act', 20_806_952, 20_861_480),
)


@pytest.mark.parametrize('row', PUBLISHED, ids=lambda r: f'{r.name}-{r.tap}')
def test_published_size(row):
  encoder = getattr(encoders, row.name)(taps=(row.tap,), **row.changes)
  trainable, everything = parameters(encoder, row.side)
  assert row.trainable in (None, trainable)
  assert row.everything in (None, everything)


def test_xception_unetpp_is_the_residual_decoder_on_xception():
  """SPEC 1.6; stages of 512, then 256, 128, 64, 32, then 16."""
  network = build(
    'residual', encoder='Xception', base=16, residuals=2, nested=False
  )
  assert parameters(network, 256) == (38_370_009, 38_431_449)
