"""What a process keeps from one step to the next, in a process of its own."""

import gc
import json
import os
import subprocess
import sys

import pytest

from jaxderm import host

# Steps with a block of 256 MiB: what the first four and the others touched
# anew, in blocks, what the process has held at most, and whether a step is done
# when its call returns. (`ru_maxrss` would be no less than that of the process which
# starts this one, and that is pytest.)
_STEPS = """
import json, re, resource, sys
from jaxderm import host
kept = sys.argv[1] == 'kept' and host.keep_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):
  return jnp.exp(jnp.outer(x, x)) @ x

def touched():
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_minflt * resource.getpagesize() / 2**28

def held():
  status = open('/proc/self/status').read()
  return int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) / 2**18

x = jnp.ones(8192)
before, least = touched(), held()
for _ in range(4):
  step(x).block_until_ready()
settled, ready = touched(), []
for _ in range(8):
  y = step(x)
  ready.append(y.is_ready())
  y.block_until_ready()
print(json.dumps({
  'kept': kept,
  'first': settled - before,
  'later': touched() - settled,
  'held': held() - least,
  'ready': ready,
}))
"""


@pytest.fixture(scope='module')
def kept():
  return steps('kept')


@pytest.fixture(scope='module')
def usual():
  return steps('usual')


def steps(how):
  # Beside other processes a chip of less than 100 bytes, cut off for alignment,
  # may wait in malloc's cache of its thread while the next step asks for the
  # block, which then goes elsewhere: two to four places in all, by chance.
  # Without that cache there is one.
  environment = {'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=0'}
  done = subprocess.run(
    [sys.executable, '-c', _STEPS, how],
    check=True,
    env={**os.environ, **environment},
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc is of Linux')
def test_a_step_uses_the_memory_of_the_one_before(kept, usual):
  assert kept['kept']
  assert kept['first'] < 1.5, kept
  assert kept['later'] < 0.1, kept
  # Nothing small has cut a block's place, which would take a new one.
  assert kept['held'] < 1.5, kept
  # That the test can fail: without it all pages come anew in each step.
  assert usual['later'] > 4, usual


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
