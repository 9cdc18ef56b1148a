"""One device, many devices, many hosts: what can be said of them on one."""

import itertools
import os
import sys

import jax
import numpy as np
import pytest
from programs import run

from jaxderm import sharding


@pytest.fixture
def have(monkeypatch):
  """Makes JAX see so many devices, or be one of so many processes."""

  def have(devices=None, processes=None, me=0):
    if devices:
      monkeypatch.setattr(sharding.jax, 'device_count', lambda: devices)
    if processes:
      monkeypatch.setattr(sharding.jax, 'process_count', lambda: processes)
      monkeypatch.setattr(sharding.jax, 'process_index', lambda: me)

  return have


# ------------------------------------------------------------- batch sizes


@pytest.mark.parametrize(
  'devices, batch, accumulate',
  [(1, 1, 1), (1, 7, 1), (1, 6, 3), (8, 8, 1), (8, 64, 8), (3, 12, 2)],
)
def test_batches_that_can_be_shared(devices, batch, accumulate, have):
  have(devices=devices)
  sharding.check_batch_size(batch, accumulate)


@pytest.mark.parametrize(
  'devices, batch, accumulate, told',
  [
    (8, 12, 1, ['batch_size 12', '8 devices', 'size of 8 or 16,']),
    (8, 2, 1, ['batch_size 2', 'size of 8,']),  # 0 is no batch
    (3, 8, 1, ['3 devices', 'size of 6 or 9,']),
    # Two parts of 6 on 4 devices: parts of 4 or 8 can be cut.
    (4, 12, 2, ['batch_size 12 in 2 part(s)', '4 devices', 'of 8 or 16,']),
    (4, 2, 2, ['size of 8,']),
    (1, 8, 3, ['batch_size is 8', 'accumulate=3', 'divisor of 8']),
    (8, 8, 0, ['batch_size is 8', 'accumulate=0', 'divisor of 8']),
    (8, 8, -2, ['accumulate=-2']),
  ],
)
def test_batches_that_cannot(devices, batch, accumulate, told, have):
  have(devices=devices)
  with pytest.raises(ValueError) as error:
    sharding.check_batch_size(batch, accumulate)
  for words in told:
    assert words in str(error.value)


@pytest.mark.parametrize('devices', [2, 3, 8])
@pytest.mark.parametrize('accumulate', [1, 2, 3])
def test_what_is_advised_can_be_shared(devices, accumulate, have):
  have(devices=devices)
  for batch in range(accumulate, 30, accumulate):
    try:
      sharding.check_batch_size(batch, accumulate)
    except ValueError as error:
      advised = str(error).split('batch size of ')[1].split(',')[0]
      for choice in advised.split(' or '):
        assert int(choice) > 0
        sharding.check_batch_size(int(choice), accumulate)
    else:
      assert batch % (accumulate * devices) == 0


@pytest.mark.parametrize('batch', [1, 2, 7, 8, 12])
@pytest.mark.parametrize('processes', [1, 2, 3, 4])
def test_own_rows_partition_a_batch(batch, processes, have):
  rows, lengths = [], []
  for me in range(processes):
    have(processes=processes, me=me)
    mine = list(range(batch))[sharding.own_rows(batch)]
    lengths.append(len(mine))
    rows += mine
  assert rows == list(range(batch))
  assert max(lengths) - min(lengths) <= 1


# ------------------------------------------------------------------- hosts


@pytest.fixture
def joined(monkeypatch):
  """The calls of jax.distributed.initialize, in an environment of one host."""
  calls = []
  monkeypatch.setattr(
    sharding.jax.distributed, 'initialize', lambda *args: calls.append(args)
  )
  for name in list(os.environ):
    if name.startswith(('SLURM_', 'OMPI_', 'TPU_', 'JOBSET_', 'JAX_COORD')):
      monkeypatch.delenv(name)
  return calls


def test_alone_nothing_is_joined(joined):
  sharding.join_hosts()
  assert joined == []


def test_three_arguments_are_passed_on(joined):
  sharding.join_hosts('localhost:1234', 2, 0)
  assert joined == [('localhost:1234', 2, 0)]


@pytest.mark.parametrize(
  'given',
  [
    ('localhost:1', None, None),
    (None, 2, None),
    (None, None, 0),  # process 0 is an argument, too
    ('localhost:1', 2, None),
    ('localhost:1', None, 0),
    (None, 2, 0),
  ],
)
def test_some_of_three_arguments_are_refused(given, joined, monkeypatch):
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
  names = '--coordinator, --num_processes and --process_id'
  with pytest.raises(ValueError, match=names):
    sharding.join_hosts(*given)
  assert joined == []


@pytest.mark.parametrize(
  'variables, joins',
  [
    ({'SLURM_STEP_NUM_TASKS': '2'}, True),
    ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    # A shell inside an allocation of two tasks is one process.
    ({'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '4'}, True),
    ({'OMPI_COMM_WORLD_SIZE': '1'}, False),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': ''}, False),
    ({'JOBSET_NAME': 'jaxderm'}, True),
    ({'JOBSET_NAME': ''}, False),
    ({'JAX_COORDINATOR_ADDRESS': 'localhost:1'}, True),
    ({'JAX_COORDINATOR_ADDRESS': ''}, False),
    # `mpirun -n 1` in a step of two tasks, or the other way round.
    ({'SLURM_STEP_NUM_TASKS': '2', 'OMPI_COMM_WORLD_SIZE': '1'}, True),
  ],
)
def test_clusters(variables, joins, joined, monkeypatch):
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  sharding.join_hosts()
  assert joined == ([()] if joins else [])


# ----------------------------------------------------------------- placing


def rows(count):
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (count, 3, 5, 3)).astype(np.uint8),
    'valid': np.arange(count, dtype=np.float32),
  }


def test_place_and_own_are_a_round_trip():
  mesh = sharding.make_mesh()
  assert mesh.axis_names == ('data',)
  batch = rows(2 * jax.device_count())
  placed = sharding.place(batch, mesh)
  assert placed.keys() == batch.keys()
  for name, array in placed.items():
    assert array.shape == batch[name].shape
    assert array.dtype == batch[name].dtype
    assert array.sharding.is_equivalent_to(sharding.by_row(mesh), array.ndim)
    back = sharding.own(array)
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, batch[name])


EIGHT = """
import jax, numpy as np
from jaxderm import sharding
assert jax.device_count() == 8
mesh = sharding.make_mesh()
rows = np.arange(16 * 3).reshape(16, 3)
placed = sharding.place({'x': rows}, mesh)['x']
shards = {s.index[0].start: np.asarray(s.data) for s in placed.addressable_shards}
assert sorted(shards) == list(range(0, 16, 2)), shards
for first, data in shards.items():
  np.testing.assert_array_equal(data, rows[first:first + 2])
np.testing.assert_array_equal(sharding.own(placed), rows)
# In an order of devices that is not that of the rows.
back = jax.sharding.Mesh(mesh.devices[::-1], ('data',))
placed = jax.device_put(rows, sharding.by_row(back))
np.testing.assert_array_equal(sharding.own(placed), rows)
# What every device holds is there once.
everywhere = jax.device_put(rows, sharding.replicated(mesh))
np.testing.assert_array_equal(sharding.own(everywhere), rows)
try:
  sharding.check_batch_size(12)
except ValueError as error:
  assert '8 or 16' in str(error)
else:
  raise AssertionError
"""


def test_eight_devices_hold_two_rows_each():
  run([sys.executable, '-c', EIGHT], devices=8)


# --------------------------------------------------------------- gathering


def test_alone_gathering_changes_nothing():
  x = np.arange(6.0).reshape(3, 2)
  np.testing.assert_array_equal(sharding.gather(x), x)
  np.testing.assert_array_equal(sharding.gather_uneven(x), x)
  assert sharding.gather_uneven(x[:0]).shape == (0, 2)
  sharding.barrier('alone')


@pytest.mark.parametrize('counts', [(3, 1), (0, 2), (2, 2), (1, 0, 4)])
def test_uneven_rows_of_several_processes(counts, monkeypatch):
  """What each process gives is put in the order of the processes."""
  ends = np.cumsum((0, *counts))
  whole = np.arange(2 * ends[-1], dtype=np.int32).reshape(-1, 2) + 1
  parts = [whole[a:b] for a, b in itertools.pairwise(ends)]
  most = max(counts)

  def all_processes(rows):
    """What `gather` gives, known from what every process holds."""
    if rows.ndim == 1:
      return np.array(counts)
    assert len(rows) == most  # alike in every process, or they would hang
    padded = [np.pad(p, ((0, most - len(p)), (0, 0))) for p in parts]
    assert any(np.array_equal(rows, p) for p in padded)
    return np.concatenate(padded)

  monkeypatch.setattr(sharding, 'gather', all_processes)
  for part in parts:
    gathered = sharding.gather_uneven(part)
    np.testing.assert_array_equal(gathered, whole)
    assert gathered.dtype == whole.dtype


@pytest.mark.parametrize('size', [0, -8])
def test_a_batch_of_nothing_is_refused(size):
  with pytest.raises(ValueError, match=f'batch_size is {size}'):
    sharding.check_batch_size(size)


@pytest.mark.parametrize('distributed, calls', [(True, 1), (False, 0)])
def test_one_can_say_that_there_are_others(monkeypatch, distributed, calls):
  seen = []
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *a: seen.append(a))
  sharding.join_hosts(distributed=distributed)
  assert len(seen) == calls
