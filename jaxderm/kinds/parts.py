"""The parts of a network, made and joined."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.cost import feature_maps, stride
from jaxderm.models import encoders
from jaxderm.models.forms import use_form
from jaxderm.models.layers import ORIGINS, choose
from jaxderm.models.segmenter import Segmenter

Encoder = str | nn.Module


def make_encoder(
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


def make_segmenter(
  encoder: nn.Module,
  decoder: nn.Module,
  classes: int,
  halvings: int = 0,
  **fields: Any,
) -> nn.Module:
  """Joins them; `halvings` are those that the decoder begins with."""
  strides = strides_of(encoder)
  return Segmenter(
    encoder,
    decoder,
    classes=classes,
    multiple=strides[-1] * 2**halvings,
    strides=strides,
    **fields,
  )


def _pyramid(encoder: nn.Module) -> tuple[jax.ShapeDtypeStruct, ...]:
  """What an encoder makes of an image of 256 pixels."""
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  with use_form('lax'):  # it is traced in half the time
    return jax.eval_shape(
      lambda x: encoder.init_with_output(jax.random.key(0), x)[0], image
    )


def strides_of(encoder: nn.Module) -> tuple[int, ...]:
  """How many times smaller than the image each map is, as powers of two."""
  return tuple(stride(256, x.shape[1]) for x in _pyramid(encoder))


def widths_of(encoder: nn.Module, last: int) -> tuple[int, ...]:
  """Channels of an encoder's maps above the coarsest, coarsest first.

  And `last` for each doubling from the finest to the size of the image.
  """
  pyramid = _pyramid(encoder)
  doublings = stride(256, pyramid[0].shape[1]).bit_length() - 1
  return (*(x.shape[-1] for x in pyramid[-2::-1]), *[last] * doublings)


def last_map_of(encoder: nn.Module) -> str:
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
