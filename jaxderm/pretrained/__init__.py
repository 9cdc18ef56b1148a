"""Anyone's ImageNet weights into our encoders.

weights = pretrained.load('resnet50.safetensors', encoders.ResNet50(origin='torch'))
python -m jaxderm.pretrained convert IN OUT.safetensors
"""

from jaxderm.pretrained.convert import convert
from jaxderm.pretrained.files import WeightsError
from jaxderm.pretrained.load import Weights, load
from jaxderm.pretrained.statistics import calibrate, unfold

__all__ = ['Weights', 'WeightsError', 'calibrate', 'convert', 'load', 'unfold']
