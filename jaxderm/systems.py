"""Every system of the papers as one row: its parts and its printed size.

network = build('yang2021/UNetPlusPlus', deep_supervision=True)
network = build('unet', encoder='EfficientNetB0')
python -m jaxderm.systems --json
python -m jaxderm.systems --encoders --json
"""

import argparse
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.cost import feature_maps, multiply_adds, parameters, stride
from jaxderm.kinds import KINDS, residual, unet, unetpp, unknown
from jaxderm.models import encoders

# --- The table ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class System:
  """One network of a paper.

  Attributes:
    name: 'paper/Name'.
    task: 'segmentation', 'classification' or 'pairwise'.
    make: Gives the network; its keywords are what may be changed.
    printed: Number of parameters in the paper.
    printed_kind: What that number counts: 'trainable' or 'all'.
    size: Side of the image in the paper, in pixels.
    note: What a reader of the counts should know.
  """

  name: str
  task: str
  make: Callable[..., nn.Module]
  printed: int | None = None
  printed_kind: str = 'trainable'
  size: int = 256
  note: str = ''

  @property
  def paper(self) -> str:
    return self.name.partition('/')[0]

  @property
  def normalisation(self) -> str:
    """What the input needs: 'imagenet_mean', or 'none' where it is inside.

    A changed encoder may need another: see `network.encoder.normalisation`.
    """
    return self.make().encoder.normalisation


_ROWS = (
  System(
    'yang2021/UNet',
    'segmentation',
    functools.partial(
      unet, encoder='Plain8', widths=(64, 32, 16, 8), up='transpose'
    ),
    printed=487_289,
  ),
  System(
    'yang2021/UNetPlusPlus',
    'segmentation',
    functools.partial(unetpp, encoder='Plain24'),
    printed=5_223_107,
    note='no published layout gives the printed number; this is the closest',
  ),
  System(
    'yang2021/XceptionUNetPlusPlus',
    'segmentation',
    functools.partial(
      residual,
      encoder='Xception',
      base=16,
      residuals=2,
      nested=False,
      activation='leaky_relu',
    ),
    printed=38_370_009,
  ),
  System(
    'yang2021/EfficientUNetPlusPlus',
    'segmentation',
    functools.partial(residual, encoder='EfficientNetB1'),
    printed=6_653_549,
    note='416 parameters of the printed number are not explained',
  ),
  System(
    'yang2021/EfficientNetUNet',
    'segmentation',
    functools.partial(residual, encoder='EfficientNetB1', nested=False),
    note='ablation of the paper: no size is printed',
  ),
)
SYSTEMS: dict[str, System] = {system.name: system for system in _ROWS}


def build(name: str, **changes: Any) -> nn.Module:
  """Builds a network.

  Args:
    name: A system of the papers ('yang2021/UNet') or a kind of network
      ('unet', 'unetpp', 'residual', 'classifier'), which needs an `encoder`.
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


# --- What is printed of it -----------------------------------------------------


def describe(system: System) -> dict[str, Any]:
  """What `python -m jaxderm.systems` prints of a system."""
  network = build(system.name)
  trainable, everything = parameters(network, system.size)
  counted = {'trainable': trainable, 'all': everything}[system.printed_kind]
  printed = system.printed
  return {
    'name': system.name,
    'paper': system.paper,
    'task': system.task,
    'trainable': trainable,
    'all': everything,
    'multiply_adds': multiply_adds(network, system.size),
    'printed': printed,
    'difference': None if printed is None else counted - printed,
  }


def describe_encoder(name: str) -> dict[str, Any]:
  """What `python -m jaxderm.systems --encoders` prints of an encoder.

  Parameters and multiply-adds (of an image of 224 pixels) are those up to the
  last map, without the publisher's classifier.
  """
  size = 224
  encoder = getattr(encoders, name)()
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  maps = feature_maps(encoder, image)
  maps.pop('predictions', None)
  whole = encoder.clone(taps=(list(maps)[-1],))
  trainable, everything = parameters(whole, size)
  return {
    'name': name,
    'origin': getattr(encoder, 'origin', None),
    'normalisation': encoder.normalisation,
    'trainable': trainable,
    'all': everything,
    'multiply_adds': multiply_adds(whole, size),
    'default_taps': list(encoder.taps),
    'taps': [
      {'name': tap, 'stride': stride(size, x.shape[1]), 'width': x.shape[-1]}
      for tap, x in maps.items()
    ],
  }


def _table(rows: list[dict[str, Any]]) -> str:
  def cell(value: Any) -> str:
    if value is None:
      return '-'
    return f'{value:,}' if isinstance(value, int) else value

  header = list(rows[0])
  lines = [header, *([cell(value) for value in row.values()] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
    '  '.join(
      text.ljust(width) if i < 3 else text.rjust(width)
      for i, (text, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    prog='python -m jaxderm.systems',
    description='The systems of the papers: sizes, costs, printed sizes.',
  )
  parser.add_argument('--json', action='store_true', help='as JSON')
  parser.add_argument(
    '--encoders', action='store_true', help='the encoders, not the systems'
  )
  arguments = parser.parse_args(argv)
  if arguments.encoders:
    rows = [describe_encoder(name) for name in encoders.__all__]
  else:
    rows = [describe(system) for system in SYSTEMS.values()]
  if arguments.json:
    print(json.dumps(rows, indent=2))
    return
  for row in rows:  # a line has no room for every map
    row.pop('taps', None)
    row.pop('default_taps', None)
  print(_table(rows))


if __name__ == '__main__':
  main()
