"""Data on the device: the batches of the host, bit for bit."""

import itertools

import jax
import numpy as np
import pytest
from test_pipeline import Records

from jaxderm import dispatch
from jaxderm.data import pipeline, resident

COUNT, BATCH, SIZE = 13, 4, 2
DRAWN = {'seed': 3, 'batch_size': BATCH}


class Noise(Records):
  """Pictures that differ in every pixel, of another shape each."""

  def __getitem__(self, i):
    rng = np.random.default_rng(i)
    record = super().__getitem__(i)
    shape = (5 + i, 9)
    return record | {
      'image': rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
      'mask': 255 * rng.integers(0, 2, (*shape, 1)).astype(np.uint8),
    }


def noise(rows, records=None, **settings):
  return pipeline.Examples(
    records or Noise(2 * COUNT), np.array(rows), SIZE, **settings
  )


class Lesions(Noise):
  """The same, each with a lesion at one side."""

  def __getitem__(self, i):
    record = super().__getitem__(i)
    lesion = np.zeros_like(record['mask'])
    lesion[:, :5] = 255
    return record | {'mask': lesion}


@pytest.mark.parametrize('start, dilation', [(0, -1), (5, -1), (0, 0)])
def test_batches_are_those_of_the_host(start, dilation, mesh):
  # Not in the order of the records, and not all of them.
  given = {'records': Lesions(2 * COUNT)} if dilation >= 0 else {}
  mine = noise([7, 3, 11, 20, 0, 9, 8, 25, 1], dilation=dilation, **given)
  union = resident.union([mine, noise([2, 3, 24])])
  columns = resident.load(union, mesh)
  order = pipeline.order(len(mine), **DRAWN)
  feed = dispatch.row_feed(order, resident.positions(mine, union))
  rows = feed(start, 6)
  assert rows.dtype == np.int32
  host = pipeline.training_batches(mine, start=start, threads=0, **DRAWN)
  seen = set()
  for row, expected in zip(rows, itertools.islice(host, 6), strict=True):
    batch = resident.take(columns, row, mesh)
    assert batch.keys() == expected.keys()
    for name, value in batch.items():
      assert value.dtype == expected[name].dtype
      np.testing.assert_array_equal(value, expected[name], err_msg=name)
    seen |= set(np.asarray(batch['label']).tolist())
    # The right half, where lesions are not.
    assert bool(batch['image'][:, :, 1].any()) == (dilation < 0)
    assert batch['image'][:, :, 0].all()
  assert seen == set(mine.rows.tolist())


def test_a_record_is_decoded_once_and_not_kept_on_the_host(mesh):
  records = Records()
  union = resident.union([noise([4, 1, 6], records), noise([6, 2], records)])
  np.testing.assert_array_equal(union.rows, [1, 2, 4, 6])
  columns = resident.load(union, mesh)
  np.testing.assert_array_equal(columns['label'], [1, 2, 4, 6])
  # The first of them once more, for its shape.
  assert sorted(records.read) == [1, 1, 2, 4, 6]
  assert not union._cache


def test_every_device_holds_everything(mesh):
  columns = resident.load(noise(range(3)), mesh)
  for column in columns.values():
    assert column.sharding.is_fully_replicated


def test_what_a_thread_cannot_decode_is_told(mesh):
  class Broken(Records):
    def __getitem__(self, i):
      if i == 2:
        raise OSError('picture 2 is broken')
      return super().__getitem__(i)

  with pytest.raises(OSError, match='picture 2'):
    resident.load(noise(range(4), Broken()), mesh)


# Image and mask of 2 x 2 pixels are 16 bytes, label and valid 8 more: 1024
# such examples are 24 KiB.
@pytest.mark.parametrize('count, expected', [(1024, True), (1025, False)])
def test_a_cpu_has_a_limit(count, expected, monkeypatch):
  monkeypatch.setattr(resident, 'LIMIT', 24 << 10)
  examples = pipeline.Examples(Records(), np.zeros(count, int), SIZE)
  assert resident.fits(examples) == expected


def test_the_budget_is_a_share_of_the_fullest_device(monkeypatch):
  class Device:
    def __init__(self, used):
      self.used = used

    def memory_stats(self):
      return {'bytes_limit': 80 << 30, 'bytes_in_use': self.used << 30}

  monkeypatch.setattr(jax, 'local_devices', lambda: [Device(0), Device(40)])
  assert resident.budget() == 10 << 30  # a quarter of 80 - 40
