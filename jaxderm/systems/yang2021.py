"""The systems of yang2021 (paper 000)."""

import functools

from jaxderm.kinds import fuse, residual, segnet, unet, unetpp
from jaxderm.systems.system import System

ROWS = (
  System(
    'yang2021/UNet',
    'segmentation',
    functools.partial(
      unet, encoder='Plain8', widths=(64, 32, 16, 8), up='transpose'
    ),
    printed=487_289,
  ),
  System(
    'yang2021/UNetPlusPlus',
    'segmentation',
    functools.partial(unetpp, encoder='Plain24'),
    printed=5_223_107,
    note='no published layout gives the printed number; this is the closest',
  ),
  System(
    'yang2021/SegNet',
    'segmentation',
    functools.partial(
      segnet,
      encoder='VGG16BN',
      taps=(
        'block1_conv2',
        'block2_conv2',
        'block3_conv3',
        'block4_conv3',
        'block5_conv3',
        'block5_pool',
      ),
      origin='keras',
    ),
    printed=33_393_157,
    printed_kind='all',
  ),
  System(
    'yang2021/HRNet',
    'segmentation',
    functools.partial(fuse, encoder='HRNet'),
    printed=9_504_578,
  ),
  System(
    'yang2021/XceptionUNetPlusPlus',
    'segmentation',
    functools.partial(
      residual,
      encoder='Xception',
      base=16,
      residuals=2,
      nested=False,
      activation='leaky_relu',
    ),
    printed=38_370_009,
  ),
  System(
    'yang2021/EfficientUNetPlusPlus',
    'segmentation',
    functools.partial(residual, encoder='EfficientNetB1'),
    printed=6_653_549,
    note='416 parameters of the printed number are not explained',
  ),
  System(
    'yang2021/EfficientNetUNet',
    'segmentation',
    functools.partial(residual, encoder='EfficientNetB1', nested=False),
    note='ablation of the paper: no size is printed',
  ),
  System(
    'yang2021/EfficientNetInception',
    'segmentation',
    functools.partial(
      residual, encoder='EfficientNetB1', nested=False, conv='inception'
    ),
    note='ablation of the paper: no size is printed',
  ),
  System(
    'yang2021/EfficientNetXception',
    'segmentation',
    functools.partial(
      residual, encoder='EfficientNetB1', nested=False, conv='separable'
    ),
    note='ablation of the paper: no size is printed',
  ),
)
