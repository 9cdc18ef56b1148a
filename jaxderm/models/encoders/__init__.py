"""Encoders: image to pyramid. What `__all__` lists is what a config may name."""

from jaxderm.models.encoders.densenet import (
  DenseNet121,
  DenseNet169,
  DenseNet201,
)
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
from jaxderm.models.encoders.hrnet import HRNet
from jaxderm.models.encoders.inception import InceptionResNetV2
from jaxderm.models.encoders.mobilenet import (
  MobileNetV1,
  MobileNetV1x025,
  MobileNetV1x050,
  MobileNetV1x075,
)
from jaxderm.models.encoders.mobilenet_v2 import (
  MobileNetV2,
  MobileNetV2x035,
  MobileNetV2x050,
  MobileNetV2x075,
  MobileNetV2x130,
  MobileNetV2x140,
)
from jaxderm.models.encoders.mobilenet_v3 import (
  MobileNetV3Large,
  MobileNetV3Small,
)
from jaxderm.models.encoders.nasnet import NASNetLarge, NASNetMobile
from jaxderm.models.encoders.plain import (
  Plain8,
  Plain24,
  Plain64,
  PlainResidual64,
)
from jaxderm.models.encoders.preresnet import PreResNet18
from jaxderm.models.encoders.r50vit import R50ViT
from jaxderm.models.encoders.resnet import (
  ResNet18,
  ResNet34,
  ResNet50,
  ResNet101,
  ResNet152,
  ResNeXt50,
)
from jaxderm.models.encoders.shufflenet import ShuffleNet
from jaxderm.models.encoders.squeezenet import SqueezeNet10, SqueezeNet11
from jaxderm.models.encoders.swin import SwinCao2021, SwinTiny
from jaxderm.models.encoders.vgg import VGG16, VGG16BN, VGG16Do2022
from jaxderm.models.encoders.xception import Xception

__all__ = [
  'VGG16',
  'VGG16BN',
  'DenseNet121',
  'DenseNet169',
  'DenseNet201',
  'EfficientNetB0',
  'EfficientNetB1',
  'EfficientNetB2',
  'EfficientNetB3',
  'EfficientNetB4',
  'EfficientNetB5',
  'EfficientNetB6',
  'EfficientNetB7',
  'HRNet',
  'InceptionResNetV2',
  'MobileNetV1',
  'MobileNetV1x025',
  'MobileNetV1x050',
  'MobileNetV1x075',
  'MobileNetV2',
  'MobileNetV2x035',
  'MobileNetV2x050',
  'MobileNetV2x075',
  'MobileNetV2x130',
  'MobileNetV2x140',
  'MobileNetV3Large',
  'MobileNetV3Small',
  'NASNetLarge',
  'NASNetMobile',
  'Plain8',
  'Plain24',
  'Plain64',
  'PlainResidual64',
  'PreResNet18',
  'R50ViT',
  'ResNeXt50',
  'ResNet18',
  'ResNet34',
  'ResNet50',
  'ResNet101',
  'ResNet152',
  'ShuffleNet',
  'SqueezeNet10',
  'SqueezeNet11',
  'SwinCao2021',
  'SwinTiny',
  'VGG16Do2022',
  'Xception',
]
