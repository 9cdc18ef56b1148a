r"""What ten choices save of a whole training step, on this device.

  python scripts/steps.py            # prints the table in docs/benchmarks.md

- heap: the process keeps the memory that a step frees (`host.keep_memory`)
- barriers: XLA leaves them in (`forms.compiler_options`)
- eigen: it gets the convolutions, not YNNPACK (the same)
- norm: BatchNorm's gradient is our own (`models/norm.py`)
- swish: its gradient too (`models/activations.py`)
- growth: a dense block's gradient is added up once (`ops.append_channels`)
- doubled: a coarse map is convolved before it is (`models/joined.py`)
- winograd: fewer products of many channels (`models/winograd.py`)
- taps: of many to few, products come first (`models/conv3x3.py`)
- one by one: not in a `lax.scan` (`dispatch.STEPS`)

Each number is of a process of its own: the median of --steps steps after
eight that are not timed, milliseconds, batch 8.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxderm import dispatch, host
from jaxderm.benchmark import ours
from jaxderm.benchmark.workloads import Workload
from jaxderm.models import conv3x3, convolutions, forms, norm, winograd
from jaxderm.models.encoders import densenet, efficientnet
from jaxderm.sharding import replicated

BATCH, WARM = 8, 8
# Choice: a network, its side in pixels.
CHOICES = {
  'heap': ('MobileNetV2', 128),
  'barriers': ('DenseNet121', 128),
  'eigen': ('yang2021/UNetPlusPlus', 128),
  'norm': ('DenseNet121', 128),
  'swish': ('EfficientNetB0', 128),
  'growth': ('DenseNet121', 128),
  'doubled': ('yang2021/UNetPlusPlus', 128),
  'winograd': ('ResNet34', 256),
  'taps': ('yang2021/EfficientUNetPlusPlus', 128),
  'one by one': ('yang2021/UNet', 64),
}
# The option of XLA that a choice is, where it is one.
OPTIONS = {
  'barriers': 'xla_disable_hlo_passes',
  'eigen': 'xla_cpu_experimental_ynn_fusion_type',
}
# What stands in for a name of ours without it.
PLAIN = {
  'norm': (norm, '_BatchNorm', nn.BatchNorm),
  'swish': (efficientnet, 'swish', nn.swish),
  'growth': (
    densenet,
    'append_channels',
    lambda x, y: jnp.concatenate([x, y], axis=-1),
  ),
  'doubled': (convolutions, 'Doubled', convolutions.upsample),
  'winograd': (winograd, 'pays', lambda *_, **__: False),
  'taps': (conv3x3, '_FEWER', float('inf')),
}


def program(name, side, steps):
  """A function that does so many steps, which are one program."""
  kind = ('classifier', {'encoder': name, 'classes': 7})
  system, changes = (name, {}) if '/' in name else kind
  made = ours.make(Workload(name, system, changes), 'float32')
  batch = ours.random_batch(side, BATCH, 2)
  columns = jax.device_put(batch, replicated(made.mesh))
  advance = dispatch.make_resident(made.update(), columns, made.mesh)
  states = [made.plan_state(batch).make()]
  rows = np.tile(np.arange(BATCH, dtype=np.int32), (steps, 1))

  def run():
    nonlocal states
    states, _ = advance(states, [lambda first, count: rows], 0, steps)
    jax.block_until_ready(states)

  return run


def measure(choice, chosen, count):
  """Milliseconds of a step, with a choice or without it."""
  if choice != 'heap' or chosen:
    host.keep_memory()
  in_scan = 4 if choice == 'one by one' and not chosen else 1
  options = dict(forms.compiler_options() or {})
  with contextlib.ExitStack() as stack:
    if not chosen:
      options.pop(OPTIONS.get(choice), None)
      if choice in PLAIN:
        stack.enter_context(mock.patch.object(*PLAIN[choice]))
    stack.enter_context(
      mock.patch.object(forms, 'compiler_options', lambda: options)
    )
    run = program(*CHOICES[choice], in_scan)
    for _ in range(WARM // in_scan):
      run()
  times = []
  for _ in range(count):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
  return 1e3 * statistics.median(times) / in_scan


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--steps', type=int, default=12)
  parser.add_argument('--one', help='a choice and 0 or 1; for the children')
  flags = parser.parse_args()
  if flags.one:
    choice, chosen = flags.one.split('=')
    print(json.dumps(measure(choice, chosen == '1', flags.steps)))
    return
  print('| choice | network | pixels | without, ms | with, ms |')
  print('|---|---|---|---|---|')
  for choice, (name, side) in CHOICES.items():
    found = []
    for chosen in (0, 1):
      command = [sys.executable, __file__, f'--one={choice}={chosen}']
      done = subprocess.run(
        [*command, f'--steps={flags.steps}'],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
      )
      found.append(f'{json.loads(done.stdout.splitlines()[-1]):.0f}')
    print(f'| {choice} | {name} | {side} | {" | ".join(found)} |', flush=True)


if __name__ == '__main__':
  main()
