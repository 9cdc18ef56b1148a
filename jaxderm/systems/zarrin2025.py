"""The systems of zarrin2025 (paper 003)."""

import functools

from jaxderm.kinds import gated, resunet, rfe, swinunet, transunet, unet
from jaxderm.systems.system import System

_zarrin2025 = functools.partial(rfe, origin='torch', classes=2)
_RFE_NOTE = (
  'the layout that was printed is not known; fuse="eachadd" comes closer'
)
ROWS = (
  System(
    'zarrin2025/ResNet34RFE',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet34'),
    printed_gmacs=9.046,
    note=_RFE_NOTE,
  ),
  System(
    'zarrin2025/ResNet50RFE',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet50'),
    printed_gmacs=39.701,
    note=_RFE_NOTE,
  ),
  System(
    'zarrin2025/ResNet101RFE',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet101'),
    printed_gmacs=44.576,
    note=_RFE_NOTE,
  ),
  System(
    'zarrin2025/ResNet34',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet34', fuse=None),
    note='the baseline: no size is printed',
  ),
  System(
    'zarrin2025/ResNet50',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet50', fuse=None),
    note='the baseline: no size is printed',
  ),
  System(
    'zarrin2025/ResNet101',
    'segmentation',
    functools.partial(_zarrin2025, encoder='ResNet101', fuse=None),
    note='the baseline: no size is printed',
  ),
  System(
    'zarrin2025/UNet',
    'segmentation',
    functools.partial(
      unet,
      encoder='Plain64',
      origin='torch',
      decoder_origin='torch',
      widths=(512, 256, 128, 64),
      up='conv2',
      classes=2,
    ),
    printed_gmacs=54.7378,
    gmacs_changes={'classes': 1},
    note='what is printed has one output',
  ),
  System(
    'zarrin2025/AttentionUNet',
    'segmentation',
    functools.partial(gated, encoder='Plain64', origin='torch', classes=2),
    printed_gmacs=66.6318,
    gmacs_changes={'classes': 1},
    note='what is printed has one output',
  ),
  System(
    'zarrin2025/ResUNet',
    'segmentation',
    functools.partial(
      resunet, encoder='PlainResidual64', origin='torch', classes=2
    ),
    note='the paper only names it',
  ),
  System(
    'zarrin2025/TransUNet',
    'segmentation',
    functools.partial(transunet, encoder='R50ViT', classes=2),
    printed_gmacs=24.7278,
    gmacs_size=224,
    gmacs_changes={'grid': 14, 'classes': 9},
    note='what is printed has 9 classes, at 224 pixels',
  ),
  System(
    'zarrin2025/SwinUNet',
    'segmentation',
    functools.partial(swinunet, encoder='SwinCao2021', classes=2),
    printed_gmacs=30.475,
    note='the layout that was printed is not known; this is the published one',
  ),
)
