"""The systems of le2020 (paper 004).

Its ablations that change the network are changes: `dropout=0.0`, and
`end='flattened'` for the one without global pooling.
"""

import functools

from jaxderm.kinds import classifier, unet
from jaxderm.systems.system import System

# The width of the hidden layer cannot be read in the paper's figure (SPEC 5.1).
_le2020 = functools.partial(classifier, hidden=512, dropout=0.5)


def _classifier(name: str, encoder: str) -> System:
  return System(
    f'le2020/{name}',
    'classification',
    functools.partial(_le2020, encoder=encoder),
    size=224,
    note='no size is printed, and the hidden width is our choice',
  )


ROWS = (
  _classifier('ResNet50', 'ResNet50'),
  _classifier('VGG16', 'VGG16'),
  _classifier('MobileNet', 'MobileNetV1'),
  _classifier('EfficientNetB1', 'EfficientNetB1'),
  # For the masks whose dilation it tries; the decoder is that of `wei2020`.
  System(
    'le2020/UResNet34',
    'segmentation',
    functools.partial(unet, encoder='ResNet34', bias=False, head_size=3),
    size=224,
    note='no size is printed, and the decoder is our choice',
  ),
)
