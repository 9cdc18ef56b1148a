"""Decoders: pyramid to a fine map. `__all__` lists what a config may name."""

from jaxderm.models.decoders.residual import ResidualDecoder
from jaxderm.models.decoders.unet import UNet
from jaxderm.models.decoders.unetpp import UNetPlusPlus

__all__ = ['ResidualDecoder', 'UNet', 'UNetPlusPlus']
