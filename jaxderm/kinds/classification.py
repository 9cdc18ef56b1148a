"""The kinds of network that classify."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import flax.linen as nn

from jaxderm.kinds.parts import Encoder, last_map_of, make_encoder
from jaxderm.models import heads
from jaxderm.models.classifier import Classifier, MetadataClassifier
from jaxderm.models.layers import choose
from jaxderm.models.metadata import MetadataBranch
from jaxderm.models.soft_attention import SoftAttention

_HEADS: Mapping[str, Callable[..., nn.Module]] = {
  'pooled': heads.Pooled,
  'flattened': partial(heads.Flattened, pool=2),
}
_ENDS: Mapping[str, Callable[[], nn.Module]] = {
  'flattened': heads.Flattened,
  'pooled': heads.Pooled,
  'vgg16': heads.VGG16Do2022End,
}


def classifier(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  classes: int = 7,
  hidden: int | None = None,
  dropout: float = 0.0,
  end: str = 'pooled',
  metadata: int = 0,
) -> nn.Module:
  """A plain head on an encoder's last map, or on the last of `taps`.

  `end` is what becomes of the map: 'pooled', its mean; or 'flattened', means
  of 2x2 pixels, which bind the network to one size of image. `metadata` is the
  number of its columns, 0 for none.
  """
  head = _HEADS[choose('end', end, _HEADS)](hidden, dropout)
  return _join(encoder, taps, origin, head, classes, metadata)


def soft_attention(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  origin: str | None = None,
  classes: int = 7,
  maps: int = 16,
  gamma: bool = False,
  literal: bool = False,
  dropout: float = 0.5,
  end: str = 'flattened',
  metadata: int = 0,
) -> nn.Module:
  """Soft-Attention on an encoder's last map, or on the last of `taps`.

  `maps`, `gamma` and `literal` are of `SoftAttention`. `end` is what becomes of
  what it gives: 'flattened', which binds the network to one size of image;
  'pooled'; or 'vgg16', the layers that `do2022` has there in its VGG16.
  `metadata` is the number of its columns, 0 for none.
  """
  head = heads.SoftAttended(
    SoftAttention(maps, gamma, literal),
    _ENDS[choose('end', end, _ENDS)](),
    dropout,
  )
  return _join(encoder, taps, origin, head, classes, metadata)


def _join(
  encoder: Encoder,
  taps: Sequence[str] | None,
  origin: str | None,
  head: nn.Module,
  classes: int,
  metadata: int,
) -> nn.Module:
  if isinstance(metadata, bool) or metadata < 0:
    raise ValueError(
      f'metadata {metadata!r}: expected the number of its columns (21 are age, '
      'sex and place as in `do2022`), or 0 for none'
    )
  encoder = make_encoder(encoder, taps, origin)
  if taps is None:
    encoder = encoder.clone(taps=(last_map_of(encoder),))
  if not metadata:
    return Classifier(encoder, head, classes)
  branch = MetadataBranch(metadata)
  return MetadataClassifier(encoder, head, classes, metadata=branch)
