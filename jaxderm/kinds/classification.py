"""The kinds of network that classify."""

from collections.abc import Sequence

import flax.linen as nn

from jaxderm.kinds.parts import Encoder, last_map_of, make_encoder
from jaxderm.models import heads
from jaxderm.models.classifier import Classifier


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
  encoder = make_encoder(encoder, taps, origin)
  if taps is None:
    encoder = encoder.clone(taps=(last_map_of(encoder),))
  return Classifier(encoder, heads.Pooled(hidden, dropout), classes)
