"""The folder of a run: whose it is, and whether it will do."""

import contextlib
import fcntl
import itertools
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict

from jaxderm import recipe, sharding
from jaxderm.checkpoint import load_json
from jaxderm.data.split import Split
from jaxderm.step import TrainState
from jaxderm.writer import write_json


def members(
  config: ConfigDict,
  workdir: pathlib.Path,
  seeds: Sequence[int] = (),
  folds: Sequence[int] = (),
) -> list[tuple[ConfigDict, pathlib.Path]]:
  """Config and folder of every seed of every fold; the run itself if of none.

  The folders are `workdir`'s: 'seed0', 'fold0' or, where both are given,
  'seed0_fold0'.

  Raises:
    ValueError: A seed or a fold is named twice.
  """
  if not seeds and not folds:
    return [(config, workdir)]
  for name, given in (('seeds', seeds), ('folds', folds)):
    if len(set(given)) < len(given):
      raise ValueError(f'--{name}={",".join(map(str, given))} names one twice.')
  if (workdir / 'config.json').exists():
    raise ValueError(
      f'{workdir} holds a run of its own, so it cannot hold those of --seeds '
      'or --folds. Choose another --workdir.'
    )
  runs = []
  for seed, fold in itertools.product(seeds or [None], folds or [None]):
    given = {'seed': seed, 'fold': fold}
    given = {k: v for k, v in given.items() if v is not None}
    member = config.copy_and_resolve_references()
    member.update(given)
    name = '_'.join(f'{k}{v}' for k, v in given.items())
    runs.append((member, workdir / name))
  return runs


def claim(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Makes the run's folder, or checks that it belongs to this config.

  The config itself is written once all else has been found in order.

  Raises:
    ValueError: It belongs to another config; names the keys that differ.
    OSError: It cannot be written, or the disk is nearly full.
  """
  path = workdir / 'config.json'
  if path.exists():
    differing = recipe.differences(load_json(path), config.to_dict())
    if differing:
      raise ValueError(
        f'{workdir} holds a run of another config. What differs (there -> '
        'here):\n  ' + '\n  '.join(differing) + '\nChoose another --workdir, '
        'or start with the same values to go on with that run.'
      )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe = workdir / f'.probe{jax.process_index()}'
    probe.write_bytes(b'0' * 4096)
    probe.unlink()
  except OSError as error:
    raise OSError(
      f'--workdir {workdir} cannot be written ({error.strerror}). Choose a '
      'folder on a disk with space, where you may write.'
    ) from None


@contextlib.contextmanager
def alone(workdir: pathlib.Path) -> Iterator[None]:
  """Holds a run's folder while training; a killed run lets go of it by itself.

  Raises:
    ValueError: Another process trains there.
  """
  if jax.process_index():  # of several hosts, the first answers for all
    yield
    return
  with (workdir / '.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f'Another process is training in {workdir}. Wait for it, stop it, or '
        'choose another --workdir.'
      ) from None
    except OSError:
      pass  # some network file systems cannot lock
    yield


def check_space(workdir: pathlib.Path, state: TrainState) -> None:
  """Raises OSError if the disk cannot hold three checkpoints of such a state."""
  arrays = [x for x in jax.tree.leaves(state) if x.dtype != state.key.dtype]
  # The latest, the best, and the one being written before one of them goes.
  size = sum(x.size * x.dtype.itemsize for x in arrays)
  needed = 3 * size + (64 << 20)
  free = shutil.disk_usage(workdir).free
  if free < needed:
    raise OSError(
      f'{workdir} has {free >> 20} MiB free; checkpoints of this network '
      f'need {needed >> 20} MiB. Free some space or choose another --workdir.'
    )


def record(config: ConfigDict, split: Split, workdir: pathlib.Path) -> None:
  """Writes `config.json` and `split.json` of a run, if they are not there."""
  path = workdir / 'config.json'
  if jax.process_index() == 0 and not path.exists():
    split.write(workdir / 'split.json')
    # Last: a folder with a config is a run.
    write_json(path, config.to_dict())
  sharding.barrier('record')
