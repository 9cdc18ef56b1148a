r"""What a mesh of several devices costs, on virtual devices of one CPU.

  python scripts/mesh.py
  python scripts/mesh.py --system=yang2021/UNetPlusPlus --size=64 --batch=16

For each number of devices a process of its own compiles one training step of
the same batch, counts the collectives in the program, and times it: the median
of --steps after two that are not timed. Devices that share the cores of one
machine cannot be faster than one: what the time of 8 is above that of 1 is
what cutting up and joining costs (threads that wait for each other, smaller
convolutions, sums over devices). It says nothing of scaling on real ones.

Right is all-reduce only: gradients, the statistics of BatchNorm, the loss. An
all-gather or all-to-all would mean that activations travel.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import jax
import numpy as np

from jaxderm import fresh_state, optim, sharding, step, systems, task

COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'all-to-all',
  'reduce-scatter',
  'collective-permute',
)


def collectives(program: str) -> dict[str, int]:
  """How many of each collective the text of a compiled program has."""
  return {
    name: len(re.findall(rf'\s{name}(?:-start)?\(', program))
    for name in COLLECTIVES
  }


def one(system: str, size: int, batch: int, steps: int) -> dict:
  """Measures the devices that this process has."""
  network = systems.build(system)
  segmentation = task.segmentation({'name': 'bce_dice'})
  mesh = sharding.make_mesh()
  sharding.check_batch_size(batch)
  tx = optim.make_optimizer('adam', schedule=optim.constant(1e-3, 1))
  rng = np.random.default_rng(0)
  image = rng.normal(size=(batch, size, size, 3)).astype('f')
  rows = {
    'image': image,
    'mask': (image[..., :1] > 0).astype(np.uint8),
    'valid': np.ones(batch, 'f'),
  }
  placed = sharding.place(rows, mesh)
  state = fresh_state.plan(network, segmentation, tx, placed, 0, mesh).make()
  do = step.make_train_step(network, segmentation, tx, lambda b, _: b, mesh)
  program = do.lower(state, placed).compile()
  times = []
  for _ in range(steps + 2):
    start = time.perf_counter()
    state, scalars = program(state, placed)
    jax.block_until_ready((state, scalars))
    times.append(time.perf_counter() - start)
  return {
    'devices': mesh.size,
    'step_ms': 1e3 * statistics.median(times[2:]),
    'loss': float(scalars['loss']),
    'collectives': collectives(program.as_text()),
  }


def measure(devices: int, arguments: argparse.Namespace) -> dict:
  """The same in a process that has so many virtual devices."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  given = [f'--{k}={getattr(arguments, k)}' for k in ('system', 'size')]
  given += [f'--{k}={getattr(arguments, k)}' for k in ('batch', 'steps')]
  done = subprocess.run(
    [sys.executable, __file__, '--one', *given],
    env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise SystemExit(f'{devices} devices: {done.stderr[-2000:]}')
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--system', default='yang2021/UNet')
  parser.add_argument('--size', type=int, default=128)
  parser.add_argument('--batch', type=int, default=8)
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--devices', default='1,2,4,8')
  parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    settings = {k: getattr(arguments, k) for k in ('size', 'batch', 'steps')}
    print(json.dumps(one(arguments.system, **settings)))
    return
  print(f'{arguments.system}, {arguments.size} px, batch {arguments.batch}')
  print(f'{"devices":>7}  {"step ms":>8}  {"of one":>6}  collectives')
  first = None
  for devices in map(int, arguments.devices.split(',')):
    row = measure(devices, arguments)
    first = first or row['step_ms']
    counts = [f'{n} {name}' for name, n in row['collectives'].items() if n]
    print(
      f'{devices:>7}  {row["step_ms"]:>8.1f}  {row["step_ms"] / first:>6.2f}  '
      f'{", ".join(counts) or "none"}',
      flush=True,
    )


if __name__ == '__main__':
  main()
