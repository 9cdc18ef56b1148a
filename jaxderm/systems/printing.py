"""Sizes and costs of systems and encoders, beside what is printed."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxderm.cost import feature_maps, multiply_adds, parameters, stride
from jaxderm.models import encoders
from jaxderm.systems import System, build
from jaxderm.thop import operations


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
    'mib': round(4 * everything / 2**20, 1),
    'printed_mib': system.printed_mib,
    'thop_gmacs': _thop_gmacs(system),
    'printed_gmacs': system.printed_gmacs,
  }


def _thop_gmacs(system: System) -> float | None:
  """What the printed number should be; None where none is printed."""
  if system.printed_gmacs is None:
    return None
  network = build(system.name, **system.gmacs_changes)
  size = system.gmacs_size or system.size
  return round(operations(network, size) / 1e9, 4)


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


def table(rows: list[dict[str, Any]]) -> str:
  def cell(value: Any) -> str:
    if value is None:
      return '-'
    return value if isinstance(value, str) else f'{value:,}'

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
