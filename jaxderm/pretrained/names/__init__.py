"""A table for each family and library: who calls our layers what."""

import flax.linen as nn

from jaxderm.models.encoders.efficientnet import EfficientNet
from jaxderm.models.encoders.resnet import ResNet
from jaxderm.pretrained.names import efficientnet, resnet
from jaxderm.pretrained.table import Table

TABLES: dict[type[nn.Module], tuple[Table, ...]] = {
  EfficientNet: efficientnet.TABLES,
  ResNet: resnet.TABLES,
}


def of(encoder: nn.Module) -> tuple[Table, ...]:
  """The tables of an encoder's family; none if nobody publishes weights."""
  return TABLES.get(type(encoder), ())
