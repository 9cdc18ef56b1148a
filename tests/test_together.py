"""Seeds and folds trained together are those trained one by one."""

import dataclasses
import itertools
import json
import types

import numpy as np
import pytest
from programs import assert_same_runs, distance, final_arrays

from jaxderm import dispatch, interrupts, recipe, train, workdirs
from jaxderm.checkpoint import Checkpoints
from jaxderm.data import resident

# In six steps of SGD with momentum: a vmapped convolution sums in another
# order. BatchNorm's statistics are of pixels up to 255 (found: 9e-5).
ROUNDING = 3e-4


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return str(tmp_path_factory.mktemp('data'))


def small(data_dir, **values):
  """Two epochs of three steps on drawn lesions, with a network of no size."""
  config = recipe.default()
  config.model.system = 'unet'
  config.model.changes = dict(
    encoder='Plain8', taps=('stage1', 'stage2'), widths=(8,)
  )
  config.data.options = dict(n=40, size=32)
  config.data.data_dir = data_dir
  config.data.size = 16
  config.data.resident = True
  config.data.augment = dict(hflip=dict(p=0.5))
  config.optim.name = 'sgd'
  config.optim.learning_rate = 0.01
  config.epochs = 2
  config.compilation_cache = f'{data_dir}/compiled'
  config.update(values)
  return config


@pytest.fixture(scope='module')
def separate(data_dir, tmp_path_factory):
  """Each member, trained alone with batches from the host."""
  root = tmp_path_factory.mktemp('separate')
  config = small(data_dir)
  config.data.resident = False
  runs = workdirs.members(config, root, (0, 1), (0, 1))
  for member, workdir in runs:
    train.train(member, workdir)
  return root


@pytest.fixture
def vmapped(monkeypatch):
  """As on an accelerator: members share a program; tells how many did."""
  seen, make = [], dispatch.make_resident

  def make_resident(*args):
    advance = make(*args, together=True)

    def counted(states, *rest):
      seen.append(len(states))
      return advance(states, *rest)

    return counted

  monkeypatch.setattr(dispatch, 'make_resident', make_resident)
  return seen


def metrics(workdir, kind='validation'):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [e for e in map(json.loads, lines) if e['kind'] == kind]


def test_seeds_and_folds_together(separate, data_dir, tmp_path, vmapped):
  config = small(data_dir, dispatch=2)
  runs = workdirs.members(config, tmp_path, (0, 1), (0, 1))
  train.train_together(runs)
  assert set(vmapped) == {4}
  assert len(vmapped) == 4  # of 3 steps in an epoch: 2 and 1, twice
  names = [f'seed{s}_fold{f}' for s, f in itertools.product((0, 1), (0, 1))]
  assert sorted(p.name for p in tmp_path.iterdir()) == names
  for name in names:
    one, other = separate / name, tmp_path / name
    assert distance(one, other) < ROUNDING
    saved = json.loads((other / 'config.json').read_text())
    assert name == f'seed{saved["seed"]}_fold{saved["fold"]}'
    split = (other / 'split.json').read_text()
    assert split == (one / 'split.json').read_text()
    for a, b in zip(metrics(one), metrics(other), strict=True):
      assert (a['step'], a['epoch']) == (b['step'], b['epoch'])
      assert a['loss'] == pytest.approx(b['loss'], rel=1e-4)
  # They are members that differ, not one four times.
  for other in names[1:]:
    assert distance(tmp_path / names[0], tmp_path / other) > 20 * ROUNDING
  assert len({json.dumps(metrics(tmp_path / n)[0]) for n in names}) == 4


def test_by_turns_and_on_the_device_it_is_the_run_of_the_host(
  separate, data_dir, tmp_path
):
  """As on a CPU; bit for bit."""
  runs = workdirs.members(small(data_dir), tmp_path, (0, 1), (1,))
  train.train_together(runs)
  for name in ('seed0_fold1', 'seed1_fold1'):
    assert_same_runs(separate / name, tmp_path / name)


def test_stopped_and_started_again(data_dir, tmp_path, monkeypatch, vmapped):
  """Within an epoch, in the middle of what others would dispatch at once."""
  config = small(data_dir, dispatch=2)
  whole = workdirs.members(config, tmp_path / 'whole', (0, 1))
  train.train_together(whole)
  runs = workdirs.members(config, tmp_path / 'parts', (0, 1))
  asked = interrupts.Interrupts.asked
  monkeypatch.setattr(
    interrupts.Interrupts, 'asked', lambda self, number: number == 2
  )
  for _ in range(2):
    with pytest.raises(interrupts.Terminated):
      train.train_together(runs)
  assert [int(final_arrays(w)["['step']"]) for _, w in runs] == [3, 3]
  monkeypatch.setattr(interrupts.Interrupts, 'asked', asked)
  train.train_together(runs)
  for (_, one), (_, other) in zip(whole, runs, strict=True):
    assert_same_runs(one, other)
    assert len(metrics(other)) == len(metrics(one)) == 2


def test_one_that_is_ahead_waits_for_the_other(data_dir, tmp_path, vmapped):
  """As after a kill between two saves."""
  config = small(data_dir)
  (first, ahead), second = workdirs.members(config, tmp_path, (0, 1))
  shorter = first.copy_and_resolve_references()
  shorter.epochs = 1
  train.train(shorter, ahead)
  content = json.loads((ahead / 'config.json').read_text()) | {'epochs': 2}
  (ahead / 'config.json').write_text(json.dumps(content))
  del vmapped[:]
  train.train_together([(first, ahead), second])
  assert vmapped == [1, 1, 1, 2, 2, 2]
  for workdir in (ahead, second[1]):
    assert [e['step'] for e in metrics(workdir)] == [3, 6]


def test_one_that_stops_early_is_left_behind(data_dir, tmp_path, vmapped):
  """Its own validation decides, and its last checkpoint is from then."""
  config = small(data_dir, epochs=3)
  config.monitor.stop_patience = 1
  runs = workdirs.members(config, tmp_path, (0, 1))
  evaluate = train.Member.evaluate

  def spoil(member):
    """Nothing is a gain for the second."""
    if member.name == 'seed1':
      member.progress = member.progress.__class__(stop_best=-1.0)
    evaluate(member)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train.Member, 'evaluate', spoil)
    train.train_together(runs)
  assert vmapped == [2] * 3 + [1] * 6
  assert [len(metrics(w)) for _, w in runs] == [3, 1]
  assert [Checkpoints(w / 'checkpoints').latest() for _, w in runs] == [9, 3]


def test_one_that_breaks_does_not_stop_the_other(data_dir, tmp_path, vmapped):
  runs = workdirs.members(small(data_dir), tmp_path, (0, 1))
  opened = train._open

  def spoil(config, workdir, name):
    member = opened(config, workdir, name)
    if name == 'seed0':
      make = member.plan.make
      member.plan = dataclasses.replace(
        member.plan, make=lambda: make().replace(rate=np.float32(np.nan))
      )
    return member

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train, '_open', spoil)
    with pytest.raises(train.NotFiniteError, match='seed0: .* at step 1'):
      train.train_together(runs)
  assert [len(metrics(w)) for _, w in runs] == [0, 2]


# ------------------------------------------------------- names and programs


def test_folders_and_configs_of_members(tmp_path):
  config = recipe.default()
  assert workdirs.members(config, tmp_path) == [(config, tmp_path)]
  runs = workdirs.members(config, tmp_path, seeds=(3, 0))
  assert [(c.seed, c.fold, w.name) for c, w in runs] == [
    (3, 0, 'seed3'),
    (0, 0, 'seed0'),
  ]
  runs = workdirs.members(config, tmp_path, folds=(4,))
  assert [(c.seed, c.fold, w.name) for c, w in runs] == [(0, 4, 'fold4')]
  assert config.fold == 0  # nobody else's
  with pytest.raises(ValueError, match='--seeds=1,1 names one twice'):
    workdirs.members(config, tmp_path, seeds=(1, 1))


def test_a_run_is_no_folder_of_runs(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match='Choose another --workdir'):
    workdirs.members(recipe.default(), tmp_path, seeds=(0,))


def test_members_of_other_epochs_or_weights_have_programs_of_their_own():
  class Fake:
    def __init__(self, fold, epoch_steps, alpha):
      self.config = recipe.default()
      self.config.fold, self.epoch_steps = fold, epoch_steps
      self.config.loss = dict(name='weighted_cross_entropy', alpha=alpha)

  a, b = Fake(0, 5, 1.0), Fake(1, 5, 1.0)
  longer, weighed = Fake(2, 6, 1.0), [Fake(f, 5, 'balanced') for f in (0, 1, 1)]
  assert train._share_program([a, longer, b]) == [[a, b], [longer]]
  assert train._share_program(weighed) == [weighed[:1], weighed[1:]]


def test_on_a_cpu_images_are_kept_only_if_asked_for(monkeypatch):
  config = recipe.default()
  member = types.SimpleNamespace(
    config=config,
    experiment=types.SimpleNamespace(mesh=None),
    data=types.SimpleNamespace(training='images'),
  )
  monkeypatch.setattr(resident, 'union', lambda parts: parts)
  monkeypatch.setattr(resident, 'fits', lambda examples: True)
  monkeypatch.setattr(resident, 'load', lambda *given: 'columns')
  assert config.data.resident is None
  assert train._keep_on_device([member]) is None
  config.data.resident = True
  assert train._keep_on_device([member]) == (['images'], 'columns')
