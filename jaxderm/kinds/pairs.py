"""The kind of network that is trained on pairs."""

from collections.abc import Sequence

import flax.linen as nn

from jaxderm.kinds.parts import Encoder, last_map_of, make_encoder
from jaxderm.models import heads
from jaxderm.models.discriminant import Discriminant


def discriminant(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  classes: int = 2,
  hidden: int = 512,
) -> nn.Module:
  """Two heads and a discriminator on an encoder's last map, or that of `taps`.

  `hidden` are the units of the discriminator.
  """
  encoder = make_encoder(encoder, taps, origin)
  if taps is None:
    encoder = encoder.clone(taps=(last_map_of(encoder),))
  return Discriminant(encoder, heads.Pooled(), classes, hidden=hidden)
