"""The systems of wei2020 (paper 001)."""

import functools

from jaxderm.kinds import classifier, discriminant, unet
from jaxderm.systems.system import System

# The decoder of all systems of `wei2020` but U-Net.
_wei2020 = functools.partial(unet, bias=False, head_size=3)


def _classifier(
  name: str, encoder: str, printed: int, note: str = ''
) -> System:
  """The mean of the encoder's last map and a dense layer of two."""
  return System(
    f'wei2020/{name}',
    'classification',
    functools.partial(classifier, encoder=encoder, classes=2),
    printed=printed,
    printed_kind='all',
    size=224,
    note=note,
  )


def _pairs(encoder: str, printed: int) -> System:
  return System(
    f'wei2020/DC{encoder}',
    'pairwise',
    functools.partial(discriminant, encoder=encoder),
    printed=printed,
    size=224,
    note='printed beside all the variables of those without pairs',
  )


ROWS = (
  _classifier('MobileNetV1', 'MobileNetV1', 3_230_914),
  _classifier('DenseNet121', 'DenseNet121', 7_039_554),
  _classifier(
    'SqueezeNet',
    'SqueezeNet11',
    1_237_498,
    "on its publisher's 1000 classes, as printed: before a softmax",
  ),
  _classifier(
    'ResNet18', 'PreResNet18', 11_187_915, 'that with pre-activation'
  ),
  _classifier('ShuffleNet', 'ShuffleNet', 3_616_946),
  _pairs('MobileNetV1', 3_736_902),
  _pairs('DenseNet121', 7_483_782),
  System(
    'wei2020/UNet',
    'segmentation',
    functools.partial(
      unet, encoder='Plain64', widths=(512, 256, 128, 64), norm=False
    ),
    printed_mib=120,
    size=224,
  ),
  System(
    'wei2020/UVGG16',
    'segmentation',
    functools.partial(_wei2020, encoder='VGG16'),
    printed_mib=73,
    size=224,
  ),
  System(
    'wei2020/UResNeXt50',
    'segmentation',
    functools.partial(_wei2020, encoder='ResNeXt50'),
    printed_mib=125,
    size=224,
    note='printed is a file, which has more than its variables',
  ),
  System(
    'wei2020/UDenseNet121',
    'segmentation',
    functools.partial(_wei2020, encoder='DenseNet121'),
    printed_mib=48,
    size=224,
    note='printed is a file, which has more than its variables',
  ),
  System(
    'wei2020/UDenseNet121Literal',
    'segmentation',
    functools.partial(
      _wei2020,
      encoder='DenseNet121',
      taps=(
        'conv1_relu',
        'conv2_block6_concat',
        'conv3_block12_concat',
        'conv4_block24_concat',
        'relu',
      ),
    ),
    printed_mib=48,
    size=224,
    note='the maps that the text names; the printed size has others',
  ),
  System(
    'wei2020/UMobileNetV1',
    'segmentation',
    functools.partial(_wei2020, encoder='MobileNetV1'),
    printed_mib=32,
    size=224,
  ),
  System(
    'wei2020/UMobileNetV1Literal',
    'segmentation',
    functools.partial(
      _wei2020,
      encoder='MobileNetV1',
      taps=(
        'conv1_relu',
        'conv_pw_3_relu',
        'conv_pw_5_relu',
        'conv_pw_11_relu',
        'conv_pw_13_relu',
      ),
    ),
    printed_mib=32,
    size=224,
    note='the maps that the text names; the printed size fits both',
  ),
)
