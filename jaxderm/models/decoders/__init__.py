"""Decoders: pyramid to a fine map. `__all__` lists what a config may name."""

from jaxderm.models.decoders.fuse import Fuse
from jaxderm.models.decoders.gated import GatedUNet
from jaxderm.models.decoders.residual import ResidualDecoder
from jaxderm.models.decoders.segnet import SegNet
from jaxderm.models.decoders.swin import SwinDecoder
from jaxderm.models.decoders.unet import UNet
from jaxderm.models.decoders.unetpp import UNetPlusPlus

__all__ = [
  'Fuse',
  'GatedUNet',
  'ResidualDecoder',
  'SegNet',
  'SwinDecoder',
  'UNet',
  'UNetPlusPlus',
]
