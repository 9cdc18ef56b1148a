"""What is measured: one row for each network, and what a row is measured at."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxderm import systems


@dataclasses.dataclass(frozen=True)
class Workload:
  """A network and the work that it is given.

  Attributes:
    name: In the table.
    system: Name for `systems.build`.
    changes: What differs from that system.
    size: Side of the image, in pixels.
    batch: Images in a step, as in the papers.
    full_batch: Images that fill a device, by platform ('gpu', 'cpu', 'tpu').
    peer: Name in `torch_networks.FACTORIES`, or None if there is no peer.
  """

  name: str
  system: str
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  size: int = 256
  batch: int = 2
  full_batch: Mapping[str, int] = dataclasses.field(default_factory=dict)
  peer: str | None = None

  def batch_for(self, platform: str, *, fill: bool) -> int:
    """Images in a step: the papers', or those that fill the device."""
    return self.full_batch.get(platform, self.batch) if fill else self.batch


def _classifier(encoder: str, gpu: int = 256) -> Workload:
  """Torch's padding, epsilon and strides, for the peers have those."""
  return Workload(
    name=encoder,
    system='classifier',
    changes={'encoder': encoder, 'origin': 'torch', 'classes': 7},
    size=224,
    batch=32,
    full_batch={'gpu': gpu, 'tpu': gpu},
    peer=encoder,
  )


def _system(name: str, gpu: int) -> Workload:
  full = {'gpu': gpu, 'tpu': gpu, 'cpu': 8}
  return Workload(name, name, full_batch=full, peer=name)


def _unet(encoder: str, gpu: int = 64) -> Workload:
  """Without the biases before BatchNorm, for the peers have none."""
  return Workload(
    name=f'UNet-{encoder}',
    system='unet',
    changes={'encoder': encoder, 'origin': 'torch', 'bias': False},
    batch=8,
    full_batch={'gpu': gpu, 'tpu': gpu},
    peer=f'UNet-{encoder}',
  )


# In order of importance: what does not fit in the time is left out from the end.
_ROWS = (
  _classifier('ResNet50'),
  _system('yang2021/UNet', 128),
  _system('yang2021/EfficientUNetPlusPlus', 64),
  _unet('ResNet34'),
  _classifier('MobileNetV2'),
  _classifier('EfficientNetB0'),
  _classifier('MobileNetV1'),
  _system('yang2021/UNetPlusPlus', 32),
  _unet('MobileNetV1'),
  _unet('ResNet50'),
  _classifier('DenseNet121'),
  _unet('DenseNet121'),
  _classifier('EfficientNetB1'),
)
WORKLOADS: dict[str, Workload] = {row.name: row for row in _ROWS}


def find(name: str) -> Workload:
  """A row of the table, or any system of the papers, which needs no row.

  Raises:
    ValueError: There is neither; the message lists what there is.
  """
  if name in WORKLOADS:
    return WORKLOADS[name]
  if name in systems.SYSTEMS:
    system = systems.SYSTEMS[name]
    return Workload(name, name, size=system.size)
  raise systems.unknown('workload', name, every())


def every() -> list[str]:
  """The rows of the table, then the other systems of the papers."""
  return list(dict.fromkeys([*WORKLOADS, *systems.SYSTEMS]))
