"""The host: what its processor is called, and what it does with memory."""

import ctypes
import functools
import gc
import pathlib
import platform
import sys

import jax

# Of glibc's malloc.h: parameters of `mallopt`, and what they are set to.
_KEEP = (
  (-4, 0),  # M_MMAP_MAX: nothing large is taken from the system by itself
  (-1, -1),  # M_TRIM_THRESHOLD: nothing is given back, ever
  (-2, 64 << 20),  # M_TOP_PAD: and it grows by so many bytes
)
# Bytes of the pieces that the heap begins with.
_SHELVES = tuple(2**k for k in (32, 30, 28, 26, 24))
# Objects made before Python looks for cycles among the young ones; how often it
# has done so before it looks among the older ones, and the oldest.
_COLLECT = (500_000, 20, 20)


def prepare() -> None:
  """Sets up a process that trains or measures.

  Call it in the main thread, before JAX computes anything.
  """
  keep_memory()
  # Tracing a network makes a million objects that stay. By default Python looks
  # through them for cycles so often that it takes a quarter of the time.
  gc.set_threshold(*_COLLECT)


@functools.cache
def keep_memory() -> bool:
  """Lets the process keep what it frees, for the next step to use again.

  A step on the CPU takes one large block for all that it computes and frees it
  at its end. By default glibc hands such a block back to the system, which has
  to clear every page of it for the next step (docs/benchmarks.md says what that
  costs). The process grows to its peak and stays there.

  Steps are also run by the thread that asks for them. By another, a step's
  block is freed a little after its results are there, and the next step would
  have taken a second and a third one; and glibc keeps only what the main thread
  takes. Small pieces come from each thread's own arena: of one for all, the
  threads would wait for each other, the more so the longer its lists are, which
  compiling makes long. Each thread also has a cache of small pieces; a chip that
  aligning a block cuts off may wait there, and the next block then goes to a
  second place. Beside other processes there were up to four places by chance;
  GLIBC_TUNABLES=glibc.malloc.tcache_count=0 in the environment leaves one.

  Call it in the main thread, before JAX computes anything. Only the first call
  does something.

  Returns:
    Whether it was done; False where there is no glibc.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if not sys.platform.startswith('linux'):
    return False
  libc = ctypes.CDLL(None)
  if not hasattr(libc, 'mallopt'):  # musl has none
    return False
  if not all(libc.mallopt(*pair) for pair in _KEEP):
    return False
  _shelve(libc)
  return True


def _shelve(libc: ctypes.CDLL) -> None:
  """Leaves free pieces of many sizes, which cost nothing until they are used.

  malloc takes the smallest piece that is large enough. So small things find
  place in the small ones, and where a step's block was is whole when the next
  step asks for it.
  """
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = (ctypes.c_size_t,)
  libc.free.argtypes = (ctypes.c_void_p,)
  pieces = []
  for size in _SHELVES:
    pieces.append(libc.malloc(size))
    libc.malloc(2**20)  # stays, unused, and keeps the pieces apart
  for piece in pieces:
    libc.free(piece)


def processor() -> str:
  """What the processor calls itself."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [x.partition(':')[2].strip() for x in lines if 'model name' in x]
  return (names or [platform.machine()])[0]
