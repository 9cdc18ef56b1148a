"""Networks of torchvision and timm that ours are compared with.

A row: our member, where it is there, and which of its modules gives which of
our taps. The golden file of a row is `golden/<library>_<name>.npz`, made by
`scripts/make_golden.py`.
"""

import importlib
from typing import NamedTuple

import numpy as np
import parity
from compiling import quick_jit

from jaxderm.models import encoders
from jaxderm.pretrained import names
from jaxderm.pretrained.fit import rename

SIDE = (65, 64)  # rows stay odd at every level and columns even


class Member(NamedTuple):
  """One row.

  Attributes:
    name: Of our encoder.
    library: Of the table of names, 'torchvision' or 'timm'.
    factory: Path of the function that makes the network without weights.
    taps: Our taps, finest first, and the modules that give them.
    side: Of the images that they are compared on.
    changes: Fields of our encoder.
    settings: Arguments of the factory.
  """

  name: str
  library: str
  factory: str
  taps: dict[str, str]
  side: tuple[int, int] = SIDE
  changes: dict = {}  # noqa: RUF012  nobody writes to it
  settings: dict = {}  # noqa: RUF012

  @property
  def golden(self) -> str:
    return f'{self.library}_{self.name}.npz'


def _resnet(name: str, factory: str, *depths: int) -> Member:
  taps = {'conv1_relu': 'relu'} | {
    f'conv{i + 2}_block{depth}_out': f'layer{i + 1}'
    for i, depth in enumerate(depths)
  }
  return Member(name, 'torchvision', factory, taps, changes={'origin': 'torch'})


MEMBERS = (
  _resnet('ResNet18', 'torchvision.models.resnet18', 2, 2, 2, 2),
  _resnet('ResNet50', 'torchvision.models.resnet50', 3, 4, 6, 3),
  _resnet('ResNeXt50', 'torchvision.models.resnext50_32x4d', 3, 4, 6, 3),
)


def drawn(member: Member):
  """Our encoder, its variables and images."""
  encoder = getattr(encoders, member.name)(
    taps=tuple(member.taps), **member.changes
  )
  image = parity.inputs(encoder, member.side)
  return encoder, parity.draw(encoder, image), image


def apply(encoder, variables, image):
  return quick_jit(encoder.apply)(variables, image)


def table(member: Member):
  encoder = getattr(encoders, member.name)(**member.changes)
  tables = names.of(encoder)
  (found,) = (t for t in tables if t.library == member.library)
  return found


def make(member: Member):
  """Their network with random weights, in evaluation mode."""
  _import_torchvision()
  module, _, function = member.factory.rpartition('.')
  make = getattr(importlib.import_module(module), function)
  return make(**member.settings).eval()


def reference(member: Member, variables, image) -> list[np.ndarray]:
  """The maps of their network with our variables, [B, H, W, C] each."""
  import torch

  network = make(member)
  state = network.state_dict()
  shapes = {name: tuple(value.shape) for name, value in state.items()}
  renamed = rename(variables, shapes, table(member))
  for name, value in renamed.items():
    state[name] = torch.from_numpy(np.array(value))
  network.load_state_dict(state)
  found = {}
  for tap, path in member.taps.items():
    network.get_submodule(path).register_forward_hook(
      lambda _, __, out, tap=tap: found.setdefault(tap, out.detach().clone())
    )
  with torch.no_grad():
    network(torch.from_numpy(image.transpose(0, 3, 1, 2)))
  return [found[tap].numpy().transpose(0, 2, 3, 1) for tap in member.taps]


def samples(feature: np.ndarray, n: int = 400) -> np.ndarray:
  """Values at some places of a map, the same places for its shape always."""
  flat = np.asarray(feature).reshape(-1)
  return flat[np.random.RandomState(0).randint(0, flat.size, n)]


def _import_torchvision() -> None:
  """Also beside a torch for which torchvision's operators were not compiled."""
  import torch

  register = torch.library.register_fake

  def skip(op, *args, **kwargs):
    if isinstance(op, str) and op.startswith('torchvision::'):
      return lambda function: function
    return register(op, *args, **kwargs)

  torch.library.register_fake = skip
  try:
    importlib.import_module('torchvision')
  finally:
    torch.library.register_fake = register
