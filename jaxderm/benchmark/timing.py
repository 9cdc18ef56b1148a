"""Fair timing: contestants take turns, so that drift of the machine cancels."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# Runs so many steps and returns when the device has done them.
Run = Callable[[int], None]
_WARM_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Rate:
  """Images per second, over the blocks of one contestant.

  Attributes:
    median: Of the blocks.
    low: Their first quartile.
    high: Their third quartile.
    blocks: How many.
    steps: In each block.
    joules: Energy for each image, or None where nobody tells.
  """

  median: float
  low: float
  high: float
  blocks: int
  steps: int
  joules: float | None = None


def _block_steps(run: Run, block_seconds: float, clock: Callable) -> int:
  """How many steps last `block_seconds`; two more warm it up."""
  run(2)
  start = clock()
  run(1)
  return max(1, math.ceil(block_seconds / max(clock() - start, 1e-9)))


def interleave(
  contestants: Mapping[str, Run],
  *,
  images: int | Mapping[str, int],
  seconds: float,
  block_seconds: float = 1.0,
  least_blocks: int = 3,
  clock: Callable[[], float] = time.perf_counter,
  joules: Callable[[], float | None] = lambda: None,
) -> dict[str, Rate]:
  """Measures contestants in turns A B C A B C.

  Each is warmed up by three steps, and all by rounds that do not count: until
  memory has grown to what both need side by side, steps take up to three times
  as long. Blocks last `block_seconds` or one step, whichever is longer.

  Args:
    contestants: What to run, by name.
    images: In one step, of all or of each.
    seconds: For all blocks of one contestant; a round that has begun is
      finished, and there are at least `least_blocks` rounds.
    block_seconds: Of one block.
    least_blocks: Of each contestant.
    clock: Seconds since whenever.
    joules: Energy used since whenever, or None.
  """
  steps = {
    name: _block_steps(run, block_seconds, clock)
    for name, run in contestants.items()
  }
  taken: dict[str, list[float]] = {name: [] for name in contestants}
  energy: dict[str, list[float]] = {name: [] for name in contestants}
  for _ in range(_WARM_ROUNDS):
    for name, run in contestants.items():
      run(steps[name])
  deadline = clock() + seconds * len(contestants)
  rounds = 0
  while rounds < least_blocks or clock() < deadline:
    for name, run in contestants.items():
      before, start = joules(), clock()
      run(steps[name])
      taken[name].append(clock() - start)
      after = joules()
      if before is not None and after is not None:
        energy[name].append(after - before)
    rounds += 1
  if isinstance(images, int):
    images = dict.fromkeys(contestants, images)
  return {
    name: _rate(taken[name], energy[name], steps[name], images[name])
    for name in contestants
  }


def _rate(
  seconds: Sequence[float], joules: Sequence[float], steps: int, images: int
) -> Rate:
  low, median, high = np.percentile(
    steps * images / np.asarray(seconds), [25, 50, 75]
  )
  each = sum(joules) / (len(joules) * steps * images) if joules else None
  return Rate(float(median), float(low), float(high), len(seconds), steps, each)


def best_seconds(
  function: Callable[[], None],
  *,
  repeats: int = 5,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """The shortest of several runs, after one that does not count."""
  function()
  times = []
  for _ in range(repeats):
    start = clock()
    function()
    times.append(clock() - start)
  return min(times)
