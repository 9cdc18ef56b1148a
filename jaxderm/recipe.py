"""Every key that a config may have, each with its default.

A file under `configs/` starts from `default()` and changes values. The keys
are locked: a misspelt one is an error that lists the right ones.
"""

import ast
import json
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict, config_dict

# Keys that say where things are or how to show them: a run may be resumed,
# evaluated and used with other values.
FREE_KEYS = (
  'data.manual_dir',
  'data.data_dir',
  'data.threads',
  'data.resident',
  'model.remat',
  'dispatch',
  'evaluate',
  'log_seconds',
  'compilation_cache',
)


# Sections whose other keys are the settings of what is named in them.
OPEN_SECTIONS = (
  'loss',
  'model.changes',
  'data.options',
  'data.repeats',
  'data.augment',
  'optim.schedule',
  'optim.settings',
)


def default() -> ConfigDict:
  """A config of every key, locked."""
  config = ConfigDict()
  config.task = 'segmentation'
  # A member is a seed and a fold; all else is the recipe.
  config.seed = 0
  config.fold = 0
  config.epochs = 100
  config.precision = 'float32'  # or 'bfloat16': of computation, not of state

  config.model = dict(
    system='yang2021/UNet',
    # What `systems.build` may change in that system, such as activation.
    changes=dict(),
    # A file of ImageNet weights to start from: see pretrained.load.
    encoder_weights=config_dict.placeholder(str),
    # What a step keeps of the encoder's old statistics of BatchNorm; None is
    # its publisher's share, which for MobileNetV2 outlasts a short run.
    norm_momentum=config_dict.placeholder(float),
    # Whether the gradient makes activations anew instead of keeping them: less
    # memory, mostly for more time; None is on a CPU where they are many
    # (remat.py). But for rounding, the same is learned.
    remat=config_dict.placeholder(bool),
  )
  config.loss = dict(name='bce_dice')  # and the constants it takes

  config.data = dict(
    name='synthetic',
    options=dict(),  # arguments of the data set's builder
    manual_dir=config_dict.placeholder(str),  # the publisher's files
    data_dir=config_dict.placeholder(str),  # built data sets
    size=128,  # pixels, both sides
    # How an image becomes a square: 'squeeze' keeps all of it, 'crop' keeps its
    # shapes (data/pipeline.py).
    fit='squeeze',
    # Pixels at that size, from 0: what is further than this from the lesion's
    # mask is black (data/dilation.py); -1 is off. For classification.
    dilation=-1,
    batch_size=8,  # images in a step, all devices together
    split='grouped',
    split_file=config_dict.placeholder(str),  # JSON of ids, instead
    split_seed=0,
    folds=5,
    validation=0.1,  # share of what is not test
    # How often an epoch shows a training image, by name of its class; once if
    # the class is not named.
    repeats=dict(),
    # What is done where an age is missing: it counts as the training images'
    # 'mean', or as their 'median' with one more column that says so
    # (model.changes.metadata=22); or the image is left out, whatever the
    # network: 'drop' (data/metadata.py).
    missing_age='mean',
    colour='grey_world',
    # What the network's input looks like (data/colour.py); None is what its
    # weights expect, which nothing else may contradict.
    normalisation=config_dict.placeholder(str),
    augment=dict(),  # name to arguments; see data/augment.py
    threads=2,  # host threads that decode and resize
    # Whether the training images are kept on the devices, decoded; None is on
    # accelerators where they fit (data/resident.py). The batches are the same.
    resident=config_dict.placeholder(bool),
  )

  config.optim = dict(
    name='adam',
    learning_rate=1e-4,
    schedule=dict(name='constant'),
    settings=dict(),  # of optax's transformation, such as eps
    weight_decay=0.0,
    decoupled=False,
    decayed='kernels',  # or 'convolutions', or 'all'
    clip=config_dict.placeholder(float),
    accumulate=1,
  )

  # What validation decides: which state is kept, when the rate falls, when to
  # stop. A patience of 0 switches a rule off.
  config.monitor = dict(
    name='loss',
    mode='min',
    every=1,  # epochs between evaluations
    stop_patience=0,
    stop_min_delta=0.0,
    # What the plateau rule looks at; None is the same.
    plateau_name=config_dict.placeholder(str),
    plateau_mode=config_dict.placeholder(str),
    plateau_patience=0,
    plateau_factor=0.1,
    plateau_min_delta=1e-4,
    plateau_floor=0.0,
  )

  config.evaluate = dict(
    batch_size=8,
    # Test-time augmentation, see inference.py; on the command line as
    # --config.evaluate.views="('identity','hflip')".
    views=('identity',),
    threshold=0.5,
    # Where masks are scored: at each image's 'own' size, or at the 'network's,
    # as some papers do (scoring.py).
    scored_at='own',
    # Of two heads that were trained on pairs: '1', '2', or the one that is
    # better on 'validation' images (pair_heads.py).
    head='validation',
    # Gaussian noise on the images that are scored: its deviation on [0, 1].
    noise=0.0,
    noise_seed=0,
    # What the probabilities of classes are brought to before they are scored:
    # 'none', 'validation' (fitted there) or a number (calibration.py).
    temperature='none',
    smallest_group=30,  # images that a group must have to be scored (groups.py)
    resamples=2000,  # of the bootstrap
  )

  # Steps that a device is given at once, if the images are on it; None is 1 on
  # a CPU, else 16 (dispatch.py). But for rounding, what is learned is the same.
  config.dispatch = config_dict.placeholder(int)
  config.log_seconds = 10.0
  config.compilation_cache = '~/.cache/jaxderm/compiled'  # '' for none
  config.lock()
  return config


def flatten(config: dict, prefix: str = '') -> dict:
  """Nested keys to 'a.b.c', values as they are."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, dict) and value:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat


def within(key: str, sections: tuple[str, ...]) -> bool:
  """Whether a key 'a.b.c' is one of the sections, or in one."""
  return any(key == s or key.startswith(s + '.') for s in sections)


def differences(saved: dict, given: dict) -> list[str]:
  """'key: saved -> given' for each key that makes two configs two runs.

  A key that is younger than the saved config had its default then.
  """
  # As JSON has them: a tuple comes back as a list.
  given, usual = (
    flatten(json.loads(json.dumps(config)))
    for config in (given, default().to_dict())
  )
  saved = flatten(saved)
  younger = {k: v for k, v in usual.items() if k not in saved and k in given}
  saved, absent = younger | saved, '(absent)'
  return [
    f'{key}: {saved.get(key, absent)!r} -> {given.get(key, absent)!r}'
    for key in sorted(saved | given)
    if saved.get(key, absent) != given.get(key, absent)
    and not within(key, FREE_KEYS)
  ]


def read_changes(given: Sequence[str]) -> dict[str, object]:
  """{'data.size': 128} of 'data.size=128'; what is no literal is text."""
  changes = {}
  for text in given:
    key, equals, value = text.partition('=')
    if not equals:
      raise ValueError(f'--set {text}: expected KEY=VALUE.')
    try:
      changes[key] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
      changes[key] = value
  return changes


def change(config: ConfigDict, changes: Mapping[str, object]) -> ConfigDict:
  """A copy of a config with keys 'a.b' set; a section is replaced whole.

  Raises:
    ValueError: There is no such key, or it has values of another type.
  """
  config = config.copy_and_resolve_references()
  for key, value in changes.items():
    *path, last = key.split('.')
    node = config
    for name in path:
      node = node.get(name) if isinstance(node, ConfigDict) else None
    known = isinstance(node, ConfigDict) and last in node
    if not known and not within(key, OPEN_SECTIONS):
      raise ValueError(
        f'--set {key}: no such key of a config; recipe.py lists them.'
      )
    with config.unlocked():
      try:
        node[last] = ConfigDict(value) if isinstance(value, dict) else value
      except TypeError as error:
        raise ValueError(
          f'--set {key}: {value!r} is of the wrong type: {error}.'
        ) from error
  return config
