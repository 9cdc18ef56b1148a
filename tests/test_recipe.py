"""Configs: their keys, what makes two of them two runs, whose a workdir is."""

import collections
import importlib.util
import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxderm import class_weights, experiment, recipe, systems, workdirs
from jaxderm.data import augment, build

CONFIGS = sorted((Path(__file__).parent.parent / 'configs').glob('*.py'))


def systems_of(paper, task='segmentation'):
  names = [r.name for r in systems.SYSTEMS.values() if r.task == task]
  return [n.partition('/')[2] for n in names if n.startswith(f'{paper}/')]


YANG, ZARRIN = systems_of('yang2021'), systems_of('zarrin2025')
# What may follow ':' in each file; None is the file's own choice.
OFFERS = {
  'folder': (None, 'yang2021/UNet'),
  'ham10000': (None, *systems_of('le2020', 'classification')),
  'ham10000_augmented': (None, 'VGG16'),
  'ham10000_encoder': (None, 'Plain8'),
  'ham10000_soft_attention': (None, 'MobileNetV3Small'),
  'isic2016_pairs': (
    None,
    *systems_of('wei2020', 'classification'),
    *systems_of('wei2020', 'pairwise'),
  ),
  'isic2016_unet': (None, *systems_of('wei2020')),
  'isic2017_rfe': (None, 'ResNet34RFE'),
  'isic2018_rfe': (None, 'ResNet34RFE'),
  'isic2018_unetpp': (None, *YANG),
  'ph2_rfe': (None, *ZARRIN),
  'ph2_unetpp': (None, *YANG),
  'synthetic': (None, 'UNet'),
}
EVERY = [
  pytest.param(path, system, id=f'{path.stem}:{system or ""}')
  for path in CONFIGS
  for system in OFFERS.get(path.stem, (None,))
]
# Sections whose other keys are free by name.
FREE = (
  'loss',
  'data.options',
  'data.repeats',
  'data.augment',
  'model.changes',
  'optim.schedule',
  'optim.settings',
)


def get_config(path, system=None):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*([] if system is None else [system]))


def is_in(key, sections):
  return any(key == s or key.startswith(s + '.') for s in sections)


# --------------------------------------------------------- keys and defaults


def test_the_default_is_locked_and_tells_what_was_meant():
  config = recipe.default()
  with pytest.raises(AttributeError, match='epochs'):
    config.epoch = 3
  with pytest.raises(AttributeError, match='batch_size'):
    config.data.batchsize = 3
  with pytest.raises(TypeError):
    config.epochs = 'many'


def test_defaults_are_not_shared():
  one, two = recipe.default(), recipe.default()
  one.data.augment = dict(hflip=dict())
  one.data.size = 7
  assert two.data.augment.to_dict() == {}
  assert two.data.size == 128


def test_flatten_by_hand():
  nested = {'a': 1, 'b': {'c': 2, 'd': {'e': [3]}, 'f': {}}, 'g': {}}
  flat = {'a': 1, 'b.c': 2, 'b.d.e': [3], 'b.f': {}, 'g': {}}
  assert recipe.flatten(nested) == flat


def test_free_keys_exist():
  """A key that was renamed would silently be compared again."""
  flat = recipe.flatten(recipe.default().to_dict())
  for key in recipe.FREE_KEYS:
    assert any(is_in(k, [key]) for k in flat), key


# --------------------------------------------------------------- differences


def changed(**values):
  """The default with a__b=1 for 'a.b', as a dict."""
  config = recipe.default().to_dict()
  for key, value in values.items():
    *above, last = key.split('__')
    section = config
    for name in above:
      section = section.setdefault(name, {})
    section[last] = value
  return config


def test_equal_configs_do_not_differ():
  assert recipe.differences(changed(), changed()) == []


def test_a_run_that_is_older_than_a_key_had_its_default():
  saved, given = changed(), changed()
  del saved['data']['fit'], saved['monitor']['plateau_mode']
  assert recipe.differences(saved, given) == []
  given['data']['fit'] = 'crop'
  told = recipe.differences(saved, given)
  assert told == ["data.fit: 'squeeze' -> 'crop'"]


def test_differences_name_nested_keys_in_order():
  given = changed(seed=3, optim__learning_rate=0.5, data__augment__hflip__p=0.3)
  told = recipe.differences(changed(data__augment__hflip__p=0.5), given)
  assert told == [
    'data.augment.hflip.p: 0.5 -> 0.3',
    'optim.learning_rate: 0.0001 -> 0.5',
    'seed: 0 -> 3',
  ]


def test_keys_that_one_side_lacks():
  saved, given = changed(loss__alpha=1.0), changed(loss__smooth=2.0)
  told = recipe.differences(saved, given)
  assert [x.replace("'", '') for x in told] == [
    'loss.alpha: 1.0 -> (absent)',
    'loss.smooth: (absent) -> 2.0',
  ]


def test_free_keys_are_ignored_and_no_others():
  other = {
    'data.manual_dir': '/a',
    'data.data_dir': '/b',
    'data.threads': 7,
    'model.remat': True,
    'data.resident': True,
    'dispatch': 8,
    'evaluate.batch_size': 3,
    'evaluate.views': ('identity', 'hflip'),
    'evaluate.threshold': 0.3,
    'evaluate.resamples': 5,
    'evaluate.scored_at': 'network',
    'evaluate.head': '2',
    'evaluate.temperature': 'validation',
    'evaluate.smallest_group': 5,
    'evaluate.noise': 0.1,
    'evaluate.noise_seed': 3,
    'log_seconds': 1.5,
    'compilation_cache': '',
  }
  flat = recipe.flatten(recipe.default().to_dict())
  for key, value in flat.items():
    free = key in other
    given = dict(flat) | {key: other.get(key, 'something else')}
    assert given[key] != value
    told = recipe.differences(flat, given)
    assert len(told) == (0 if free else 1), key
    assert free or told[0].startswith(f'{key}: ')


def test_names_that_begin_like_a_free_key_are_not_free():
  a = {'evaluate': {'x': 1}, 'evaluated': 1, 'data': {'threads_of': 1}}
  b = {'evaluate': {'x': 2}, 'evaluated': 2, 'data': {'threads_of': 2}}
  told = [x.split(':')[0] for x in recipe.differences(a, b)]
  assert told == ['data.threads_of', 'evaluated']


# ------------------------------------------------------------------- configs


def test_every_config_is_listed():
  assert {path.stem for path in CONFIGS} == set(OFFERS)


@pytest.mark.parametrize('path, system', EVERY)
def test_keys_are_those_of_the_recipe(path, system):
  config = get_config(path, system)
  right = {
    k for k in recipe.flatten(recipe.default().to_dict()) if not is_in(k, FREE)
  }
  given = recipe.flatten(config.to_dict())
  assert {k for k in given if not is_in(k, FREE)} == right
  assert config.is_locked
  # JSON, and back, and it is still the same run.
  saved = json.loads(json.dumps(config.to_dict()))
  assert recipe.differences(saved, config.to_dict()) == []


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_a_config_says_what_it_is_and_how_it_is_started(path):
  text = path.read_text()
  assert f'--config=configs/{path.name}' in text
  assert '--workdir=' in text
  # A config is values: no branches, no loops.
  assert not {'if', 'for', 'while', 'try'} & set(text.split('"""')[2].split())


@pytest.mark.parametrize('path, system', EVERY)
def test_what_a_config_names_can_be_built(path, system):
  config = get_config(path, system)
  config.compilation_cache = ''
  if config.loss.get('alpha') in class_weights.RULES:
    # It becomes numbers when the data are known.
    config.loss = config.loss.to_dict() | {'alpha': 1.0}
  made = experiment.make(config)
  name = config.model.changes.get('encoder', config.model.system)
  row = systems.SYSTEMS.get(config.model.system)
  assert (
    row is None
    or config.task != 'classification'
    or (config.data.size == row.size)
  )
  if system is not None:
    assert name.rpartition('/')[2] == system.rpartition('/')[2]
  assert made.network.task == made.task.name == config.task
  # The data set's builder exists and takes the options.
  assert config.data.name in build.DATASETS
  build._choose_options(
    build.DATASETS[config.data.name], config.data.options.to_dict()
  )
  # The rate at the start and in the middle, an update of one weight.
  tx, schedule = made.make_optimizer(100)
  middle = float(schedule(50))
  assert 0 < middle <= config.optim.learning_rate
  params = {'kernel': jnp.ones((1,))}
  updates, _ = tx.update({'kernel': jnp.ones((1,))}, tx.init(params), params)
  assert math.isfinite(float(updates['kernel'][0]))
  # Loss, augmentation and network fit one another; nothing is computed.
  small = 64
  batch = {
    'image': jax.ShapeDtypeStruct((2, small, small, 3), jnp.uint8),
    'mask': jax.ShapeDtypeStruct((2, small, small, 1), jnp.uint8),
    'label': jax.ShapeDtypeStruct((2,), jnp.int32),
    'metadata': jax.ShapeDtypeStruct((2, 21), jnp.float32),
  }

  def losses(batch):
    seen = made.prepare(batch, jax.random.key(0))
    inputs = [seen[name] for name in made.task.inputs]
    logits, _ = made.network.init_with_output(jax.random.key(0), *inputs, False)
    return made.task.loss(logits, seen), made.task.probabilities(logits)

  loss, probability = jax.eval_shape(losses, batch)
  assert loss.shape == (2,)
  classes = 2 if config.data.name == 'isic2016_part3' else 7
  shapes = {
    'segmentation': (small, small, 1),
    'classification': (classes,),
    'pairwise': (2, classes),  # of two heads
  }
  assert probability.shape == (2, *shapes[config.task])
  image = made.example(4)['image']
  assert image.shape == (4, config.data.size, config.data.size, 3)


def test_the_papers_configs_are_the_papers():
  """SPEC: Adam at 1e-4, batches of 2, 100 epochs, 256 pixels, alpha 1."""
  for path in CONFIGS:
    if path.stem in ('ph2_unetpp', 'isic2018_unetpp'):
      flat = recipe.flatten(get_config(path).to_dict())
      assert flat['optim.name'] == 'adam'
      assert flat['optim.learning_rate'] == 1e-4
      assert flat['data.batch_size'] == 2
      assert flat['data.size'] == 256
      assert flat['epochs'] == 100
      assert flat['loss.name'] == 'bce_dice'
      assert flat['loss.alpha'] == 1.0
      assert flat['model.system'] == 'yang2021/EfficientUNetPlusPlus'


def test_do2022s_config_is_the_papers():
  """SPEC 3.5 to 3.7."""
  path = next(p for p in CONFIGS if p.stem == 'ham10000_soft_attention')
  config = get_config(path)
  counts = (327, 514, 1099, 115, 1113, 6705, 142)
  expected = class_weights.balanced(np.array(counts))
  assert config.loss.weights == pytest.approx(expected, abs=5e-5)
  flat = recipe.flatten(config.to_dict())
  printed = {
    'data.batch_size': 32,
    'data.fit': 'crop',
    'data.missing_age': 'drop',
    'data.augment': {},
    'optim.learning_rate': 1e-3,
    'optim.settings.eps': 0.1,
    'monitor.name': 'accuracy',
    'monitor.stop_patience': 25,
    'monitor.plateau_name': 'loss',
    'monitor.plateau_factor': 0.2,
    'monitor.plateau_patience': 5,
    'monitor.plateau_floor': 1e-7,
    'epochs': 250,
  }
  assert {k: flat[k] for k in printed} == printed
  assert get_config(path, 'InceptionResNetV2').data.size == 299
  assert get_config(path, 'NASNetLarge').data.size == 331
  # Adam's first update is g / (|g| + eps).
  config.compilation_cache = ''
  tx, _ = experiment.make(config).make_optimizer(9)
  params = {'kernel': jnp.ones(2)}
  gradient = {'kernel': jnp.asarray([0.1, -0.3])}
  updates, _ = tx.update(gradient, tx.init(params), params)
  expected = [-1e-3 * 0.5, 1e-3 * 0.75]
  assert updates['kernel'].tolist() == pytest.approx(expected, rel=1e-4)


def test_le2020s_and_wei2020s_configs_are_the_papers():
  """SPEC 5.2, 5.3 and 2.3, 2.6."""
  get = {p.stem: p for p in CONFIGS}
  flat = recipe.flatten(get_config(get['ham10000'], 'ResNet50').to_dict())
  assert flat['model.system'] == 'le2020/ResNet50'
  assert flat['loss.alpha'] == 'balanced_mean'
  assert (flat['loss.gamma'], flat['data.batch_size']) == (2, 64)
  assert (flat['optim.learning_rate'], flat['epochs']) == (1e-4, 50)
  for system, task, batch in (
    ('MobileNetV1', 'classification', 32),
    ('DCMobileNetV1', 'pairwise', 64),  # 32 pairs
  ):
    flat = recipe.flatten(get_config(get['isic2016_pairs'], system).to_dict())
    assert (flat['task'], flat['data.batch_size']) == (task, batch)
    repeats = [flat[f'data.repeats.{k}'] for k in ('benign', 'malignant')]
    assert repeats == [3, 13]
    assert flat['data.validation'] == 0.2


def test_a_system_for_another_task_is_refused(monkeypatch):
  row = systems.System('other/Net', 'pairwise', None)
  monkeypatch.setitem(systems.SYSTEMS, 'other/Net', row)
  config = recipe.default()
  config.compilation_cache = ''
  config.model.system = 'other/Net'
  with pytest.raises(ValueError, match="other/Net.*pairwise.*'segmentation'"):
    experiment.make(config)


def test_the_protocol_of_ucm_net_can_be_written():
  """SPEC 4.5: AdamW, cosines of 30 epochs to 1e-5, images by their range."""
  config = recipe.default()
  config.compilation_cache = ''
  config.data.update(
    size=256,
    batch_size=8,
    colour='none',
    normalisation='min_max',
  )
  config.data.augment = dict(augment.RECIPES['zarrin2025'])
  config.optim.update(
    learning_rate=1e-3,
    weight_decay=0.01,
    decoupled=True,
    decayed='all',
  )
  config.optim.schedule = dict(name='cosine', final=1e-5, halves=10)
  config.epochs = 300
  config.evaluate.scored_at = 'network'
  made = experiment.make(config)
  _, schedule = made.make_optimizer(300)
  for epoch, rate in [(0, 1e-3), (30, 1e-5), (60, 1e-3), (270, 1e-5)]:
    assert float(schedule(epoch)) == pytest.approx(rate, rel=1e-3)
  image = jnp.asarray([[[[20, 40, 60]], [[50, 30, 25]]]], jnp.uint8)
  seen = made.prepare({'image': image}, None)['image']
  expected = [[0, 0.5, 1], [0.75, 0.25, 0.125]]
  assert seen[0, :, 0] == pytest.approx(jnp.asarray(expected))


@pytest.mark.parametrize(
  'key, value, told',
  [
    ('scored_at', 'netwrok', r"evaluate\.scored_at is 'netwrok'.*network, own"),
    ('noise', -0.1, r'evaluate\.noise is -0\.1.*\[0, 1\]'),
  ],
)
def test_wrong_ways_to_evaluate_are_told_before_training(key, value, told):
  config = recipe.default()
  config.compilation_cache = ''
  config.evaluate[key] = value
  with pytest.raises(ValueError, match=told):
    experiment.make(config)


@pytest.mark.parametrize(
  'key, value, told',
  [
    ('data.fit', 'stretch', r"data\.fit is 'stretch'.*crop, squeeze"),
    ('data.fit', 'crop', r"data\.fit is 'crop', but masks are of whole images"),
    ('data.dilation', -2, r'data\.dilation is -2; .*whole number of pixels'),
    ('data.dilation', 10, r'data\.dilation is 10, but a network that segments'),
    ('data.missing_age', 'zero', r"missing_age is 'zero'.*mean, median, drop"),
    ('monitor.plateau_name', 'auc', r"plateau_name is 'auc'.*dice.*loss"),
    ('monitor.plateau_mode', 'up', r"plateau_mode is 'up'; use 'min' or 'max'"),
  ],
)
def test_wrong_values_are_told_before_training(key, value, told):
  config = recipe.default()
  config.compilation_cache = ''
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=told):
    experiment.make(config)


# ------------------------------------------------------------------ workdirs


def claimed(tmp_path, **values):
  """A workdir with the config of a run, as JSON has it."""
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(changed(**values)))
  return workdir


def config_with(**values):
  config = ml_collections.ConfigDict(changed(**values))
  return config.lock()


def test_a_new_workdir_is_made_and_left_empty(tmp_path):
  workdir = tmp_path / 'a' / 'b'
  workdirs.claim(recipe.default(), workdir)
  assert workdir.is_dir()
  assert list(workdir.iterdir()) == []
  workdirs.claim(recipe.default(), workdir)


def test_the_same_config_may_go_on(tmp_path):
  workdir = claimed(tmp_path)
  before = (workdir / 'config.json').read_bytes()
  workdirs.claim(recipe.default(), workdir)
  workdirs.claim(config_with(data__threads=9, log_seconds=2.5), workdir)
  assert [p.name for p in workdir.iterdir()] == ['config.json']
  assert (workdir / 'config.json').read_bytes() == before


def test_another_config_is_refused_by_its_keys(tmp_path):
  workdir = claimed(tmp_path)
  given = config_with(seed=1, optim__learning_rate=0.5, data__threads=9)
  with pytest.raises(ValueError, match='another config') as told:
    workdirs.claim(given, workdir)
  assert 'seed: 0 -> 1' in str(told.value)
  assert 'optim.learning_rate: 0.0001 -> 0.5' in str(told.value)
  assert str(workdir) in str(told.value)
  assert 'threads' not in str(told.value)


@pytest.mark.parametrize(
  'values',
  [
    {'model__changes__widths': (64, 32, 16, 8)},
    {'data__augment__cutout__fill': (0.0, 0.0, 0.0)},
  ],
)
def test_a_config_with_a_tuple_may_go_on(values, tmp_path):
  workdirs.claim(config_with(**values), claimed(tmp_path, **values))


def test_a_config_that_is_no_json_is_named(tmp_path):
  workdir = claimed(tmp_path)
  (workdir / 'config.json').write_text('{"seed": ')
  with pytest.raises(ValueError, match=r'config\.json is not JSON'):
    workdirs.claim(recipe.default(), workdir)


@pytest.mark.parametrize('below', [False, True])
def test_a_file_is_no_workdir(below, tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  workdir = file / 'run' if below else file
  with pytest.raises(OSError, match='cannot be written') as told:
    workdirs.claim(recipe.default(), workdir)
  assert f'--workdir {workdir}' in str(told.value)
  assert file.read_text() == ''


def test_a_full_disk_is_told_before_training(tmp_path, monkeypatch):
  def full(self, data):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(Path, 'write_bytes', full)
  with pytest.raises(OSError, match=r'cannot be written \(No space left'):
    workdirs.claim(recipe.default(), tmp_path / 'run')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_of_somebody_else(tmp_path):
  tmp_path.chmod(0o500)
  try:
    with pytest.raises(OSError, match='Permission denied'):
      workdirs.claim(recipe.default(), tmp_path / 'run')
  finally:
    tmp_path.chmod(0o700)


State = collections.namedtuple('State', 'key, params')
Disk = collections.namedtuple('Disk', 'total, used, free')


@pytest.mark.parametrize('free, fits', [(76 << 20, True), (75 << 20, False)])
def test_space_for_three_checkpoints(free, fits, tmp_path, monkeypatch):
  # A million float32 are 4 MiB; three of them and 64 MiB are 76.
  state = State(jax.random.key(0), jnp.zeros(1 << 20))
  monkeypatch.setattr(workdirs.shutil, 'disk_usage', lambda _: Disk(0, 0, free))
  if fits:
    workdirs.check_space(tmp_path, state)
  else:
    with pytest.raises(OSError, match='75 MiB free.*need 76 MiB'):
      workdirs.check_space(tmp_path, state)


def test_changes_of_a_config():
  config = recipe.default()
  changed = recipe.change(config, {'loss': {'name': 'bce'}, 'data.size': 32})
  assert changed.loss.to_dict() == {'name': 'bce'}
  assert (changed.data.size, config.data.size) == (32, 128)
  assert recipe.change(config, {'loss.alpha': 0.5}).loss.alpha == 0.5
  for key in ('data.sise', 'data.size.x', 'sise'):
    with pytest.raises(ValueError, match=f'--set {key}: no such key'):
      recipe.change(config, {key: 1})
  for key, value in (('data.dilation', 1.5), ('data.size', 'x')):
    with pytest.raises(ValueError, match=f'--set {key}: .* of the wrong type'):
      recipe.change(config, {key: value})


def test_changes_as_a_person_writes_them():
  given = ['data.size=32', 'loss.name=bce', 'evaluate.views=("hflip",)']
  assert recipe.read_changes(given) == {
    'data.size': 32,
    'loss.name': 'bce',
    'evaluate.views': ('hflip',),
  }
  with pytest.raises(ValueError, match='--set data.size: expected KEY=VALUE'):
    recipe.read_changes(['data.size'])
