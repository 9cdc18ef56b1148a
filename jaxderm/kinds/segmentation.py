"""The kinds of network that segment."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn

from jaxderm.kinds.parts import (
  Encoder,
  make_encoder,
  make_segmenter,
  strides_of,
  widths_of,
)
from jaxderm.models import decoders, necks
from jaxderm.models.decoders.residual import CONVS
from jaxderm.models.layers import Conv, ConvNormAct, ResidualUnit, choose

# A head of which the logits are normalised, as in `yang2021`.
_norm_head = partial(ConvNormAct, size=1, activation='none')


def unet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  widths: Sequence[int] | None = None,
  up: str = 'nearest',
  activation: str = 'relu',
  bias: bool = True,
  norm: bool = True,
  head_size: int = 1,
  decoder_origin: str = 'keras',
  classes: int = 1,
) -> nn.Module:
  """U-Net on any encoder; `widths` end in 16 unless given, coarsest first.

  Without `norm` the decoder has no normalisation, nor has a plain encoder.
  """
  encoder = make_encoder(encoder, taps, origin)
  if not norm and hasattr(encoder, 'norm'):
    encoder = encoder.clone(norm=False)
  if widths is None:
    doublings = strides_of(encoder)[-1].bit_length() - 1
    widths = [16 * 2**i for i in reversed(range(doublings))]
  decoder = decoders.UNet(
    tuple(widths), up, activation, bias, decoder_origin, norm
  )
  head = partial(Conv, size=head_size)
  return make_segmenter(encoder, decoder, classes, head=head)


def unetpp(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  depth: int | None = None,
  dense: bool = True,
  up: str = 'nearest',
  deep_supervision: bool = False,
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """UNet++ on any encoder, which is cut off below `depth` doublings."""
  encoder = make_encoder(encoder, taps, origin)
  if depth is not None:
    if not 1 <= depth < len(encoder.taps):
      raise ValueError(
        f'depth {depth}: expected 1 to {len(encoder.taps) - 1} '
        f'with taps {", ".join(encoder.taps)}'
      )
    encoder = encoder.clone(taps=tuple(encoder.taps[: depth + 1]))
  decoder = decoders.UNetPlusPlus(
    depth, dense, up, deep_supervision, activation
  )
  return make_segmenter(encoder, decoder, classes)


def residual(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  base: int = 8,
  residuals: int = 1,
  middle: int | None = None,
  nested: bool = True,
  activation: str = 'relu',
  conv: str = 'plain',
  classes: int = 1,
) -> nn.Module:
  """The residual decoder on an encoder whose finest map is of half size.

  `conv` is what is inside a residual: 'plain', 'inception' or 'separable'.
  """
  encoder = make_encoder(encoder, taps, origin)
  make_conv = CONVS[choose('conv', conv, CONVS)]
  decoder = decoders.ResidualDecoder(
    base, residuals, middle, nested, activation, make_conv
  )
  return make_segmenter(encoder, decoder, classes, halvings=1)


def segnet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  dense: Sequence[int] = (1024, 1024),
  unpool: str = 'indices',
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """SegNet on an encoder whose maps are taken before its 2x2 maxima.

  `dense` are the widths of the layers on the coarsest map. The logits are
  normalised.
  """
  return make_segmenter(
    make_encoder(encoder, taps, origin),
    decoders.SegNet(unpool=unpool, activation=activation),
    classes,
    neck=necks.Pointwise(tuple(dense)) if dense else None,
    head=partial(_norm_head, bias=True),
  )


def fuse(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  width: int = 32,
  classes: int = 1,
) -> nn.Module:
  """HRNet's head on any encoder: all maps side by side, `width` from each.

  The logits are normalised, and enlarged by 'nearest': that is as good as
  enlarging the features before, at a quarter of the work.
  """
  return make_segmenter(
    make_encoder(encoder, taps, origin),
    decoders.Fuse(width),
    classes,
    head=_norm_head,
    enlarge='nearest',
  )


def gated(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  widths: Sequence[int] | None = None,
  up: str = 'nearest',
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """Attention U-Net on any encoder; each level as wide as the encoder's."""
  encoder = make_encoder(encoder, taps, origin)
  widths = tuple(widths or widths_of(encoder, last=16))
  decoder = decoders.GatedUNet(widths, up, activation)
  return make_segmenter(encoder, decoder, classes)


def resunet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  widths: Sequence[int] | None = None,
  up: str = 'nearest',
  decoder_origin: str = 'torch',
  classes: int = 1,
) -> nn.Module:
  """The decoder of Deep Residual U-Net: a residual unit at each level."""
  encoder = make_encoder(encoder, taps, origin)
  widths = tuple(widths or widths_of(encoder, last=16))
  block = partial(ResidualUnit, origin=decoder_origin)
  return make_segmenter(
    encoder, decoders.UNet(widths, up, block=block), classes
  )


def rfe(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  fuse: str | None = 'cat',
  repeats: int = 1,
  last: int = 8,
  up: str = 'conv2',
  activation: str = 'swish',
  classes: int = 1,
) -> nn.Module:
  """U-Net whose skips have enlarged receptive fields, on any encoder.

  `fuse` is that of `necks.RFE`; None leaves the encoder's maps as they are.
  'eachadd' is alternative A of SPEC 4.2 as a whole: a bottleneck of ResNet also
  has its stride in the first 1x1, and the decoder ends at the encoder's finest
  map, so that `last`, the channels in the size of the image, are not there.
  """
  encoder = make_encoder(encoder, taps, origin)
  widths = widths_of(encoder, last)
  if fuse == 'eachadd':
    widths = widths[: len(encoder.taps) - 1]
    if hasattr(encoder, 'stride_first'):
      encoder = encoder.clone(stride_first=True)
  decoder = decoders.UNet(
    widths, up, activation, bias=False, origin='torch', depth=1
  )
  neck = None if fuse is None else necks.RFE(fuse, repeats)
  return make_segmenter(encoder, decoder, classes, neck=neck)


def transunet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  grid: int | None = None,
  bridge: int = 512,
  widths: Sequence[int] = (256, 128, 64, 16),
  up: str = 'aligned',
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """TransUNet: a U-Net that starts from `bridge` channels, on any encoder.

  `grid` is that of `encoders.R50ViT`, a 16th of the image's side.
  """
  encoder = make_encoder(encoder, taps, origin)
  if grid is not None:
    if not hasattr(encoder, 'grid'):
      raise ValueError(
        f'grid {grid}: {type(encoder).__name__} has no learnt positions; leave '
        'grid out.'
      )
    encoder = encoder.clone(grid=grid)
  return make_segmenter(
    encoder,
    decoders.UNet(tuple(widths), up, activation, bias=False, origin='torch'),
    classes,
    neck=necks.Bridge(bridge),
    head=partial(Conv, size=3),
  )


def swinunet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  window: int = 8,
  depth: int = 2,
  drop_rate: float = 0.2,
  classes: int = 1,
) -> nn.Module:
  """The decoder of Swin-Unet on any encoder; a Swin gets `window`, too."""
  encoder = make_encoder(encoder, taps, origin)
  if hasattr(encoder, 'window'):
    encoder = encoder.clone(window=window, drop_rate=drop_rate)
  factor = strides_of(encoder)[0]
  decoder = decoders.SwinDecoder(depth, window, drop_rate, factor)
  head = partial(Conv, size=1, bias=False)
  return make_segmenter(encoder, decoder, classes, head=head)
