"""Starting `python -m jaxderm.main` as a user does, small."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from jaxderm.checkpoint import Checkpoints

ROOT = pathlib.Path(__file__).parent.parent
SMALL = (
  '--config.data.options.n=60',
  '--config.data.options.size=48',
  '--config.data.size=32',
  '--config.data.batch_size=8',
  '--config.evaluate.batch_size=8',
  '--config.evaluate.resamples=50',
  '--config.epochs=4',
)


def command(workdir, *args, config='configs/synthetic.py', small=True):
  """The command line of a small run on generated lesions."""
  return [
    sys.executable,
    '-m',
    'jaxderm.main',
    *([f'--config={ROOT / config}'] if config else []),
    f'--workdir={workdir}',
    *(SMALL if small else ()),
    *map(str, args),
  ]


def environment(devices=1, **extra):
  """This process's, with so many virtual devices."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  return os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'} | extra


def main(workdir, *args, devices=1, expect=0, timeout=300, **how):
  """Runs it to its end; returns what it printed."""
  done = run(command(workdir, *args, **how), devices, expect, timeout)
  return done.stdout + done.stderr


def run(words, devices=1, expect=0, timeout=300, xla_flags=''):
  """A process with so many virtual devices, at its end."""
  given = environment(devices)
  given['XLA_FLAGS'] += f' {xla_flags}'
  done = subprocess.run(
    words,
    env=given,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )
  assert done.returncode == expect, done.stdout + done.stderr
  return done


def final_arrays(workdir):
  """Every array of a run's latest checkpoint, by name."""
  checkpoints = Checkpoints(pathlib.Path(workdir) / 'checkpoints')
  saved = checkpoints.raw()
  checkpoints.close()
  return {
    jax.tree_util.keystr(path): np.asarray(x)
    for path, x in jax.tree_util.tree_leaves_with_path(saved)
  }


def assert_same_runs(a, b):
  """Bit for bit the same: parameters, statistics, optimiser, keys."""
  a, b = final_arrays(a), final_arrays(b)
  assert a.keys() == b.keys()
  assert len(a) > 20
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def distance(a, b):
  """The greatest difference between two runs' parameters and statistics."""
  a, b = final_arrays(a), final_arrays(b)
  assert a.keys() == b.keys()
  names = [k for k in a if k.startswith(("['params']", "['batch_stats']"))]
  assert len(names) > 20
  return max(np.abs(a[k] - b[k]).max() for k in names)
