"""What step k sees, what evaluation sees, and resizing by hand."""

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxderm import sharding
from jaxderm.data import pipeline

COUNT, BATCH = 13, 4


class Records:
  """Pictures of 5 x 5 pixels, filled with their number; counts readings."""

  def __init__(self, count=COUNT):
    self.count, self.read = count, []

  def __getitem__(self, i):
    assert 0 <= i < self.count
    self.read.append(i)
    return {
      'image': np.full((5, 5, 3), i, np.uint8),
      'mask': np.full((5, 5, 1), 255 * (i % 2), np.uint8),
      'label': i,
    }


def examples(count=COUNT, rows=None, size=2):
  rows = np.arange(count) if rows is None else rows
  return pipeline.Examples(Records(count), rows, size)


def drawn(count, *, source=None, **settings):
  """Labels of the first batches, [count, rows of this process]."""
  how = {'seed': 0, 'batch_size': BATCH, 'threads': 0} | settings
  batches = pipeline.training_batches(source or examples(), **how)
  return np.array([b['label'] for b in itertools.islice(batches, count)])


@pytest.fixture
def be_process(monkeypatch):
  """Makes this process number `index` of `count`."""

  def be(index, count):
    monkeypatch.setattr(sharding.jax, 'process_index', lambda: index)
    monkeypatch.setattr(sharding.jax, 'process_count', lambda: count)

  return be


# ---------------------------------------------------------------- training


@pytest.mark.parametrize('threads', [0, 1, 2])
def test_step_k_is_the_same_from_wherever_a_run_starts(threads):
  whole = drawn(12)
  np.testing.assert_array_equal(drawn(12, threads=threads), whole)
  for start in (1, 5, 9):  # 9 is in the third pass over the data
    late = drawn(12 - start, start=start, threads=threads)
    np.testing.assert_array_equal(late, whole[start:])


@pytest.mark.parametrize('threads', [0, 2])
@pytest.mark.parametrize('processes', [2, 4])
@pytest.mark.parametrize('start', [0, 3])
def test_processes_see_together_what_one_sees(
  threads, processes, start, be_process
):
  whole = drawn(7)[start:]
  parts = []
  for index in range(processes):
    be_process(index, processes)
    parts.append(drawn(7 - start, start=start, threads=threads))
    assert parts[-1].shape[1] == BATCH // processes
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_a_process_reads_its_own_rows_alone(be_process):
  be_process(1, 2)
  source = examples()
  mine = drawn(3, source=source)
  assert sorted(source._records.read) == sorted({*mine.ravel().tolist()})


def test_every_image_is_seen_once_in_every_pass():
  # 13 batches of 4 are 4 passes over 13 images; batches span their borders.
  passes = drawn(13).reshape(4, COUNT)
  for one in passes:
    assert sorted(one) == list(range(COUNT))
  assert len({tuple(one) for one in passes}) == 4  # shuffled anew
  assert all((one != np.arange(COUNT)).any() for one in passes)


def test_fewer_images_than_a_batch():
  # Two batches of 4 are four passes over 2 images.
  seen = drawn(2, source=examples(2)).reshape(4, 2)
  assert [sorted(one) for one in seen.tolist()] == [[0, 1]] * 4


def test_another_seed_is_another_order():
  orders = {tuple(drawn(4, seed=seed).ravel()) for seed in range(5)}
  assert len(orders) == 5


def test_a_batch_is_made_as_promised():
  batch = next(
    pipeline.training_batches(examples(), seed=3, batch_size=BATCH, threads=0)
  )
  shapes = {k: (v.shape, v.dtype) for k, v in batch.items()}
  assert shapes == {
    'image': ((BATCH, 2, 2, 3), np.uint8),
    'mask': ((BATCH, 2, 2, 1), np.uint8),
    'label': ((BATCH,), np.int32),
    'valid': ((BATCH,), np.float32),
  }
  for image, mask, label in zip(
    batch['image'], batch['mask'], batch['label'], strict=True
  ):
    assert (image == label).all()
    assert (mask == label % 2).all()
  np.testing.assert_array_equal(batch['valid'], 1)


# -------------------------------------------------------------- evaluation


@pytest.mark.parametrize('count', [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize('processes', [1, 2])
def test_evaluation_shows_every_image_once(count, processes, be_process):
  hosts = []
  for index in range(processes):
    be_process(index, processes)
    hosts.append(list(pipeline.evaluation_batches(examples(count), BATCH)))
  seen = []
  for number, parts in enumerate(zip(*hosts, strict=True)):
    indices = np.concatenate([i for i, _ in parts])
    labels = np.concatenate([b['label'] for _, b in parts])
    valid = np.concatenate([b['valid'] for _, b in parts])
    assert len(indices) == BATCH
    assert valid.dtype == np.float32
    real = min(BATCH, count - number * BATCH)
    np.testing.assert_array_equal(valid, [1] * real + [0] * (BATCH - real))
    np.testing.assert_array_equal(indices[real:], -1)
    np.testing.assert_array_equal(labels[:real], indices[:real])
    seen += indices[:real].tolist()
  assert seen == list(range(count))


def test_padding_leaves_the_cache_alone():
  """A padded row shows an image whose own `valid` stays 1."""
  source = examples(2)
  for _ in range(2):
    ((_, batch),) = pipeline.evaluation_batches(source, BATCH)
    np.testing.assert_array_equal(batch['valid'], [1, 1, 0, 0])
  assert source[0]['valid'] == 1


# -------------------------------------------------------- a source of examples


def test_the_cache_changes_nothing_but_readings(monkeypatch):
  kept = examples(4)
  # Image and mask of 4 pictures of 2 x 2 are 4 * 2 * 2 * 4 = 64 bytes.
  monkeypatch.setattr(pipeline, 'CACHE_BYTES', 63)
  anew = examples(4)
  for i in (0, 1, 2, 3, 2, 2, 0):
    a, b = kept[i], anew[i]
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  assert kept._records.read == [0, 1, 2, 3]
  assert anew._records.read == [0, 1, 2, 3, 2, 2, 0]
  monkeypatch.setattr(pipeline, 'CACHE_BYTES', 64)
  fits = examples(4)
  fits[1], fits[1]
  assert fits._records.read == [1]


def test_rows_and_subsets_are_of_the_records():
  source = examples(rows=np.array([7, 3, 11, 5]))
  assert len(source) == 4
  assert [int(source[i]['label']) for i in range(4)] == [7, 3, 11, 5]
  part = source.subset([3, 0])
  np.testing.assert_array_equal(part.rows, [5, 7])
  assert [int(part[i]['label']) for i in range(2)] == [5, 7]
  assert part.record(0)['image'].shape == (5, 5, 3)
  assert part[0]['image'].shape == (2, 2, 3)
  assert len(source.subset(np.array([], int))) == 0


# ------------------------------------------------------------------ resizing


def grey(*rows):
  return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=-1)


def test_shrinking_averages_areas():
  image = grey([0, 10, 100, 100], [20, 30, 100, 104])
  image = np.concatenate([image, image + 50])
  expected = grey([15, 101], [65, 151])
  np.testing.assert_array_equal(pipeline.resize(image, 2), expected)


def test_odd_sizes_share_the_pixel_in_the_middle():
  # Three pixels to two: each takes one and a half, 2/3 and 1/3 of its area.
  image = grey([0, 90, 210], [0, 90, 210], [0, 90, 210])
  np.testing.assert_array_equal(
    pipeline.resize(image, 2), grey([30, 170], [30, 170])
  )


def test_a_picture_is_squeezed_not_cropped():
  # 2 x 6 pixels to 2 x 2: height is kept, three columns become one.
  image = grey([0, 30, 60, 90, 120, 150], [9, 9, 9, 3, 3, 3])
  np.testing.assert_array_equal(
    pipeline.resize(image, 2), grey([30, 120], [9, 3])
  )


def test_growing_is_bilinear():
  # Centres of four pixels lie at 1/4 and 3/4 of the way between two.
  image = grey([0, 100], [0, 100])
  expected = grey(*[[0, 25, 75, 100]] * 4)
  np.testing.assert_array_equal(pipeline.resize(image, 4), expected)


def test_colours_stay_in_their_channels():
  image = np.tile(np.array([10, 120, 250], np.uint8), (7, 9, 1))
  for size in (3, 8, 16):
    resized = pipeline.resize(image, size)
    assert resized.shape == (size, size, 3)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(
      resized, np.tile(image[:1, :1], (size, size, 1))
    )


def test_a_crop_is_the_square_in_the_middle():
  # 2 x 5 pixels: of three columns too many, one goes left and two right.
  image = grey([0, 30, 60, 90, 120], [9, 8, 7, 6, 5])
  np.testing.assert_array_equal(pipeline.crop(image, 2), grey([30, 60], [8, 7]))
  turned = image.swapaxes(0, 1)
  np.testing.assert_array_equal(
    pipeline.crop(turned, 2), grey([30, 8], [60, 7])
  )


@pytest.mark.parametrize(
  'shape, size', [((45, 60), 24), ((61, 40), 32), ((30, 30), 45), ((9, 40), 9)]
)
def test_a_crop_is_keras_smart_resize(shape, size):
  import keras

  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
  expected = keras.preprocessing.image.smart_resize(
    image.astype(np.float32), (size, size)
  )
  # cv2 rounds, and its weights have 11 bits.
  assert abs(pipeline.crop(image, size) - np.asarray(expected)).max() <= 1


def test_examples_are_cropped_where_asked():
  class Wide(Records):
    def __getitem__(self, i):
      image = grey(*[[0, 10, 20, 30]] * 2)
      return super().__getitem__(i) | {'image': image}

  rows = np.arange(3)
  squeezed = pipeline.Examples(Wide(), rows, 2)
  np.testing.assert_array_equal(squeezed[1]['image'], grey(*[[5, 25]] * 2))
  cropped = pipeline.Examples(Wide(), rows, 2, fit='crop')
  for same in (cropped, cropped.subset([0, 1, 2]), cropped.with_rows(rows)):
    np.testing.assert_array_equal(same[1]['image'], grey(*[[10, 20]] * 2))
  noisy = cropped.with_change(lambda image, row: image + np.uint8(row))
  np.testing.assert_array_equal(noisy[2]['image'], grey(*[[12, 22]] * 2))


def test_more_columns_are_of_the_records():
  column = np.arange(26, dtype=np.float32).reshape(13, 2)
  source = pipeline.Examples(
    Records(), np.array([7, 3]), 2, columns={'metadata': column}
  )
  for same in (source, source.with_change(lambda image, row: image)):
    assert same[0]['metadata'].tolist() == [14, 15]
    assert same.subset([1])[0]['metadata'].tolist() == [6, 7]
  batch = next(
    pipeline.training_batches(source, seed=0, batch_size=2, threads=0)
  )
  assert batch['metadata'].dtype == np.float32
  assert sorted(batch['metadata'].tolist()) == [[6, 7], [14, 15]]
  for row, label in zip(batch['metadata'], batch['label'], strict=True):
    assert row[0] == 2 * label


def test_shrinking_is_pillows_box():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (37, 53, 3)).astype(np.uint8)
  image = cv2.GaussianBlur(noise, (0, 0), 2)
  expected = Image.fromarray(image).resize((16, 16), Image.Resampling.BOX)
  actual = pipeline.resize(image, 16).astype(int)
  # A box takes whole pixels where areas are shared among neighbours.
  assert np.abs(actual - np.asarray(expected)).mean() < 2
  reduced = Image.fromarray(image[:32, :48]).resize(
    (16, 16), Image.Resampling.BOX
  )
  actual = pipeline.resize(image[:32, :48], 16).astype(int)
  assert np.abs(actual - np.asarray(reduced)).max() <= 1


@pytest.mark.parametrize('lesion', [1, 255])
def test_half_a_pixel_is_lesion(lesion):
  mask = lesion * np.array(
    [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0]], np.uint8
  )
  # Of four pixels each: 2, 1, 0 and 3.
  resized = pipeline.resize_mask(mask, 2)
  assert resized.shape == (2, 2, 1)
  assert resized.dtype == np.uint8
  np.testing.assert_array_equal(resized[..., 0], [[1, 0], [0, 1]])


def test_masks_of_odd_sizes():
  # Of the left 1.5 columns 1 is lesion, of the right ones 0: 2/3 and 0; of
  # the lower rows 1 of 1.5 is whole, so 2/3 * 2/3 of the area, and 4/9 < 1/2.
  mask = np.array([[255, 0, 0], [255, 0, 0], [0, 0, 0]], np.uint8)
  np.testing.assert_array_equal(
    pipeline.resize_mask(mask, 2)[..., 0], [[1, 0], [0, 0]]
  )
  tall = np.zeros((9, 4), np.uint8)
  tall[:3] = 1
  np.testing.assert_array_equal(
    pipeline.resize_mask(tall, 3)[..., 0], [[1] * 3, [0] * 3, [0] * 3]
  )


def test_a_mask_of_its_own_size_is_kept():
  mask = np.random.default_rng(1).integers(0, 2, (9, 9)).astype(np.uint8)
  for values in (mask, 255 * mask):
    np.testing.assert_array_equal(pipeline.resize_mask(values, 9)[..., 0], mask)


def test_growing_a_mask_keeps_its_values_and_share():
  mask = np.zeros((4, 4), np.uint8)
  mask[1:3, 1:3] = 255
  grown = pipeline.resize_mask(mask, 16)
  assert set(np.unique(grown)) == {0, 1}
  assert grown[6:10, 6:10].all()
  assert not grown[:2].any()


def test_no_mask_is_no_lesion():
  """Images without a mask are stored with one black pixel."""
  assert not pipeline.resize_mask(np.zeros((1, 1), np.uint8), 6).any()


@pytest.mark.parametrize('turned', [False, True])
def test_a_side_that_shrinks_is_averaged_though_the_other_grows(turned):
  image = np.zeros((256, 20, 3), np.uint8)
  image[::8] = 240
  image = image.swapaxes(0, 1) if turned else image
  np.testing.assert_array_equal(pipeline.resize(image, 32), 30)
