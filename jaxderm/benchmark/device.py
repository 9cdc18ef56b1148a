"""What this device can do at most, measured; and what it says of itself."""

import glob
import importlib.metadata
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxderm import host
from jaxderm.benchmark.timing import best_seconds
from jaxderm.step import PRECISIONS

# Sides of the square matrices, small enough for the platform to do in seconds.
_SIDES = {'cpu': (512, 1024, 2048), 'gpu': (4096, 8192, 16384)}
# Numbers in each array, too many for any cache.
_STREAM = {'cpu': 1 << 25, 'gpu': 1 << 28}
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'torch', 'torchvision', 'timm')


def peak_flops(precision: str) -> float:
  """FLOP/s of a matrix product, the best of several sizes.

  Args:
    precision: 'float32' or 'bfloat16'; float32 is computed as JAX does it by
      default, which on a recent GPU is TF32.
  """
  product = jax.jit(jnp.dot)
  best = 0.0
  for side in _SIDES.get(jax.default_backend(), _SIDES['gpu']):
    a = jnp.full((side, side), 0.5, PRECISIONS[precision])
    seconds = best_seconds(
      lambda a=a: product(a, a).block_until_ready(), repeats=3
    )
    best = max(best, 2 * side**3 / seconds)
  return best


def bandwidth() -> float:
  """Bytes/s of y = 2 x + y on arrays that no cache holds."""
  axpy = jax.jit(lambda x, y: 2 * x + y)
  count = _STREAM.get(jax.default_backend(), _STREAM['gpu'])
  x, y = jnp.ones(count), jnp.ones(count)
  seconds = best_seconds(lambda: axpy(x, y).block_until_ready())
  return 3 * x.nbytes / seconds  # two are read, one is written


def describe(precision: str) -> dict[str, Any]:
  """The device, its measured limits, and the versions of what runs on it."""
  device = jax.devices()[0]
  return {
    'platform': device.platform,
    'kind': host.processor()
    if device.platform == 'cpu'
    else device.device_kind,
    'devices': jax.device_count(),
    'cores': len(os.sched_getaffinity(0)),
    'driver': _nvidia('driver_version') if device.platform == 'gpu' else None,
    'precision': precision,
    'peak_flops': peak_flops(precision),
    'bandwidth': bandwidth(),
    'python': platform.python_version(),
    'versions': {name: _version(name) for name in _LIBRARIES},
    'date': time.strftime('%Y-%m-%d'),
  }


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _nvidia(query: str) -> str | None:
  if not shutil.which('nvidia-smi'):
    return None
  command = ['nvidia-smi', f'--query-gpu={query}', '--format=csv,noheader']
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  return done.stdout.splitlines()[0].strip() if done.stdout else None


def peak_memory(compiled: Any) -> tuple[int | None, str]:
  """Bytes that a program needs, and who says so.

  Args:
    compiled: A compiled program.
  """
  stats = jax.devices()[0].memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use'], 'allocator'
  plan = compiled.memory_analysis()
  if plan is None:
    return None, 'nobody'
  total = (
    plan.temp_size_in_bytes
    + plan.argument_size_in_bytes
    + plan.output_size_in_bytes
    - plan.alias_size_in_bytes
  )
  return total, "compiler's plan"


# --- Energy ------------------------------------------------------------------


def energy_meter() -> Callable[[], float | None]:
  """A function that gives the joules used so far, or None if nobody tells."""
  if jax.default_backend() == 'gpu' and shutil.which('nvidia-smi'):
    return _PowerSampler().joules
  if jax.default_backend() == 'cpu' and _rapl() is not None:
    return _rapl
  return lambda: None


def _rapl() -> float | None:
  """Joules counted by the packages of the CPU; None if they may not be read."""
  total = 0.0
  paths = glob.glob('/sys/class/powercap/intel-rapl:?/energy_uj')
  try:
    for path in paths:
      with open(path) as file:
        total += int(file.read()) / 1e6
  except OSError:
    return None
  return total if paths else None


class _PowerSampler:
  """Adds up the power that nvidia-smi tells, five times a second."""

  def __init__(self):
    command = ['nvidia-smi', '--query-gpu=power.draw', '--id=0']
    command += ['--format=csv,noheader,nounits', '-lms', '200']
    self._process = subprocess.Popen(
      command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )
    self._joules: float | None = None
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self) -> None:
    last = time.monotonic()
    for line in self._process.stdout:
      now = time.monotonic()
      try:
        self._joules = (self._joules or 0.0) + float(line) * (now - last)
      except ValueError:  # '[N/A]': this device does not tell
        self._joules = None
        self._process.terminate()
        return
      last = now

  def joules(self) -> float | None:
    return self._joules
