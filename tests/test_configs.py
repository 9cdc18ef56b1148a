"""Each config, shrunk, trains a few steps: what it names works together."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from jaxderm import systems, train
from jaxderm.checkpoint import Checkpoints

CONFIGS = Path(__file__).parent.parent / 'configs'
# An encoder of no size, for what the rest of a recipe does.
TINY = {'encoder': 'Plain8', 'taps': ('stage2',)}
QUICK = [
  ('folder', 'yang2021/UNet'),
  ('ham10000_encoder', 'Plain8'),
  ('ham10000_soft_attention', 'MobileNetV2', TINY),
  ('isic2016_pairs', 'DCMobileNetV1', TINY),
  ('isic2016_unet', 'UMobileNetV1'),
  ('ph2_rfe', 'UNet'),
  ('ph2_unetpp', 'UNet'),
  ('ph2_unetpp', 'UNetPlusPlus'),
  ('synthetic', 'UNet'),
]
# Most networks take half a minute and more to compile on a CPU.
SLOW = [
  ('folder', 'yang2021/EfficientUNetPlusPlus'),
  ('folder', 'le2020/UResNet34'),
  ('ham10000', 'MobileNet'),
  ('ham10000_augmented', 'ResNet50Augmented'),
  ('ham10000_soft_attention', 'MobileNetV2'),
  ('isic2016_pairs', 'DCMobileNetV1'),
  ('isic2016_pairs', 'SqueezeNet'),
  ('isic2017_rfe', 'ResNet34RFE'),
  *[
    (name, system.partition('/')[2])
    for name, paper in (
      ('isic2016_unet', 'wei2020/'),
      ('isic2018_rfe', 'zarrin2025/'),
      ('isic2018_unetpp', 'yang2021/'),
      ('ph2_rfe', 'zarrin2025/'),
      ('ph2_unetpp', 'yang2021/'),
    )
    for system, row in systems.SYSTEMS.items()
    if system.startswith(paper) and row.task == 'segmentation'
  ],
]
SLOW = [row for row in SLOW if row not in QUICK]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def shrunk(name, system, data_dir, changes=None):
  path = CONFIGS / f'{name}.py'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(system)
  config.data.name = 'synthetic'
  config.data.split = 'grouped'
  config.data.folds = 5
  config.data.validation = 0.1
  config.data.repeats = dict()
  changes = config.model.changes.to_dict() | (changes or {})
  if config.task != 'segmentation':
    changes['classes'] = 3
  config.model.changes = changes
  if 'weights' in config.loss:
    config.loss = config.loss.to_dict() | {'weights': 'equal'}
  config.data.options = dict(n=24, size=32)
  config.data.data_dir = str(data_dir)
  config.data.size = 32
  config.data.batch_size = 8
  config.evaluate.batch_size = 8
  config.evaluate.resamples = 20
  config.epochs = 1
  return config


def test_every_config_is_trained():
  names = {path.stem for path in CONFIGS.glob('*.py')}
  assert {name for name, *_ in QUICK + SLOW} == names


@pytest.mark.parametrize(
  'name, system, changes',
  [
    *((*row, {})[:3] for row in QUICK),
    *(pytest.param(*row, {}, marks=pytest.mark.slow) for row in SLOW),
  ],
)
def test_two_steps(name, system, changes, data_dir, tmp_path):
  config = shrunk(name, system, data_dir, changes)
  workdir = tmp_path / 'run'
  train.train(config, workdir)
  split = json.loads((workdir / 'split.json').read_text())
  assert len(split['train']) // 8 == 2
  events = [json.loads(x) for x in (workdir / 'metrics.jsonl').open()]
  assert [(e['step'], e['kind']) for e in events][-1] == (2, 'validation')
  assert max(e['step'] for e in events if e['kind'] == 'train') == 2
  for event in events:
    assert all(
      math.isfinite(v) for k, v in event.items() if k not in ('kind',)
    ), event
  rates = [e['learning_rate'] for e in events if e['kind'] == 'train']
  highest = pytest.approx(config.optim.learning_rate)
  assert rates
  assert all(0 <= r < config.optim.learning_rate or r == highest for r in rates)
  saved = json.loads((workdir / 'config.json').read_text())
  model = saved['model']
  assert system in (
    model['system'].rpartition('/')[2],
    model['system'],
    model['changes'].get('encoder'),
  )
  checkpoints = Checkpoints(workdir / 'checkpoints')
  assert checkpoints.latest() == 2
  checkpoints.close()
