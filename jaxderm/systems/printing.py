"""Sizes and costs of systems and encoders, beside what is printed."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxderm.cost import example, feature_maps, measure, stride
from jaxderm.models import encoders
from jaxderm.systems import System, build
from jaxderm.thop import operations


def describe(system: System) -> dict[str, Any]:
  """What `python -m jaxderm.systems` prints of a system."""
  network = build(system.name)
  cost = measure(network, system.size)
  printed = system.printed
  return {
    'name': system.name,
    'paper': system.paper,
    'task': system.task,
    'trainable': cost.trainable,
    'all': cost.all,
    'all_without_metadata': _without_metadata(network, cost.all),
    'multiply_adds': cost.multiply_adds,
    'printed': printed,
    'difference': (
      None if printed is None else getattr(cost, system.printed_kind) - printed
    ),
    'mib': round(4 * cost.all / 2**20, 1),
    'printed_mib': system.printed_mib,
    'thop_gmacs': _thop_gmacs(system),
    'printed_gmacs': system.printed_gmacs,
  }


def _without_metadata(network: nn.Module, everything: int) -> int | None:
  """All variables of the network with `metadata=0`; None if this is it.

  It lacks the branch and what the logits make of it. Building it would take
  twice as long.
  """
  if 'metadata' not in getattr(network, 'inputs', ()):
    return None
  given = example(network, 1)['metadata']
  branch = jax.eval_shape(network.metadata.init, jax.random.key(0), given)
  read = network.metadata.hidden * network.classes
  return everything - sum(x.size for x in jax.tree.leaves(branch)) - read


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
  cost = measure(whole, size)
  return {
    'name': name,
    'origin': getattr(encoder, 'origin', None),
    'normalisation': encoder.normalisation,
    **cost._asdict(),
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
