"""Trains, evaluates and uses a network.

python -m jaxderm.main --config=configs/ph2_unetpp.py --workdir=runs/ph2
python -m jaxderm.main --config=... --workdir=runs/ph2 --folds=0,1,2,3,4
python -m jaxderm.main --mode=evaluate --workdir=runs/ph2 --split=test
python -m jaxderm.main --mode=predict --workdir=runs/ph2 --images=A --out=B
python -m jaxderm.main --mode=explain --workdir=runs/ph2 --split=test
python -m jaxderm.main --mode=fuse --members=runs/a,runs/b --workdir=runs/ab
"""

import difflib
import pathlib
import re
import sys

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxderm import host, recipe, sharding
from jaxderm.writer import exit_status

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file under configs/; ":NAME" after it picks a system.'
)
_SET = flags.DEFINE_multi_string(
  'set',
  [],
  'KEY=VALUE, such as model.changes.activation=mish: also of keys that a '
  'section does not have yet.',
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder of the run.')
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'evaluate', 'predict', 'explain', 'fuse'],
  'What to do.',
)
_SEEDS = flags.DEFINE_list(
  'seeds', [], 'train: several seeds at once, in WORKDIR/seed0, seed1, ...'
)
_FOLDS = flags.DEFINE_list(
  'folds', [], 'train: several folds at once, in WORKDIR/fold0, fold1, ...'
)
_SPLIT = flags.DEFINE_enum(
  'split',
  None,
  ['train', 'validation', 'test'],
  'What to evaluate on; the test images, if there are any, unless given.',
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint', 'best', "'best', 'latest' or a step."
)
_IMAGES = flags.DEFINE_string('images', None, 'predict: a folder of images.')
_METADATA = flags.DEFINE_string(
  'metadata',
  None,
  'predict: a CSV of image_id, age, sex and localization, for networks that '
  'ask for them.',
)
_MASKS = flags.DEFINE_string(
  'masks',
  None,
  'predict: a folder of masks of the lesions, for networks that see no more '
  '(data.dilation).',
)
_TAP = flags.DEFINE_string(
  'tap',
  None,
  'predict, explain: the feature map that is looked at; the last one that the '
  'network builds unless given.',
)
_OUT = flags.DEFINE_string(
  'out', None, 'Where results go; evaluate: the workdir if not given.'
)
_MEMBERS = flags.DEFINE_list(
  'members', [], 'fuse: the folders of two or more runs.'
)
_WEIGHTS = flags.DEFINE_list(
  'weights',
  ['mean'],
  "fuse: 'mean', 'validation' (picked on it), or a number for each member.",
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0, if there are several.'
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them, from 0.')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', None, 'There are other hosts; looked for unless given.'
)
_DEBUG = flags.DEFINE_bool('debug', False, 'Show where an error came from.')


def saved_config(workdir: pathlib.Path) -> ConfigDict:
  """The config that a workdir was trained with."""
  # Only here: a training is told what to train.
  from jaxderm.checkpoint import load_json

  saved = load_json(workdir / 'config.json')
  config = recipe.default()
  config.unlock()
  config.update(ConfigDict(saved, convert_dict=True))
  return config.lock()


def run() -> int:
  """Does what the flags say; returns the exit status."""
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  host.prepare()
  sharding.join_hosts(
    _COORDINATOR.value,
    _NUM_PROCESSES.value,
    _PROCESS_ID.value,
    distributed=_DISTRIBUTED.value,
  )
  if _MODE.value == 'fuse':
    return fuse(workdir)
  config = _CONFIG.value
  if config is None:
    config = saved_config(workdir)
  config = recipe.change(config, recipe.read_changes(_SET.value))
  # Imported where they are needed: orbax, grain and tfds take seconds.
  if _MODE.value == 'predict':
    from jaxderm import predict

    return predict.predict(
      config,
      workdir,
      _IMAGES.value,
      _OUT.value,
      _CHECKPOINT.value,
      metadata=_METADATA.value,
      masks=_MASKS.value,
      tap=_TAP.value,
    )
  if _MODE.value == 'explain':
    from jaxderm import explain

    explain.explain(
      config,
      workdir,
      _SPLIT.value,
      _CHECKPOINT.value,
      _OUT.value,
      _TAP.value,
    )
    return 0
  from jaxderm import evaluate, train, workdirs

  runs = workdirs.members(
    config, workdir, [*map(int, _SEEDS.value)], [*map(int, _FOLDS.value)]
  )
  if _MODE.value == 'train':
    train.train_together(runs)
  split, checkpoint = _SPLIT.value, _CHECKPOINT.value
  for config, workdir in runs:
    evaluate.evaluate(config, workdir, split, checkpoint, _OUT.value)
  return 0


def fuse(workdir: pathlib.Path) -> int:
  """Fuses the members; the section `evaluate` of a --config is for all."""
  from jaxderm import fusion

  folders = [pathlib.Path(path).absolute() for path in _MEMBERS.value]
  weights, given = ','.join(_WEIGHTS.value), _CONFIG.value
  fusion.fuse(
    [(saved_config(folder), folder) for folder in folders],
    pathlib.Path(_OUT.value or workdir).absolute(),
    weights if weights in ('mean', 'validation') else _WEIGHTS.value,
    _SPLIT.value,
    _CHECKPOINT.value,
    None if given is None else given.evaluate,
  )
  return 0


def check_flags(argv: list[str]) -> None:
  """Raises ValueError where the flags do not say enough."""
  if len(argv) > 1:
    raise ValueError(f'Not understood: {" ".join(argv[1:])}. See --help.')
  if not _WORKDIR.value:
    raise ValueError('--workdir=FOLDER must say where the run is kept.')
  if _MODE.value == 'train' and _CONFIG.value is None:
    raise ValueError('--config=configs/FILE.py must say what to train.')
  for flag in (_SEEDS, _FOLDS):
    if flag.value and (_MODE.value != 'train' or _OUT.value):
      raise ValueError(
        f'--{flag.name} is for --mode=train without --out; evaluate or use one '
        f'member by its folder, such as --workdir={_WORKDIR.value}/seed0.'
      )
    if not all(number.isdigit() for number in flag.value):
      raise ValueError(
        f'--{flag.name}={",".join(flag.value)} must be numbers from 0, such as '
        f'--{flag.name}=0,1,2.'
      )
  if (_MODE.value == 'fuse') != bool(_MEMBERS.value):
    raise ValueError(
      '--mode=fuse and --members=FOLDER,FOLDER go together: the runs to fuse.'
    )
  if _WEIGHTS.present and _MODE.value != 'fuse':
    raise ValueError('--weights is for --mode=fuse.')
  for flag in (_METADATA, _MASKS):
    if flag.value and _MODE.value != 'predict':
      raise ValueError(f'--{flag.name} is for --mode=predict.')
  if _TAP.value and _MODE.value not in ('predict', 'explain'):
    raise ValueError('--tap is for --mode=predict and --mode=explain.')
  if _MODE.value == 'predict' and not (_IMAGES.value and _OUT.value):
    raise ValueError(
      '--mode=predict needs --images=FOLDER to read and --out=FOLDER to write.'
    )


def main(argv: list[str]) -> None:
  """Runs; an error is one readable message and the exit status 2."""
  logging.set_verbosity(logging.WARNING)

  def checked() -> int:
    check_flags(argv)
    return run()

  sys.exit(exit_status(checked, _DEBUG.value))


def parse(argv: list[str]) -> list[str]:
  """Reads the flags; what is wrong with them is told in few lines."""
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    # A key set by the config file, or one given behind it.
    found = re.search('Key "(.+?)" does not exist', str(error))
    given = [found[1]] if found else _keys_given(argv)
    message = _unknown_key(given) or _lacking_key(given, str(error))
    message = message or f'{type(error).__name__}: {error}'
  except (flags.Error, ValueError, TypeError, OSError) as error:
    # The message may hold a traceback of the config file; its end says it.
    message = str(error).strip()
    if 'Traceback' in message:
      message = f'the config file fails: {message.splitlines()[-1]}'
  print(f'error: {message}', file=sys.stderr)
  sys.exit(2)


def _keys_given(argv: list[str]) -> list[str]:
  start = '--config.'
  return [a.removeprefix(start).split('=')[0] for a in argv if start in a]


def _unknown_key(given: list[str]) -> str | None:
  keys = sorted(recipe.flatten(recipe.default().to_dict()))
  for key in given:
    if key not in keys and not recipe.within(key, recipe.OPEN_SECTIONS):
      near = difflib.get_close_matches(key, keys, 2, 0.5)
      return (
        f'a config has no key {key!r}.'
        + (f' Did you mean {" or ".join(near)}?' if near else '')
        + f' The keys are {", ".join(keys)}, and what is named in '
        + f'{", ".join(recipe.OPEN_SECTIONS)}.'
      )
  return None


def _lacking_key(given: list[str], told: str) -> str | None:
  """For keys that only some configs have; `told` names the last part."""
  for key in given:
    if repr(key.rpartition('.')[2]) in told:
      return f'this config does not set {key!r}; give it as --set={key}=VALUE.'
  return None


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
