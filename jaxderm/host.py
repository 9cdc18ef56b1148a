"""The host: what its processor is called, and what it does with memory."""

import ctypes
import pathlib
import platform
import sys

# Of glibc's malloc.h: parameters of `mallopt`, and what they are set to.
_KEEP = (
  (-8, 1),  # M_ARENA_MAX: other arenas cannot hold more than 64 MiB
  (-4, 0),  # M_MMAP_MAX: nothing large is taken from the system by itself
  (-1, -1),  # M_TRIM_THRESHOLD: nothing is given back, ever
  (-2, 64 << 20),  # M_TOP_PAD: and it grows by so many bytes
)


def keep_memory() -> bool:
  """Lets the process keep what it frees, for the next step to use again.

  A step on the CPU takes one large block for all that it computes and frees it
  at its end. By default glibc hands such a block back to the system, which has
  to clear every page of it for the next step (docs/benchmarks.md says what that
  costs). The process grows to its peak and stays there.

  Call it before JAX computes anything: a thread keeps the arena it began with.

  Returns:
    Whether it was done; False where there is no glibc.
  """
  if not sys.platform.startswith('linux'):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # musl has none
  return mallopt is not None and all(mallopt(*pair) for pair in _KEEP)


def processor() -> str:
  """What the processor calls itself."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
  return (names or [platform.machine()])[0]
