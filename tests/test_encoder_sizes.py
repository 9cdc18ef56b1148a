"""Sizes that publishers and papers print, to the last parameter."""

from typing import NamedTuple

import pytest

from jaxderm.cost import parameters
from jaxderm.models import encoders


class Published(NamedTuple):
  """One printed number.

  Attributes:
    name: Of our encoder.
    tap: The last layer that is counted.
    trainable: Parameters; None where only the sum is printed.
    everything: With the statistics of BatchNorm; None where it is not printed.
    changes: Fields of our encoder.
    side: Of the image, where a layer's size depends on it.
  """

  name: str
  tap: str
  trainable: int | None
  everything: int | None
  changes: dict = {}  # noqa: RUF012  nobody writes to it
  side: int = 64


def do2022(total: int, side: int, channels: int) -> int:
  """What SPEC 3.1's total leaves for the encoder, to a map [side, side, C]."""
  attention = 9 * channels * 16 + 16
  pooled = -(-side // 2)
  dense = pooled * pooled * 2 * channels * 7 + 7
  metadata = 22 * 4096 + 4096 * 7 + 3
  return total - attention - dense - metadata


# SPEC sections 7, 2.1, 3.1, 2.5. Where a paper prints a total, its head is
# taken off here, in sight.
PUBLISHED = (
  Published('EfficientNetB0', 'top_activation', 4_007_548, 4_049_571),
  Published('EfficientNetB1', 'top_activation', 6_513_184, 6_575_239),
  Published('ResNet18', 'predictions', 11_689_512, None),
  Published('ResNet34', 'predictions', 21_797_672, None),
  Published('ResNet50', 'conv5_block3_out', 23_534_592, 23_587_712),
  Published('ResNet50', 'conv5_block3_out', None, do2022(24_460_186, 7, 2048)),
  Published('ResNet152', 'conv5_block1_out', None, do2022(50_299_802, 7, 2048)),
  Published('ResNet152', 'predictions', None, 60_419_944),
  Published('ResNeXt50', 'conv5_block3_out', 22_979_904, 23_048_128),
  Published('ResNeXt50', 'predictions', 25_028_904, None),
  Published(
    'PreResNet18', 'predictions', 11_179_973, 11_187_915, {'classes': 2}
  ),
)


@pytest.mark.parametrize('row', PUBLISHED, ids=lambda r: f'{r.name}-{r.tap}')
def test_published_size(row):
  encoder = getattr(encoders, row.name)(taps=(row.tap,), **row.changes)
  trainable, everything = parameters(encoder, row.side)
  assert row.trainable in (None, trainable)
  assert row.everything in (None, everything)
