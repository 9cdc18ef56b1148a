"""What a process keeps from one step to the next, in a process of its own."""

import gc
import json
import subprocess
import sys

import pytest

from jaxderm import host

# A step with a block of 256 MiB; the page faults of its later calls, whether it
# is done when its call returns, and the growth of the process in KiB,
# in those calls and in all.
_STEPS = """
import json, resource, sys
from jaxderm import host
kept = sys.argv[1] == 'kept' and host.keep_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):
  return jnp.exp(jnp.outer(x, x)) @ x

def use():
  return resource.getrusage(resource.RUSAGE_SELF)

x = jnp.ones(8192)
first = use()
for _ in range(4):
  step(x).block_until_ready()
before, ready = use(), []
for _ in range(8):
  y = step(x)
  ready.append(y.is_ready())
  y.block_until_ready()
after = use()
print(json.dumps({
  'kept': kept,
  'faults': after.ru_minflt - before.ru_minflt,
  'ready': ready,
  'grown': after.ru_maxrss - before.ru_maxrss,
  'held': after.ru_maxrss - first.ru_maxrss,
}))
"""


@pytest.fixture(scope='module')
def kept():
  return steps('kept')


@pytest.fixture(scope='module')
def usual():
  return steps('usual')


def steps(how):
  done = subprocess.run(
    [sys.executable, '-c', _STEPS, how],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc is of Linux')
def test_a_step_uses_the_memory_of_the_one_before(kept, usual):
  pages = 256 * 2**20 // 4096
  assert kept['kept']
  assert kept['faults'] < pages / 10, kept
  assert kept['grown'] < 32 * 1024, kept
  # Nothing small has cut a block's place, which would take a new one.
  assert kept['held'] < 2.5 * 256 * 1024, kept
  # That the test can fail: without it all pages come anew in each step.
  assert usual['faults'] > 10 * max(50, kept['faults']), usual


def test_a_step_is_run_by_the_thread_that_asks_for_it(kept, usual):
  assert kept['ready'] == [True] * 8
  assert usual['ready'] != [True] * 8


def test_cycles_are_looked_for_rarely(monkeypatch):
  kept, usual = [], gc.get_threshold()
  monkeypatch.setattr(host, 'keep_memory', lambda: kept.append(True))
  try:
    host.prepare()
    before = gc.get_stats()[0]['collections']
    made = [[] for _ in range(200_000)]
    assert gc.get_stats()[0]['collections'] - before <= 5, len(made)
  finally:
    gc.set_threshold(*usual)
  assert kept == [True]
