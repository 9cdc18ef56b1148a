"""Encoders: image to pyramid. What `__all__` lists is what a config may name."""

from jaxderm.models.encoders.efficientnet import (
  EfficientNetB0,
  EfficientNetB1,
  EfficientNetB2,
  EfficientNetB3,
  EfficientNetB4,
  EfficientNetB5,
  EfficientNetB6,
  EfficientNetB7,
)
from jaxderm.models.encoders.plain import Plain8, Plain24
from jaxderm.models.encoders.preresnet import PreResNet18
from jaxderm.models.encoders.resnet import (
  ResNet18,
  ResNet34,
  ResNet50,
  ResNet101,
  ResNet152,
  ResNeXt50,
)

__all__ = [
  'EfficientNetB0',
  'EfficientNetB1',
  'EfficientNetB2',
  'EfficientNetB3',
  'EfficientNetB4',
  'EfficientNetB5',
  'EfficientNetB6',
  'EfficientNetB7',
  'Plain8',
  'Plain24',
  'PreResNet18',
  'ResNeXt50',
  'ResNet18',
  'ResNet34',
  'ResNet50',
  'ResNet101',
  'ResNet152',
]
