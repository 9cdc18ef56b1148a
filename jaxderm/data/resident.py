"""A data set that lives on the device: decoded once, indexed by every step.

The host then sends a few numbers a step in place of pictures. Which examples
a step sees is `pipeline.order`'s, as it is for batches from the host.
"""

import concurrent.futures

import jax
import numpy as np
from jax.sharding import Mesh

from jaxderm import sharding
from jaxderm.data.pipeline import Example, Examples

Columns = dict[str, jax.Array]

# Of a device's free memory: the network, its gradients and what it keeps for
# them need the rest.
SHARE = 0.25
# Where a device does not tell what it has: the CPU, whose memory is the host's.
LIMIT = 2 << 30


def _sizes(example: Example) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  return {k: (np.shape(v), np.asarray(v).dtype) for k, v in example.items()}


def budget() -> int:
  """Bytes that a data set may take of every device, alike on all hosts."""
  free = []
  for device in jax.local_devices():
    stats = device.memory_stats() or {}
    if 'bytes_limit' in stats:
      left = stats['bytes_limit'] - stats.get('bytes_in_use', 0)
      free.append(int(SHARE * left))
  # In KiB: without 64 bits JAX would cut larger numbers short.
  least = np.array([min(free, default=LIMIT) >> 10], np.int32)
  return int(sharding.gather(least).min()) << 10


def fits(examples: Examples) -> bool:
  """Whether these examples may be kept on the devices."""
  one = sum(np.asarray(v).nbytes for v in examples.decode(0).values())
  return len(examples) * one <= budget()


def load(examples: Examples, mesh: Mesh, threads: int = 2) -> Columns:
  """Decodes every example once and places all of them on every device.

  Args:
    examples: What to keep, n of them.
    mesh: The devices.
    threads: Host threads that decode.

  Returns:
    'image' uint8 [n, H, W, 3], 'mask' uint8 [n, H, W, 1], 'label' int32 [n],
    'valid' float32 [n] and what else the examples have, [n, ...].
  """
  columns = {
    name: np.empty((len(examples), *shape), dtype)
    for name, (shape, dtype) in _sizes(examples.decode(0)).items()
  }

  def fill(i: int) -> None:
    for name, value in examples.decode(i).items():
      columns[name][i] = value

  with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
    for _ in pool.map(fill, range(len(examples))):
      pass  # raises what went wrong in a thread
  everywhere = sharding.replicated(mesh)
  return {
    name: jax.make_array_from_process_local_data(everywhere, column)
    for name, column in columns.items()
  }


def take(columns: Columns, rows: jax.Array, mesh: Mesh) -> Columns:
  """The examples at `rows` [B] as a batch, cut among the devices by row.

  The rows are not checked: they come from `pipeline.order`.
  """
  by_row = sharding.by_row(mesh)

  def one(column):
    taken = column.at[rows].get(mode='promise_in_bounds')
    return jax.lax.with_sharding_constraint(taken, by_row)

  return jax.tree.map(one, columns)


def positions(examples: Examples, among: Examples) -> np.ndarray:
  """Where the rows of `examples` are among those of `among`, sorted ones.

  An image that is seen several times in an epoch is resident once.
  """
  return np.searchsorted(among.rows, examples.rows).astype(np.int32)


def union(parts: list[Examples]) -> Examples:
  """Every record that is in one of the parts, once, in the records' order."""
  rows = np.unique(np.concatenate([part.rows for part in parts]))
  return parts[0].with_rows(rows)
