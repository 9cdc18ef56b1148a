"""The kinds of network: parts joined by arguments.

unet('DenseNet121')
classifier('MobileNetV1', classes=7)
"""

from collections.abc import Callable

import flax.linen as nn

from jaxderm.kinds.classification import classifier, soft_attention
from jaxderm.kinds.pairs import discriminant
from jaxderm.kinds.parts import unknown
from jaxderm.kinds.segmentation import (
  fuse,
  gated,
  residual,
  resunet,
  rfe,
  segnet,
  swinunet,
  transunet,
  unet,
  unetpp,
)

__all__ = [
  'KINDS',
  'classifier',
  'discriminant',
  'fuse',
  'gated',
  'residual',
  'resunet',
  'rfe',
  'segnet',
  'soft_attention',
  'swinunet',
  'transunet',
  'unet',
  'unetpp',
  'unknown',
]

KINDS: dict[str, Callable[..., nn.Module]] = {
  'unet': unet,
  'unetpp': unetpp,
  'residual': residual,
  'segnet': segnet,
  'fuse': fuse,
  'gated': gated,
  'resunet': resunet,
  'rfe': rfe,
  'transunet': transunet,
  'swinunet': swinunet,
  'classifier': classifier,
  'discriminant': discriminant,
  'soft_attention': soft_attention,
}
