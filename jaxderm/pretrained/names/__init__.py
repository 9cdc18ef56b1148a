"""A table for each family and library: who calls our layers what."""

import flax.linen as nn

from jaxderm.models.encoders.densenet import DenseNet
from jaxderm.models.encoders.efficientnet import EfficientNet
from jaxderm.models.encoders.inception import InceptionResNetV2
from jaxderm.models.encoders.mobilenet import MobileNet
from jaxderm.models.encoders.mobilenet_v2 import MobileNetV2
from jaxderm.models.encoders.mobilenet_v3 import MobileNetV3
from jaxderm.models.encoders.nasnet import NASNet
from jaxderm.models.encoders.r50vit import R50ViT
from jaxderm.models.encoders.resnet import ResNet
from jaxderm.models.encoders.squeezenet import SqueezeNet10, SqueezeNet11
from jaxderm.models.encoders.swin import Swin
from jaxderm.models.encoders.vgg import VGG16, VGG16BN
from jaxderm.models.encoders.xception import Xception
from jaxderm.pretrained.names import (
  densenet,
  efficientnet,
  inception,
  mobilenet,
  mobilenet_v2,
  mobilenet_v3,
  nasnet,
  r50vit,
  resnet,
  squeezenet,
  swin,
  vgg,
  xception,
)
from jaxderm.pretrained.table import Table

TABLES: dict[type[nn.Module], tuple[Table, ...]] = {
  VGG16: vgg.TABLES,
  VGG16BN: vgg.BN_TABLES,
  DenseNet: densenet.TABLES,
  EfficientNet: efficientnet.TABLES,
  InceptionResNetV2: inception.TABLES,
  MobileNet: mobilenet.TABLES,
  MobileNetV2: mobilenet_v2.TABLES,
  MobileNetV3: mobilenet_v3.TABLES,
  NASNet: nasnet.TABLES,
  R50ViT: r50vit.TABLES,
  ResNet: resnet.TABLES,
  SqueezeNet10: squeezenet.TABLES_10,
  SqueezeNet11: squeezenet.TABLES_11,
  Swin: swin.TABLES,
  Xception: xception.TABLES,
}


def of(encoder: nn.Module) -> tuple[Table, ...]:
  """The tables of an encoder's family; none if nobody publishes weights."""
  return TABLES.get(type(encoder), ())
