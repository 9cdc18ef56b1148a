"""The benchmark: fair turns, right arithmetic, peers of the same network."""

import itertools
import json
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxderm import systems
from jaxderm.benchmark import jobs, ours, real, table, timing, torch_networks
from jaxderm.benchmark.measure import Job
from jaxderm.benchmark.workloads import WORKLOADS, Workload, every, find
from jaxderm.cost import parameters


class Machine:
  """A clock that only work moves on; remembers who worked."""

  def __init__(self):
    self.now = 0.0
    self.log = []

  def clock(self):
    return self.now

  def contestant(self, name, seconds):
    """Steps take the next of `seconds`, and the last of them for ever."""
    left = itertools.chain(seconds, itertools.repeat(seconds[-1]))

    def run(steps):
      self.log.append((name, steps))
      self.now += sum(next(left) for _ in range(steps))

    return run


def rates(machine, contestants, **settings):
  settings = {'images': 4, 'seconds': 3.0} | settings
  return timing.interleave(contestants, clock=machine.clock, **settings)


def test_contestants_take_turns_in_blocks_of_a_second():
  machine = Machine()
  contestants = {
    'a': machine.contestant('a', [0.25]),
    'b': machine.contestant('b', [2.0]),
  }
  rates(machine, contestants, seconds=0.0)
  warm = [('a', 2), ('a', 1), ('b', 2), ('b', 1)]
  # Four steps of a quarter of a second; one of two seconds.
  # Three rounds that do not count, three that do.
  assert machine.log == warm + [('a', 4), ('b', 1)] * 6


def test_a_step_of_one_may_have_more_images():
  machine = Machine()
  contestants = {k: machine.contestant(k, [1.0]) for k in 'ab'}
  found = rates(machine, contestants, images={'a': 4, 'b': 12})
  assert (found['a'].median, found['b'].median) == (4, 12)


def test_warm_up_does_not_count():
  machine = Machine()
  slow_first = machine.contestant('a', [50.0, 9.0, 0.5])
  found = rates(machine, {'a': slow_first})['a']
  assert found.median == found.low == found.high == 4 / 0.5
  assert found.steps == 2
  assert found.blocks == 3  # of a second each


def test_median_and_quartiles_of_the_blocks():
  machine = Machine()
  # The third step tells the length of a block, one step; the next three are
  # rounds that do not count.
  uneven = machine.contestant('a', [1, 1, 1, 9, 9, 9, 2, 4, 1, 8, 1])
  found = rates(machine, {'a': uneven}, images=8, seconds=16.0)['a']
  # Rates 4, 2, 8, 1, 8: in order 1, 2, 4, 8, 8.
  assert (found.low, found.median, found.high, found.blocks) == (2, 4, 8, 5)


def test_time_is_shared_by_all_and_a_round_is_finished():
  machine = Machine()
  contestants = {k: machine.contestant(k, [1.0]) for k in 'abc'}
  found = rates(machine, contestants, seconds=4.5)
  assert [found[k].blocks for k in 'abc'] == [5, 5, 5]


def test_energy_is_of_the_blocks_of_its_contestant():
  machine = Machine()
  contestants = {k: machine.contestant(k, [1.0]) for k in 'ab'}
  meter = itertools.count(0, 8)  # 8 joules between two readings
  found = rates(machine, contestants, joules=lambda: float(next(meter)))
  assert found['a'].joules == found['b'].joules == 8 / 4
  assert rates(machine, contestants)['a'].joules is None


def test_best_of_several_runs_without_the_first():
  machine = Machine()
  run = machine.contestant('a', [0.1, 3, 2, 4])
  best = timing.best_seconds(lambda: run(1), repeats=3, clock=machine.clock)
  assert best == pytest.approx(2)


def rate(median, **changes):
  return {
    'median': median,
    'low': median - 1,
    'high': median + 1,
    'blocks': 3,
    'steps': 1,
    'joules': None,
  } | changes


LIMITS = {
  'platform': 'cpu',
  'kind': 'abacus',
  'devices': 1,
  'cores': 2,
  'driver': None,
  'precision': 'float32',
  'peak_flops': 1000.0,
  'bandwidth': 50.0,
  'python': '3.11',
  'versions': {'jax': '1', 'torch': None},
  'date': '2026-01-01',
}


def row(name='A', mine=10.0, theirs=5.0, **changes):
  return {
    'name': name,
    'size': 64,
    'batch': 4,
    'precision': 'float32',
    'parameters': 1000,
    'peer': 'torch',
    'peer_parameters': 1000,
    'peer_compiled': 'eager',
    'flops': 200.0,
    'bytes': 20.0,
    'memory': 3 * 2**20,
    'memory_source': "compiler's plan",
    'train': {'ours': rate(mine), 'peer': rate(theirs), 'real': rate(8.0)},
    'first_step_cold': 7.0,
    'took': 1.0,
    'device': LIMITS,
  } | changes


def test_ratio_and_geometric_mean():
  assert table.ratio(row(), 'train') == 2
  assert table.ratio(row(), 'inference') is None
  assert table.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2)
  assert table.geometric_mean([]) is None


def test_floor_is_the_larger_of_operations_and_bytes():
  # 200 / 1000 = 0.2 s of operations, 20 / 50 = 0.4 s of bytes.
  assert table.floor(row()) == pytest.approx(0.4)
  assert table.floor(row(bytes=5.0)) == pytest.approx(0.2)
  assert table.floor(row(bytes=None)) == pytest.approx(0.2)


def test_share_of_peak_and_of_waiting():
  # 200 / 4 operations for an image, 10 images a second, of 1000.
  assert table.share_of_peak(row()) == pytest.approx(0.5)
  assert table.input_wait(row()) == pytest.approx(0.2)
  assert table.input_wait(row(mine=7.0)) == 0  # noise, not a gain


def test_five_members_in_the_time_of_two():
  together = row(members=5)  # one of them does 10 images a second
  assert table.members_cost(together) is None
  together['train']['members'] = {**together['train']['ours'], 'median': 25.0}
  assert table.members_cost(together) == pytest.approx(2.0)
  assert '| 5 as 2.00 |' in table.markdown({'rows': [together]})


def test_members_on_resident_images(tmp_path):
  made = ours.make(Workload('A', 'unet', {'encoder': 'Plain8'}), 'float32')
  examples = real.lesions(16, tmp_path, made.network)
  batch = ours.random_batch(16, 4, 2)
  both = real.Resident(made, batch, examples, members=2)
  before = jax.device_get([state.params for state in both._states])
  both(2)
  assert both.images == 4 * 2 * both._steps
  assert [int(s.step) for s in both._states] == [2 * both._steps] * 2
  # Two seeds, that both learn.
  first, second = jax.device_get([state.params for state in both._states])
  for a, b in [(first, before[0]), (second, before[1]), (first, second)]:
    assert any(
      (x != y).any()
      for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_table_says_what_was_measured_and_what_was_not():
  absent = row('C', peer_absent='the peer needs timm')
  del absent['train']['peer']
  content = {
    'rows': [
      row('A'),
      row('B', mine=40.0, peer_parameters=999),
      absent,
      row('D') | {'error': 'not done within 9 s'},
    ],
    'left_out': ['E'],
  }
  text = table.markdown(content)
  assert 'geometric mean of 2 ratios 4.00, lowest 2.00' in text
  assert (
    '| A | 64 | 4 | float32 | 1,000 | 10 (9-11, n=3) | 5 (4-6, n=3)' in text
  )
  assert '1,000 / 999' in text
  assert '400.0 / 400.0' in text  # 4 images at 10 images/s; the floor
  assert 'the peer needs timm' in text
  assert 'D: not done within 9 s' in text
  assert 'Left out for time: E.' in text
  # Nobody told the energy: there is no such column.
  assert 'J/image' not in text


def test_page_keeps_what_is_around_the_table():
  page = f'above\n{table.START}\nold\n{table.END}\nbelow\n'
  replaced = table.replace_between(page, 'new\n')
  assert replaced == f'above\n{table.START}\n\nnew\n\n{table.END}\nbelow\n'
  with pytest.raises(ValueError, match='benchmark: begin'):
    table.replace_between('no markers', 'new')


@pytest.mark.parametrize('name', every())
def test_every_name_is_a_workload(name):
  workload = find(name)
  assert workload.name == name
  assert workload.peer in (None, *torch_networks.names())
  systems.build(workload.system, **workload.changes)


def test_names_of_the_issue_are_there():
  assert len(WORKLOADS) == 13
  assert {row.peer for row in WORKLOADS.values()} == set(torch_networks.names())
  with pytest.raises(ValueError, match="Did you mean 'ResNet50'"):
    find('ResNet5O')


def test_batch_of_the_paper_or_of_the_device():
  workload = find('yang2021/UNet')
  assert workload.batch_for('gpu', fill=False) == 2
  assert workload.batch_for('gpu', fill=True) == 128
  assert find('ResNet50').batch_for('cpu', fill=True) == 32


@pytest.mark.parametrize('name', list(WORKLOADS))
def test_the_peer_has_as_many_parameters(name):
  torch = pytest.importorskip('torch')
  workload = WORKLOADS[name]
  network = systems.build(workload.system, **workload.changes)
  try:
    with torch.device('meta'):  # shapes alone: nothing is drawn or computed
      peer = torch_networks.make(workload.peer, network.classes)
      out = peer(torch.zeros(2, 3, 64, 96))
  except ImportError as error:
    pytest.skip(str(error))
  trainable, _ = parameters(network, 64)
  assert torch_networks.parameters(peer) == trainable
  maps = network.task == 'segmentation'
  right = (2, network.classes, *((64, 96) if maps else ()))
  assert tuple(out.shape) == right


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_the_peer_has_our_loss(task):
  torch = pytest.importorskip('torch')
  from jaxderm.benchmark import torch_peer
  from jaxderm.task import TASKS

  batch = ours.random_batch(8, 3, classes=5)
  maps = task == 'segmentation'
  logits = np.random.default_rng(1).normal(
    size=(3, 8, 8, 1) if maps else (3, 5)
  )
  mine = TASKS[task]({'name': ours.LOSSES[task]}).loss(logits, batch)

  def tensor(x):
    x = torch.from_numpy(np.asarray(x))
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x

  theirs = torch_peer.LOSSES[task](
    tensor(logits),
    {'mask': tensor(batch['mask']), 'label': tensor(batch['label']).long()},
  )
  assert float(theirs) == pytest.approx(float(mine.mean()), rel=1e-5)


@pytest.mark.parametrize(
  'probability, message',
  [
    (np.zeros((2, 8, 8, 2)), 'shape'),
    (np.full((2, 8, 8, 1), np.nan), 'not finite'),
  ],
)
def test_outputs_are_checked(probability, message):
  batch = ours.random_batch(8, 2, classes=2)
  with pytest.raises(ValueError, match=f'their output.*{message}'):
    ours.check_probability(probability, batch, 'segmentation', 1, 'their')


def test_a_job_survives_the_disk(tmp_path):
  job = Job('workload', find('ResNet50'), modes=('train',), limits={'a': 1})
  job.write(tmp_path / 'job.json')
  assert Job.read(tmp_path / 'job.json') == job


def fake_run(calls, slow=''):
  """In place of a process."""

  def run(job, timeout=None):
    calls.append((job.kind, job.workload.name, bool(job.cache)))
    if job.kind == 'device':
      return LIMITS
    if job.kind == 'first_step':
      return {'first_step': 30.0}
    if job.workload.name == slow:
      raise jobs.JobError('not done within 1 s')
    size, batch = job.workload.size, job.workload.batch
    found = row(job.workload.name, size=size, batch=batch, first_step=3.0)
    del found['first_step_cold'], found['device'], found['took']
    return found

  return run


def all_jobs(*names):
  return [Job('workload', Workload(name, 'x', size=64)) for name in names]


def run_all(out, wanted, **settings):
  settings = {'starts': True, 'budget': None, 'again': False} | settings
  return jobs.run_all(wanted, out, say=lambda _: None, **settings)


def test_two_starts_share_a_cache_and_one_has_none(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(jobs, 'run', fake_run(calls))
  (found,) = run_all(tmp_path, all_jobs('A'))['rows']
  assert calls[1:] == [('first_step', 'A', True), ('workload', 'A', True)]
  assert (found['first_step_cold'], found['first_step_cached']) == (30, 3)
  (found,) = run_all(tmp_path, all_jobs('A'), starts=False, again=True)['rows']
  assert calls[-1] == ('workload', 'A', False)
  assert found['first_step_cold'] == 3
  assert 'first_step_cached' not in found


def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(jobs, 'run', fake_run(calls, slow='B'))
  first = run_all(tmp_path, all_jobs('A', 'B'), starts=False)
  assert [r.get('error') for r in first['rows']] == [
    None,
    'not done within 1 s',
  ]
  calls.clear()
  run_all(tmp_path, all_jobs('A', 'B', 'C'), starts=False)
  assert [name for kind, name, _ in calls if kind == 'workload'] == ['B', 'C']
  written = json.loads((tmp_path / 'benchmark.json').read_text())
  assert [r['name'] for r in written['rows']] == ['A', 'B', 'C']


def test_what_there_is_no_time_for_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(jobs, 'run', fake_run([]))
  content = run_all(tmp_path, all_jobs('A', 'B'), budget=0.0)
  assert content == {'rows': [], 'left_out': ['A', 'B']}


def test_what_was_cut_off_is_left_out_and_is_no_error(tmp_path, monkeypatch):
  def slow(job, timeout=None):
    if job.kind == 'device':
      return LIMITS
    time.sleep(timeout)
    raise jobs.JobError('not done in time')

  monkeypatch.setattr(jobs, 'run', slow)
  content = run_all(tmp_path, all_jobs('A', 'B'), budget=0.1)
  assert content == {'rows': [], 'left_out': ['A', 'B']}


def test_a_job_that_fails_says_why():
  job = Job('workload', Workload('A', 'no/such', size=32))
  with pytest.raises(jobs.JobError, match="no system is called 'no/such'"):
    jobs.run(job)


def test_a_job_that_the_system_kills_says_what_to_do(monkeypatch):
  killed = subprocess.CompletedProcess([], -9, stdout='', stderr='')
  monkeypatch.setattr(jobs.subprocess, 'run', lambda *a, **k: killed)
  with pytest.raises(jobs.JobError, match='memory: try a smaller --batch'):
    jobs.run(Job('workload', Workload('A', 'x', size=32)))


def test_the_command_measures_a_config(tmp_path):
  root = pathlib.Path(__file__).parent.parent
  command = [sys.executable, '-m', 'jaxderm.benchmark']
  command += ['--config=configs/synthetic.py', '--config.data.size=32']
  command += ['--config.data.batch_size=1', '--nostarts', '--noinput']
  command += ['--seconds=0.01', '--mode=inference', f'--out={tmp_path}']
  done = subprocess.run(
    command, cwd=root, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  assert '| yang2021/UNet | 32 | 1 | float32 | 487,289 |' in done.stdout
  (found,) = json.loads((tmp_path / 'benchmark.json').read_text())['rows']
  assert found['inference']['ours']['median'] > 0
  assert found['first_step_cold'] > 0
  assert found['memory'] > 487_289 * 4 * 3  # parameters and Adam's moments
  assert found['device']['peak_flops'] > 1e8
