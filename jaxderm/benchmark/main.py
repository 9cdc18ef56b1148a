"""Flags of the benchmark, and one call.

python -m jaxderm.benchmark --workloads=ResNet50,yang2021/UNet --peer=torch
python -m jaxderm.benchmark --config=configs/ph2_unetpp.py --peer=torch
python -m jaxderm.benchmark --quick --peer=torch
"""

import dataclasses
import pathlib
import sys
import tempfile

from absl import flags, logging
from ml_collections import config_flags

from jaxderm.benchmark import jobs, table, workloads
from jaxderm.benchmark.measure import Job
from jaxderm.writer import exit_status, replace_text

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Measures the system of this config at its size and batch.'
)
_WORKLOADS = flags.DEFINE_list(
  'workloads', None, 'Names of rows or systems; all rows if not given.'
)
_PEER = flags.DEFINE_enum('peer', 'none', ['none', 'torch'], 'Beside whom.')
_PEER_COMPILE = flags.DEFINE_enum(
  'peer_compile',
  'auto',
  ['auto', 'no', 'default', 'reduce-overhead', 'max-autotune'],
  'Mode of torch.compile; auto: none on a CPU, reduce-overhead on a GPU.',
)
_MODE = flags.DEFINE_list('mode', ['train', 'inference'], 'What to measure.')
_BATCH = flags.DEFINE_integer('batch', None, "Images in a step; the papers'.")
_FILL = flags.DEFINE_bool('fill', False, 'The batch that fills the device.')
_SIZE = flags.DEFINE_integer('size', None, "Pixels of a side; the papers'.")
_PRECISION = flags.DEFINE_enum(
  'precision', 'float32', ['float32', 'bfloat16'], 'Of the computation.'
)
_SECONDS = flags.DEFINE_float(
  'seconds', 5.0, 'Of timed blocks, for each contestant.'
)
_BUDGET = flags.DEFINE_float(
  'budget', None, 'Seconds for everything; the rest is named as left out.'
)
_STARTS = flags.DEFINE_bool(
  'starts', True, 'Start twice: without a compilation cache, and from it.'
)
_INPUT = flags.DEFINE_bool('input', True, 'Measure the wait for real input.')
_MEMBERS = flags.DEFINE_integer(
  'members', 1, 'Seeds to train in one program too, with --input.'
)
_QUICK = flags.DEFINE_bool(
  'quick', False, 'All rows small, in less than 15 minutes on two cores.'
)
_AGAIN = flags.DEFINE_bool('again', False, 'Measure anew what is there.')
_OUT = flags.DEFINE_string(
  'out', None, 'Folder for benchmark.json and benchmark.md.'
)
_PAGE = flags.DEFINE_string(
  'page', None, 'A page of documentation whose table is to be replaced.'
)

# What --quick means unless a flag says otherwise: small enough that compiling
# takes most of the time.
QUICK = {
  'size': 96,
  'batch': 4,
  'seconds': 1.0,
  'budget': 720.0,
  'starts': False,
  'input': False,
}


def _setting(name: str):
  """A flag's value; with --quick its own default."""
  flag = flags.FLAGS[name]
  return QUICK[name] if _QUICK.value and not flag.present else flag.value


def _from_config(config) -> workloads.Workload:
  """What a config trains; a row of the same name knows its peer."""
  model, data = config.model, config.data
  row = workloads.WORKLOADS.get(model.system)
  changes = model.changes.to_dict()
  return workloads.Workload(
    name=model.system,
    system=model.system,
    changes=changes,
    size=data.size,
    batch=data.batch_size,
    # With changes it is no longer the network that the peer has.
    peer=row.peer if row and not changes else None,
  )


def _chosen() -> list[workloads.Workload]:
  """What is to be measured, in the size and batch that the flags ask for.

  Raises:
    ValueError: Flags or names that do not fit.
  """
  if _CONFIG.value is not None and _WORKLOADS.value:
    raise ValueError(
      '--config and --workloads both say what to measure; give one of them.'
    )
  if _CONFIG.value is not None:
    chosen = [_from_config(_CONFIG.value)]
  else:
    names = _WORKLOADS.value or list(workloads.WORKLOADS)
    chosen = [workloads.find(name) for name in names]
  given = {k: _setting(k) for k in ('size', 'batch')}
  changes = {k: v for k, v in given.items() if v is not None}
  return [dataclasses.replace(work, **changes) for work in chosen]


def run() -> int:
  """Does what the flags say; returns the exit status."""
  for mode in _MODE.value:
    if mode not in ('train', 'inference'):
      raise ValueError(f'--mode has {mode!r}; it takes train and inference.')
  if _FILL.value and _setting('batch') is not None:
    raise ValueError('--fill and --batch both say the batch; give one of them.')
  if _MEMBERS.value > 1 and not _setting('input'):
    raise ValueError('--members trains on real input, so it needs --input.')
  precision = _PRECISION.value
  if _CONFIG.value is not None and not flags.FLAGS['precision'].present:
    precision = _CONFIG.value.precision
  with tempfile.TemporaryDirectory() as scratch:
    out = pathlib.Path(_OUT.value or scratch).absolute()
    job = [
      Job(
        'workload',
        work,
        precision=precision,
        modes=tuple(_MODE.value),
        peer=_PEER.value,
        peer_compile=_PEER_COMPILE.value,
        seconds=_setting('seconds'),
        data=str(pathlib.Path(scratch, 'data')) if _setting('input') else '',
        members=_MEMBERS.value,
        fill=_FILL.value,
      )
      for work in _chosen()
    ]
    content = jobs.run_all(
      job,
      out,
      starts=_setting('starts'),
      budget=_setting('budget'),
      again=_AGAIN.value,
      say=lambda text: print(text, flush=True),
    )
    text = table.markdown(content)
    replace_text(out / 'benchmark.md', text)
  print(f'\n{text}')
  if _PAGE.value:
    page = pathlib.Path(_PAGE.value)
    replace_text(page, table.replace_between(page.read_text(), text))
  return 1 if any('error' in row for row in content['rows']) else 0


def main(argv: list[str]) -> None:
  """Runs; an error is one readable message and the exit status 2."""
  logging.set_verbosity(logging.WARNING)

  def checked() -> int:
    if len(argv) > 1:
      raise ValueError(f'Not understood: {" ".join(argv[1:])}. See --help.')
    return run()

  sys.exit(exit_status(checked))


def parse(argv: list[str]) -> list[str]:
  """Reads the flags; what is wrong with them is told in few lines."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, ValueError, OSError) as error:
    print(f'error: {str(error).strip().splitlines()[-1]}', file=sys.stderr)
    sys.exit(2)
