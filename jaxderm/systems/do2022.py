"""The systems of do2022 (paper 002).

Where the networks end is what its code does, which its text does not (SPEC
3.1). Without metadata they are `build(name, metadata=0)`.
"""

import functools
from typing import Any

from jaxderm.kinds import soft_attention
from jaxderm.systems.system import System

# Age, sex (4) and place on the body (16).
METADATA = 21


def _row(
  name: str,
  encoder: str,
  tap: str,
  *,
  size: int = 224,
  metadata: int = METADATA,
  note: str = '',
  **changes: Any,
) -> System:
  """Soft-Attention on one map of an encoder, which ends there."""
  make = functools.partial(
    soft_attention,
    encoder=encoder,
    taps=(tap,),
    metadata=metadata,
    **changes,
  )
  whole = 'the sizes in tables 4 and 7 are of whole ImageNet networks'
  return System(
    f'do2022/{name}',
    'classification',
    make,
    size=size,
    note=f'{note}; {whole}' if note else whole,
  )


ROWS = (
  # Branch 0 of the ninth of ten blocks, normalised and not yet rectified.
  _row(
    'InceptionResNetV2', 'InceptionResNetV2', 'block8_9_branch0_bn', size=299
  ),
  _row('DenseNet201', 'DenseNet201', 'conv5_block29_1_relu'),
  _row('ResNet50', 'ResNet50', 'conv5_block3_out'),
  _row('ResNet152', 'ResNet152', 'conv5_block1_out'),
  # Before its normalisation: from weights that have that folded in, each channel
  # has another scale here than in Keras.
  _row('MobileNetV2', 'MobileNetV2', 'block_14_depthwise'),
  _row(
    'MobileNetV3Large',
    'MobileNetV3Large',
    'expanded_conv_14_expand_activation',
    note='the run of table 7, accuracy 0.86',
  ),
  _row(
    'MobileNetV3LargeDepthwise',
    'MobileNetV3Large',
    'expanded_conv_14_depthwise_activation',
    note='the run of table 6, accuracy 0.84',
  ),
  _row(
    'MobileNetV3Small',
    'MobileNetV3Small',
    'expanded_conv_10_depthwise_activation',
  ),
  # Inside the fifth sum of the last normal cell.
  _row('NASNetMobile', 'NASNetMobile', 'activation_186'),
  _row('NASNetLarge', 'NASNetLarge', 'activation_258', size=331),
  _row(
    'VGG16',
    'VGG16Do2022',
    'block4_conv3',
    metadata=0,
    end='vgg16',
    note='trained from random weights, with augmentation and no metadata',
  ),
  _row(
    'ResNet50Augmented',
    'ResNet50',
    'conv5_block3_out',
    metadata=0,
    end='pooled',
    note='the run of table 5, with augmentation and no metadata',
  ),
  _row(
    'ResNet152Augmented',
    'ResNet152',
    'conv5_block1_out',
    metadata=0,
    end='pooled',
    note='with augmentation and no metadata',
  ),
)
