"""Every system of the papers as one row: its parts and its printed size.

network = build('yang2021/UNetPlusPlus', deep_supervision=True)
network = build('unet', encoder='EfficientNetB0')
python -m jaxderm.systems --json
python -m jaxderm.systems --encoders --json
"""

import inspect
from typing import Any

import flax.linen as nn

from jaxderm.kinds import KINDS, unknown
from jaxderm.models import encoders
from jaxderm.systems import do2022, le2020, wei2020, yang2021, zarrin2025
from jaxderm.systems.system import System

__all__ = ['KINDS', 'SYSTEMS', 'System', 'build', 'find', 'unknown']

_ROWS = (
  *yang2021.ROWS,
  *wei2020.ROWS,
  *do2022.ROWS,
  *zarrin2025.ROWS,
  *le2020.ROWS,
)
SYSTEMS: dict[str, System] = {system.name: system for system in _ROWS}


def find(name: str) -> System:
  """The row of a system, such as 'wei2020/MobileNetV1'.

  Raises:
    ValueError: There is no such system; the message lists those that there are.
  """
  if name not in SYSTEMS:
    raise unknown('system', name, SYSTEMS)
  return SYSTEMS[name]


def build(name: str, **changes: Any) -> nn.Module:
  """Builds a network.

  Args:
    name: A system of the papers ('yang2021/UNet') or a kind of network
      (`KINDS`: 'unet', 'rfe', 'classifier'), which needs an `encoder`.
    **changes: What shall differ, such as `encoder='EfficientNetB0'`,
      `activation='mish'` (of the decoder), `deep_supervision=True`.

  Raises:
    ValueError: for a name or a change that does not exist; the message lists
      those that do.
  """
  if name in SYSTEMS:
    make = SYSTEMS[name].make
  elif name in KINDS:
    make = KINDS[name]
    if 'encoder' not in changes:
      raise ValueError(
        f'{name!r} needs encoder=...: one of {", ".join(encoders.__all__)}'
      )
  else:
    raise unknown('system', name, [*SYSTEMS, *KINDS])
  known = list(inspect.signature(make).parameters)
  for change in changes:
    if change not in known:
      raise unknown(f'change of {name}', change, known)
  return make(**changes)
