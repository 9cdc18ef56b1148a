"""A run that is killed ends as one that is not, bit for bit."""

import fcntl
import json
import random
import signal
import subprocess
import time

import numpy as np
import pytest
from programs import (
  ROOT,
  assert_same_runs,
  command,
  distance,
  environment,
  final_arrays,
  main,
)

KILLS = 4
LONGER = '--config.epochs=14'  # long enough to be killed in
# Adam makes whole steps of gradients that are rounding errors (a bias before a
# BatchNorm has no other), so what differs by rounding is compared under SGD.
SMOOTH = ('--config.epochs=1', '--config.optim.name=sgd')
ROUNDING = 1e-3


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
  main(workdir, LONGER)
  return workdir


def start(workdir, log):
  return subprocess.Popen(
    command(workdir, LONGER),
    env=environment(),
    cwd=ROOT,
    stdout=log,
    stderr=subprocess.STDOUT,
  )


def touched(workdir):
  """When the run last opened or wrote its metrics."""
  metrics = workdir / 'metrics.jsonl'
  return metrics.stat().st_mtime if metrics.exists() else 0


def has_trained(workdir):
  metrics = workdir / 'metrics.jsonl'
  return metrics.exists() and metrics.stat().st_size > 0


def wait_for(condition, log):
  deadline = time.monotonic() + 180
  while not condition():
    assert time.monotonic() < deadline, log.read_text()
    time.sleep(0.02)


def validations(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  events = map(json.loads, lines)
  return [(e['step'], e['loss']) for e in events if e['kind'] == 'validation']


def test_killed_at_random_times(undisturbed, tmp_path):
  workdir, log_path = tmp_path / 'run', tmp_path / 'log'
  seed, kills = random.randrange(10**6), 0
  rng = random.Random(seed)
  with log_path.open('w') as log:
    while kills < KILLS:
      before = time.time()
      process = start(workdir, log)
      wait_for(lambda at=before: touched(workdir) > at, log_path)
      # From compiling, through steps, checkpoints and validations, to the end.
      try:
        code = process.wait(timeout=rng.uniform(0.2, 5.0))
      except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
      else:
        assert code == 0, log_path.read_text()
        break
    else:
      assert start(workdir, log).wait(timeout=300) == 0, log_path.read_text()
  assert kills >= 2, f'seed {seed}: {log_path.read_text()}'
  assert_same_runs(undisturbed, workdir)
  # The metrics are those of one run, none twice, none lost.
  assert validations(workdir) == validations(undisturbed)


def test_asked_to_stop_it_saves_and_goes_on(undisturbed, tmp_path):
  workdir, log = tmp_path / 'run', tmp_path / 'log'
  with log.open('w') as file:
    process = start(workdir, file)
    wait_for(lambda: has_trained(workdir), log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143, log.read_text()
  assert 'the same command goes on' in log.read_text()
  assert 'going on at step' in main(workdir, LONGER)
  assert_same_runs(undisturbed, workdir)


def test_a_finished_run_is_left_as_it_is(undisturbed):
  before = final_arrays(undisturbed), validations(undisturbed)
  main(undisturbed, LONGER)
  after = final_arrays(undisturbed), validations(undisturbed)
  np.testing.assert_equal(after, before)


def test_two_cannot_train_in_one_folder(undisturbed):
  before = final_arrays(undisturbed)
  with (undisturbed / '.lock').open('w') as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    told = main(undisturbed, LONGER, expect=2)
  assert 'Another process is training' in told
  np.testing.assert_equal(final_arrays(undisturbed), before)


def test_another_config_is_refused(undisturbed):
  told = main(
    undisturbed,
    LONGER,
    '--config.optim.learning_rate=0.5',
    '--config.data.folds=4',
    expect=2,
  )
  assert 'optim.learning_rate: 0.003 -> 0.5' in told
  assert 'data.folds: 5 -> 4' in told
  assert 'Traceback' not in told


@pytest.fixture(scope='module')
def smooth(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('smooth') / 'run'
  main(workdir, *SMOOTH)
  return workdir


def test_eight_devices_train_as_one(smooth, tmp_path):
  """BatchNorm is over the whole batch, however it is cut."""
  main(tmp_path / 'run', *SMOOTH, devices=8)
  assert distance(smooth, tmp_path / 'run') < ROUNDING


def test_a_batch_that_devices_cannot_share(tmp_path):
  told = main(tmp_path / 'run', devices=3, expect=2)
  assert 'batch_size 8' in told
  assert '3 devices' in told
  assert '6 or 9' in told


def test_two_processes_train_as_one(smooth, tmp_path):
  port = random.randrange(20000, 60000)
  logs = [tmp_path / f'log{i}' for i in range(2)]
  processes = []
  for i, log in enumerate(logs):
    args = (
      *SMOOTH,
      f'--coordinator=127.0.0.1:{port}',
      '--num_processes=2',
      f'--process_id={i}',
    )
    with log.open('w') as file:
      processes.append(
        subprocess.Popen(
          command(tmp_path / 'run', *args),
          env=environment(devices=2),
          cwd=ROOT,
          stdout=file,
          stderr=subprocess.STDOUT,
        )
      )
  for process, log in zip(processes, logs, strict=True):
    assert process.wait(timeout=300) == 0, log.read_text()
  assert distance(smooth, tmp_path / 'run') < ROUNDING
  one, two = (
    json.loads((workdir / 'summary.json').read_text())
    for workdir in (smooth, tmp_path / 'run')
  )
  assert one['n_images'] == two['n_images']
  assert one['per_image']['dice'] == pytest.approx(
    two['per_image']['dice'], abs=1e-3
  )
