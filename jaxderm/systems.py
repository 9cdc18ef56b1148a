"""Every system of the papers as one row: its parts and its printed size.

network = build('yang2021/UNetPlusPlus', deep_supervision=True)
network = build('unet', encoder='EfficientNetB0')
python -m jaxderm.systems --json
"""

import argparse
import dataclasses
import difflib
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.cost import feature_maps, multiply_adds, parameters
from jaxderm.models import decoders, encoders, heads
from jaxderm.models.classifier import Classifier
from jaxderm.models.segmenter import Segmenter

Encoder = str | nn.Module

# --- The kinds of network: parts joined by arguments -------------------------


def unet(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  widths: Sequence[int] | None = None,
  up: str = 'nearest',
  activation: str = 'relu',
  bias: bool = True,
  classes: int = 1,
) -> nn.Module:
  """U-Net on any encoder; `widths` end in 16 unless given, coarsest first."""
  encoder = _encoder(encoder, taps)
  if widths is None:
    doublings = _stride(encoder).bit_length() - 1
    widths = [16 * 2**i for i in reversed(range(doublings))]
  decoder = decoders.UNet(tuple(widths), up, activation, bias)
  return Segmenter(encoder, decoder, None, classes, _stride(encoder))


def unetpp(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  depth: int | None = None,
  dense: bool = True,
  up: str = 'nearest',
  deep_supervision: bool = False,
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """UNet++ on any encoder, which is cut off below `depth` doublings."""
  encoder = _encoder(encoder, taps)
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
  return Segmenter(encoder, decoder, None, classes, _stride(encoder))


def residual(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  base: int = 8,
  residuals: int = 1,
  middle: int | None = None,
  nested: bool = True,
  activation: str = 'relu',
  classes: int = 1,
) -> nn.Module:
  """The residual decoder on an encoder whose finest map is of half size."""
  encoder = _encoder(encoder, taps)
  decoder = decoders.ResidualDecoder(
    base, residuals, middle, nested, activation
  )
  return Segmenter(encoder, decoder, None, classes, 2 * _stride(encoder))


def classifier(
  encoder: Encoder,
  *,
  taps: Sequence[str] | None = None,
  classes: int = 7,
  hidden: int | None = None,
  dropout: float = 0.0,
) -> nn.Module:
  """A pooled head on an encoder's last map, or on the last of `taps`."""
  encoder = _encoder(encoder, taps)
  if taps is None:
    encoder = encoder.clone(taps=(_last_map(encoder),))
  return Classifier(encoder, heads.Pooled(hidden, dropout), classes)


KINDS: dict[str, Callable[..., nn.Module]] = {
  'unet': unet,
  'unetpp': unetpp,
  'residual': residual,
  'classifier': classifier,
}


def _encoder(encoder: Encoder, taps: Sequence[str] | None) -> nn.Module:
  if isinstance(encoder, str):
    if encoder not in encoders.__all__:
      raise _unknown('encoder', encoder, encoders.__all__)
    encoder = getattr(encoders, encoder)()
  return encoder if taps is None else encoder.clone(taps=tuple(taps))


def _stride(encoder: nn.Module) -> int:
  """How many times smaller than the image the coarsest map is."""
  size = 256
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  pyramid = jax.eval_shape(
    lambda x: encoder.init_with_output(jax.random.key(0), x)[0], image
  )
  return size // pyramid[-1].shape[1]


def _last_map(encoder: nn.Module) -> str:
  """The deepest map of an encoder, before its publisher's classifier."""
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  return [
    name for name in feature_maps(encoder, image) if name != 'predictions'
  ][-1]


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
    raise _unknown('system', name, [*SYSTEMS, *KINDS])
  known = list(inspect.signature(make).parameters)
  for change in changes:
    if change not in known:
      raise _unknown(f'change of {name}', change, known)
  return make(**changes)


def _unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
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
  arguments = parser.parse_args(argv)
  rows = [describe(system) for system in SYSTEMS.values()]
  print(json.dumps(rows, indent=2) if arguments.json else _table(rows))


if __name__ == '__main__':
  main()
