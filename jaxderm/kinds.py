"""The kinds of network: parts joined by arguments.

unet('DenseNet121')
classifier('MobileNetV1', classes=7)
"""

import difflib
from collections.abc import Callable, Iterable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.cost import feature_maps, stride
from jaxderm.models import decoders, encoders, heads
from jaxderm.models.classifier import Classifier
from jaxderm.models.layers import ORIGINS, choose
from jaxderm.models.segmenter import Segmenter

Encoder = str | nn.Module


def unet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  widths: Sequence[int] | None = None,
  up: str = 'nearest',
  activation: str = 'relu',
  bias: bool = True,
  classes: int = 1,
) -> nn.Module:
  """U-Net on any encoder; `widths` end in 16 unless given, coarsest first."""
  encoder = _encoder(encoder, taps, origin)
  if widths is None:
    doublings = _strides(encoder)[-1].bit_length() - 1
    widths = [16 * 2**i for i in reversed(range(doublings))]
  decoder = decoders.UNet(tuple(widths), up, activation, bias)
  return _segmenter(encoder, decoder, classes)


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
  encoder = _encoder(encoder, taps, origin)
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
  return _segmenter(encoder, decoder, classes)


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
  classes: int = 1,
) -> nn.Module:
  """The residual decoder on an encoder whose finest map is of half size."""
  encoder = _encoder(encoder, taps, origin)
  decoder = decoders.ResidualDecoder(
    base, residuals, middle, nested, activation
  )
  return _segmenter(encoder, decoder, classes, halvings=1)


def classifier(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  classes: int = 7,
  hidden: int | None = None,
  dropout: float = 0.0,
) -> nn.Module:
  """A pooled head on an encoder's last map, or on the last of `taps`."""
  encoder = _encoder(encoder, taps, origin)
  if taps is None:
    encoder = encoder.clone(taps=(_last_map(encoder),))
  return Classifier(encoder, heads.Pooled(hidden, dropout), classes)


KINDS: dict[str, Callable[..., nn.Module]] = {
  'unet': unet,
  'unetpp': unetpp,
  'residual': residual,
  'classifier': classifier,
}


def _encoder(
  encoder: Encoder, taps: Sequence[str] | None, origin: str | None
) -> nn.Module:
  if isinstance(encoder, str):
    if encoder not in encoders.__all__:
      raise unknown('encoder', encoder, encoders.__all__)
    encoder = getattr(encoders, encoder)()
  if origin is not None:
    if not hasattr(encoder, 'origin'):
      raise ValueError(
        f'origin {origin!r}: {type(encoder).__name__} is the same whoever '
        'trained it; leave origin out.'
      )
    encoder = encoder.clone(origin=choose('origin', origin, ORIGINS))
  return encoder if taps is None else encoder.clone(taps=tuple(taps))


def _segmenter(
  encoder: nn.Module, decoder: nn.Module, classes: int, halvings: int = 0
) -> nn.Module:
  """Joins them; `halvings` are those that the decoder begins with."""
  strides = _strides(encoder)
  multiple = strides[-1] * 2**halvings
  return Segmenter(encoder, decoder, None, classes, multiple, strides)


def _strides(encoder: nn.Module) -> tuple[int, ...]:
  """How many times smaller than the image each map is, as powers of two."""
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  pyramid = jax.eval_shape(
    lambda x: encoder.init_with_output(jax.random.key(0), x)[0], image
  )
  return tuple(stride(256, x.shape[1]) for x in pyramid)


def _last_map(encoder: nn.Module) -> str:
  """The deepest map of an encoder, before its publisher's classifier."""
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  return [
    name for name in feature_maps(encoder, image) if name != 'predictions'
  ][-1]


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
  """The error for a name that does not exist, with those that do."""
  known = list(known)
  full = {option.lower(): option for option in known}
  short = {option.rpartition('/')[2].lower(): option for option in known}
  for options, wanted in ((full, name), (short, name.rpartition('/')[2])):
    close = difflib.get_close_matches(wanted.lower(), options, n=1)
    if close:
      hint = f' Did you mean {options[close[0]]!r}?'
      break
  else:
    hint = ''
  return ValueError(
    f'no {kind} is called {name!r}.{hint} There are: {", ".join(known)}'
  )
