"""The systems of wei2020 (paper 001)."""

import functools

from jaxderm.kinds import unet
from jaxderm.systems.system import System

# The decoder of all systems of `wei2020` but U-Net.
_wei2020 = functools.partial(unet, bias=False, head_size=3)
ROWS = (
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
