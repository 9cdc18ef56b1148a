"""What lies outside a lesion's mask, grown by a disc, is black."""

import csv
import dataclasses

import cv2
import numpy as np
import pytest
import small_runs
from indices import make_index
from publishers import ham10000, mask

from jaxderm import evaluate, experiment, explain, opening, predict
from jaxderm.data import build, dilation, noise, pipeline

SIDE = 16  # at which the networks here see their images
BLACK = 0


# ------------------------------------------------------------------- the disc


def dot(side=9, at=4):
  """A mask of one pixel, uint8 [side, side]."""
  made = np.zeros((side, side), np.uint8)
  made[at, at] = 1
  return made


@pytest.mark.parametrize(
  'radius, count', [(0, 1), (1, 5), (2, 13), (3, 29), (4, 49)]
)
def test_one_pixel_becomes_a_disc(radius, count):
  grown = dilation.dilate(dot(), radius)
  assert grown.dtype == np.uint8
  assert grown.sum() == count  # pairs of whole numbers, x^2 + y^2 <= r^2


def test_a_disc_by_hand():
  expected = [
    [0, 0, 1, 0, 0],
    [0, 1, 1, 1, 0],
    [1, 1, 1, 1, 1],
    [0, 1, 1, 1, 0],
    [0, 0, 1, 0, 0],
  ]
  np.testing.assert_array_equal(dilation.dilate(dot(5, 2), 2), expected)
  in_a_corner = [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
  np.testing.assert_array_equal(dilation.dilate(dot(3, 0), 2), in_a_corner)


@pytest.mark.parametrize('radius', [0, 1, 5, 13, 25, 40, 90])
def test_discs_are_exact(radius):
  """Pixel by pixel, where floats could round: 13^2 = 5^2 + 12^2."""
  rng = np.random.default_rng(radius)
  drawn = (rng.random((61, 83)) < 0.002).astype(np.uint8)
  y, x = np.nonzero(drawn)
  rows, columns = np.mgrid[:61, :83]
  squares = (rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2
  expected = squares.min(-1) <= radius**2
  assert radius == 90 or 0 < expected.sum() < expected.size
  np.testing.assert_array_equal(dilation.dilate(drawn, radius), expected)


def test_an_empty_mask_would_make_a_black_image():
  empty = np.zeros((7, 7, 1), np.uint8)
  assert not dilation.dilate(empty[..., 0], 3).any()
  with pytest.raises(ValueError, match=r'ISIC_4: .*no lesion at 7 pixels'):
    dilation.region(empty, 3, 'ISIC_4')


# --------------------------------------------------------------- its examples


def records(count=2, shape=(24, 40)):
  """Bright noise, each with a lesion of its own."""
  made = []
  for k in range(count):
    rng = np.random.default_rng(k)
    lesion = np.zeros((*shape, 1), np.uint8)
    lesion[8:14, 16 + 2 * k : 22 + 2 * k] = 255
    image = rng.integers(100, 256, (*shape, 3)).astype(np.uint8)
    name = f'ISIC_{k}'
    made.append({'image_id': name, 'image': image, 'mask': lesion, 'label': k})
  return made


def examples(radius=dilation.OFF, size=SIDE, **settings):
  return pipeline.Examples(
    records(), np.arange(2), size, dilation=radius, **settings
  )


@pytest.mark.parametrize('fit', ['squeeze', 'crop'])
@pytest.mark.parametrize('radius', [0, 3])
def test_outside_is_black_and_inside_untouched(radius, fit):
  whole, cut = examples(fit=fit), examples(radius, fit=fit)
  for k in range(2):
    given, seen = whole[k], cut[k]
    grown = dilation.dilate(given['mask'][..., 0], radius) > 0
    assert given['image'].min() >= 100
    assert 0 < grown.sum() < grown.size
    assert seen['image'].dtype == np.uint8
    np.testing.assert_array_equal(seen['image'][grown], given['image'][grown])
    np.testing.assert_array_equal(seen['image'][~grown], BLACK)
    for name in ('mask', 'label', 'valid'):  # as they were: not grown
      np.testing.assert_array_equal(seen[name], given[name])


def test_a_cropped_mask_lies_on_its_cropped_image():
  """24 x 40 pixels: the square in the middle begins 8 columns from the left."""
  seen = examples(0, size=24, fit='crop')[0]
  shown = np.nonzero(seen['image'].any(-1))
  assert (shown[0].min(), shown[0].max()) == (8, 13)
  assert (shown[1].min(), shown[1].max()) == (16 - 8, 21 - 8)
  assert seen['mask'].sum() == 6 * 6


def test_a_radius_is_of_the_networks_size():
  # 24 x 40 is squeezed to 8 x 8: the lesion is rows 3 and 4, columns 3 and 4.
  source = records(1)[0]
  source['mask'][:] = 0
  source['mask'][9:15, 15:25] = 255
  seen = pipeline.Examples([source], np.arange(1), 8, dilation=1)[0]['image']
  expected = np.zeros((8, 8), bool)
  expected[3:5, 2:6] = expected[2:6, 3:5] = True
  np.testing.assert_array_equal(seen.any(-1), expected)


def test_all_that_is_made_of_examples_is_as_black():
  cut = examples(2)
  black = cut[1]['image'] == BLACK
  others = (cut.subset([1]), cut.with_rows(np.array([1])))
  for same in others:
    np.testing.assert_array_equal(same[0]['image'], cut[1]['image'])
  noisy = cut.with_change(noise.make(np.array(['a', 'b']), 0.2, 0))
  assert (noisy[1]['image'] != cut[1]['image']).any()
  np.testing.assert_array_equal(noisy[1]['image'][black], BLACK)


def test_two_radii_have_nothing_in_common():
  """What one has decoded and kept is none of the other's."""
  source = records()
  seen = [
    pipeline.Examples(source, np.arange(2), SIDE, dilation=radius)
    for radius in (0, 4, dilation.OFF)
  ]
  for _ in range(2):
    counts = [int(s[0]['image'].any(-1).sum()) for s in seen]
    assert counts[0] < counts[1] < counts[2] == SIDE**2


def test_a_picture_shows_what_the_network_sees():
  np.testing.assert_array_equal(examples().picture(0), records()[0]['image'])
  cut, image = examples(0, size=24), records()[0]['image']
  shown = cut.picture(0)
  assert shown.shape == image.shape
  # Columns 16 to 21 of 40 are 9.6 to 13.2 of 24: 10 to 12 are lesion, and of
  # 40 again those whose centres are in there.
  expected = np.zeros((24, 40), bool)
  expected[8:14, 17:22] = True
  np.testing.assert_array_equal(shown.any(-1), expected)
  np.testing.assert_array_equal(shown[expected], image[expected])
  assert examples(0, fit='crop').picture(1).shape == (24, 24, 3)


def test_an_image_without_lesion_is_named():
  source = records()
  source[1]['mask'] = np.zeros((1, 1, 1), np.uint8)  # as stored without mask
  made = pipeline.Examples(source, np.arange(2), SIDE, dilation=2)
  made[0]
  for decode in (made.decode, made.picture):
    with pytest.raises(ValueError, match='ISIC_1: its mask shows no lesion'):
      decode(1)


# ------------------------------------------------------------- what is refused


@pytest.mark.parametrize('value', [-2, 1.5, 'x', True, None])
def test_wrong_radii_are_told(value):
  with pytest.raises(ValueError, match=r'data\.dilation is .*-1 for the whole'):
    dilation.check(value, 'classification')


def test_a_config_is_checked_before_its_data(tmp_path):
  assert small_runs.classes(tmp_path).data.dilation == dilation.OFF
  config = within_masks(tmp_path, -2)
  with pytest.raises(ValueError, match=r'data\.dilation is -2'):
    experiment.make(config)
  config = small_runs.config(tmp_path)
  config.data.dilation = 0
  with pytest.raises(ValueError, match=r'data\.dilation is 0.*segments'):
    experiment.make(config)


def within_masks(root, radius=2):
  config = small_runs.classes(root)
  config.data.dilation = radius
  return config


@pytest.mark.parametrize(
  'make, asks',
  [
    (within_masks, r'data\.dilation=2'),
    (small_runs.config, 'task=segmentation'),
  ],
)
def test_data_without_masks_are_told(make, asks):
  config, rows = make(''), np.array([0, 2, 3])
  bare = make_index(4)
  with pytest.raises(ValueError, match=f'{asks} needs .*but made has none'):
    opening._check_masks(config, bare, rows)
  some = dataclasses.replace(bare, has_mask=np.array([1, 0, 1, 0], bool))
  with pytest.raises(ValueError, match='1 of the 3 of made .*: i00003. Put'):
    opening._check_masks(config, some, rows)
  opening._check_masks(config, some, rows[:2])  # nobody sees the others
  opening._check_masks(small_runs.classes(''), bare, rows)


# -------------------------------------------------------------------- its runs


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A config within masks, and its run of random variables."""
  root = tmp_path_factory.mktemp('dilation')
  config = within_masks(root)
  config.evaluate.batch_size = 4
  return config, small_runs.save_untrained(config, root / 'run')


def test_a_runs_data_are_black_outside(run):
  config, workdir = run
  data = experiment.open_data(config, workdir)
  assert any('further than 2 pixels' in note for note in data.notes)
  for part in (*data.parts.values(), data.training):
    seen = part[0]
    grown = dilation.dilate(seen['mask'][..., 0], 2) > 0
    assert 0 < grown.sum() < grown.size
    np.testing.assert_array_equal(seen['image'][~grown], BLACK)
    assert seen['image'][grown].max() > 0


def test_data_without_masks_stop_a_run(run, tmp_path, monkeypatch):
  config, _ = run
  made = build.Dataset.columns_by_split

  def without(dataset):
    columns = made(dataset)['train']
    return {'train': {k: v for k, v in columns.items() if k != 'has_mask'}}

  monkeypatch.setattr(build.Dataset, 'columns_by_split', without)
  with pytest.raises(ValueError, match='but synthetic has none'):
    experiment.open_data(config, tmp_path)


def test_evaluation_and_explanation_read_the_same(run, tmp_path, monkeypatch):
  config, workdir = run
  black = {'decode': [], 'picture': []}  # shares of what the network is given
  decode, picture = pipeline.Examples.decode, pipeline.Examples.picture

  def share(image):
    return float((image.max(-1) == BLACK).mean())

  def note_decode(examples, i):
    example = decode(examples, i)
    black['decode'].append(share(example['image']))
    return example

  def note_picture(examples, i):
    black['picture'].append(share(picture(examples, i)))
    return picture(examples, i)

  monkeypatch.setattr(pipeline.Examples, 'decode', note_decode)
  monkeypatch.setattr(pipeline.Examples, 'picture', note_picture)
  summary = evaluate.evaluate(config, workdir, out=str(tmp_path / 'a'))
  assert len(black['decode']) >= summary['n_images']
  assert black['picture']  # of the mistakes
  explain.explain(config, workdir, 'validation', out=str(tmp_path / 'b'))
  assert min(black['decode'] + black['picture']) > 0.05


# ------------------------------------------------------------------ prediction


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Three images in one folder, their masks in another."""
  root = tmp_path_factory.mktemp('files')
  for name in ('images', 'masks'):
    (root / name).mkdir()
  for record in records(3, (32, 48)):
    name = record['image_id']
    cv2.imwrite(str(root / f'images/{name}.png'), record['image'])
    cv2.imwrite(str(root / f'masks/{name}_mask.png'), record['mask'])
    # As --mode=predict leaves it beside the mask.
    cv2.imwrite(str(root / f'masks/{name}_overlay.png'), record['image'])
  return root / 'images', root / 'masks'


def table(folder):
  with (folder / 'predictions.csv').open() as file:
    return list(csv.DictReader(file))


def probabilities(row):
  return [float(v) for k, v in row.items() if k.startswith('p_') and v]


def test_images_are_used_within_their_masks(run, images, tmp_path):
  config, workdir = run
  folder, masks = images
  out = tmp_path / 'out'
  assert not predict.predict(config, workdir, folder, out, masks=str(masks))
  rows = table(out)
  assert [r['status'] for r in rows] == ['ok'] * 3
  assert {p.name for p in out.glob('*.png')} == {
    f'ISIC_{k}_gradcam.png' for k in range(3)
  }
  # Blackened by hand at the network's size, they are whole images to another.
  whole = config.copy_and_resolve_references()
  whole.data.dilation = dilation.OFF
  black = tmp_path / 'black'
  black.mkdir()
  for record in records(3, (32, 48)):
    image = cv2.imread(str(folder / f'{record["image_id"]}.png'))
    small = pipeline.resize(image, SIDE)
    lesion = pipeline.resize_mask(record['mask'][..., 0], SIDE)
    small *= dilation.dilate(lesion[..., 0], 2)[..., None]
    cv2.imwrite(str(black / f'{record["image_id"]}.png'), small)
  predict.predict(whole, workdir, black, tmp_path / 'hand')
  predict.predict(whole, workdir, folder, tmp_path / 'whole')
  seen, by_hand, on_all = (
    np.array([probabilities(r) for r in table(each)])
    for each in (out, tmp_path / 'hand', tmp_path / 'whole')
  )
  np.testing.assert_allclose(seen, by_hand, atol=2e-6)
  assert abs(seen - on_all).max() > 1e-4


def test_masks_that_are_missing_or_wrong_are_named(run, images, tmp_path):
  config, workdir = run
  folder, masks = images
  some = tmp_path / 'masks'
  some.mkdir()
  good = (masks / 'ISIC_0_mask.png').read_bytes()
  (some / 'ISIC_0_segmentation.png').write_bytes(good)
  cv2.imwrite(str(some / 'ISIC_1.png'), np.zeros((32, 48), np.uint8))
  out = tmp_path / 'out'
  assert predict.predict(config, workdir, folder, out, masks=str(some)) == 1
  status = {r['image']: r['status'] for r in table(out)}
  assert status['ISIC_0.png'] == 'ok'
  assert 'its mask shows no lesion' in status['ISIC_1.png']
  assert 'expected ISIC_2_mask.png or ISIC_2_seg' in status['ISIC_2.png']
  cv2.imwrite(str(some / 'ISIC_2_mask.png'), np.ones((9, 9), np.uint8))
  predict.predict(config, workdir, folder, out, masks=str(some))
  status = {r['image']: r['status'] for r in table(out)}
  assert 'the mask is 9 x 9 pixels' in status['ISIC_2.png']


def test_a_folder_of_masks_is_asked_for(run, images, tmp_path):
  config, workdir = run
  folder, masks = images
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match=r'dilation=2\)\. Give --masks=FOLDER'):
    predict.predict(config, workdir, folder, out)
  with pytest.raises(FileNotFoundError, match='--masks=.*no is not a folder'):
    predict.predict(config, workdir, folder, out, masks=str(masks / 'no'))
  whole = config.copy_and_resolve_references()
  whole.data.dilation = dilation.OFF
  with pytest.raises(ValueError, match='on whole images .*; leave --masks='):
    predict.predict(whole, workdir, folder, out, masks=str(masks))
  segments = small_runs.config(tmp_path)
  with pytest.raises(ValueError, match='this one segments'):
    predict.predict(segments, workdir, folder, out, masks=str(masks))
  assert not out.exists()


def test_predicted_masks_make_a_data_set(place):
  """HAM10000 takes a folder as `--mode=predict` writes it."""
  ham10000(place[0])
  folder = place[0] / 'HAM10000_segmentations_lesion_tschandl'
  for k in range(3):
    mask(folder / f'ISIC_{k}_mask.png')
    mask(folder / f'ISIC_{k}_overlay.png')
  (folder / 'predictions.csv').write_text('image,status\n')
  dataset = build.open_or_build('ham10000', place[0], place[1])
  found = {r['image_id']: r['has_mask'] for r in dataset.sources['train']}
  assert found == {f'ISIC_{k}': 1 for k in range(3)}
