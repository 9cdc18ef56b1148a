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
]
