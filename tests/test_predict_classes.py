"""A folder of images to probabilities, labels and heat maps; t-SNE."""

import csv
import json

import cv2
import numpy as np
import pytest
import small_runs
from scipy.special import softmax

from jaxderm import ensemble, experiment, explain, predict
from jaxderm.data import lesions


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  """A run that classifies, not trained; its images are seen at 32 pixels."""
  config = small_runs.classes(data_dir)
  config.data.size = 32
  config.evaluate.batch_size = 2
  workdir = tmp_path_factory.mktemp('runs') / 'classes'
  return config, small_runs.save_untrained(config, workdir)


@pytest.fixture(scope='module')
def with_metadata(data_dir, tmp_path_factory):
  config = small_runs.classes(data_dir)
  config.data.size = 32
  config.evaluate.batch_size = 4
  config.model.changes.metadata = 21
  workdir = tmp_path_factory.mktemp('runs') / 'metadata'
  small_runs.save_untrained(config, workdir)
  made = experiment.make(config, workdir)
  data = experiment.open_data(config, workdir, made.task.inputs)
  data.encoding.write(workdir)
  return config, workdir


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Three images, of which one is wide, and one that is none."""
  folder = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for name, shape in (('a', (40, 40)), ('b', (30, 60)), ('c', (50, 44))):
    picture = rng.integers(0, 255, (*shape, 3), np.uint8)
    cv2.imwrite(str(folder / f'{name}.png'), picture)
  (folder / 'd.jpg').write_bytes(b'no image')
  return folder


def read(folder):
  with (folder / 'predictions.csv').open() as file:
    return list(csv.DictReader(file))


def told(rows):
  """Probabilities of the images that could be read, [N, C]."""
  names = [k for k in rows[0] if k.startswith('p_')]
  good = [r for r in rows if r['predicted']]
  return np.array([[float(r[k]) for k in names] for r in good])


def expected_probabilities(config, workdir, folder, columns=None):
  """What the network says of them, without the mapper and its folding."""
  made = experiment.make(config, workdir)
  variables, _ = ensemble.load_member(made, workdir, 'best')
  batch = {}
  records = [
    {
      'image': cv2.imread(str(folder / f'{name}.png'))[..., ::-1],
      'mask': np.zeros((1, 1, 1), np.uint8),
      'label': -1,
    }
    for name in 'abc'
  ]
  examples = predict._examples(records, config.data, columns or {})
  for key in made.task.inputs:
    batch[key] = np.stack([examples[i][key] for i in range(3)])
  prepared = made.prepare(batch, None)
  inputs = [prepared[key] for key in made.task.inputs]
  logits = made.network.apply(variables, *inputs, False)
  return softmax(np.asarray(logits, np.float64), axis=1)


def test_every_image_has_its_probabilities_and_its_heat_map(
  run, images, tmp_path
):
  config, workdir = run
  assert predict.predict(config, workdir, images, tmp_path) == 1
  rows = read(tmp_path)
  assert [r['image'] for r in rows] == ['a.png', 'b.png', 'd.jpg', 'c.png']
  assert [r['status'] == 'ok' for r in rows] == [True, True, False, True]
  assert 'cannot be read' in rows[2]['status']
  assert list(rows[0])[4:-1] == [f'p_{name}' for name in lesions.LABELS]
  probability = told(rows)
  expected = expected_probabilities(config, workdir, images)
  np.testing.assert_allclose(probability, expected, atol=1e-5)
  for row, of_image in zip(
    [r for r in rows if r['predicted']], expected, strict=True
  ):
    assert row['predicted'] == lesions.LABELS[of_image.argmax()]
    assert float(row['probability']) == pytest.approx(of_image.max(), abs=1e-5)
    picture = cv2.imread(str(tmp_path / row['gradcam']))
    assert picture.shape[1] > 2 * picture.shape[0]
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {
    'predictions.csv',
    *(f'{name}_gradcam.png' for name in 'abc'),
  }


def test_a_temperature_changes_probabilities_and_no_label(
  run, images, tmp_path
):
  config, workdir = run
  config = config.copy_and_resolve_references()
  config.evaluate.temperature = '0.25'
  predict.predict(config, workdir, images, tmp_path)
  expected = expected_probabilities(config, workdir, images) ** 4
  expected /= expected.sum(1, keepdims=True)
  np.testing.assert_allclose(told(read(tmp_path)), expected, atol=2e-5)


def test_the_fitted_temperature_is_that_of_the_runs_evaluation(
  run, images, tmp_path
):
  config, workdir = run
  config = config.copy_and_resolve_references()
  config.evaluate.temperature = 'validation'
  with pytest.raises(ValueError, match='has none that was fitted for .*step'):
    predict.predict(config, workdir, images, tmp_path)
  summary = {
    'temperature': {'value': 0.5, 'from': 'validation'},
    'run': {'step': 0, 'views': ['identity'], 'classes': ['x', 'y', 'z']},
  }
  path = workdir / 'summary.json'
  path.write_text(json.dumps(summary))
  try:
    predict.predict(config, workdir, images, tmp_path)
    rows = read(tmp_path)
    expected = expected_probabilities(config, workdir, images) ** 2
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(told(rows), expected, atol=2e-5)
    assert rows[0]['predicted'] in 'xyz'
    config.evaluate.views = ('identity', 'hflip')  # it was fitted for others
    with pytest.raises(ValueError, match='hflip'):
      predict.predict(config, workdir, images, tmp_path)
  finally:
    path.unlink()


def test_metadata_come_from_a_table(with_metadata, images, tmp_path):
  config, workdir = with_metadata
  with pytest.raises(ValueError, match='Give --metadata=FILE.csv'):
    predict.predict(config, workdir, images, tmp_path / 'none')
  assert not (tmp_path / 'none').exists()
  table = tmp_path / 'patients.csv'
  table.write_text(
    'image,age,sex,localization\na.png,80,male,moon\nc,,female,\n'
  )
  predict.predict(
    config, workdir, images, tmp_path / 'out', metadata=str(table)
  )
  rows = read(tmp_path / 'out')
  good = [r for r in rows if r['predicted']]
  assert [r['status'] for r in good] == [
    "ok, site 'moon' counts as other",
    'ok, without metadata',
    'ok',
  ]
  from jaxderm.data import metadata

  encoded = metadata.load(workdir)(
    [80, np.nan, np.nan], ['male', '', 'female'], ['moon', '', '']
  )
  expected = expected_probabilities(
    config, workdir, images, {'metadata': encoded}
  )
  np.testing.assert_allclose(told(rows), expected, atol=1e-5)
  other = expected_probabilities(
    config, workdir, images, {'metadata': encoded[::-1]}
  )
  assert abs(other - expected).max() > 1e-3
  assert (tmp_path / 'out' / 'b_gradcam.png').exists()


def test_what_a_network_cannot_do_is_told(run, images, data_dir, tmp_path):
  config, workdir = run
  table = tmp_path / 'patients.csv'
  with pytest.raises(ValueError, match='takes no metadata; leave'):
    predict.predict(config, workdir, images, tmp_path, metadata=str(table))
  with pytest.raises(ValueError, match="no map called 'x'.*stage1, stage2"):
    predict.predict(config, workdir, images, tmp_path, tap='x')
  masks = small_runs.config(data_dir)
  with pytest.raises(ValueError, match='this one segments'):
    predict.predict(masks, workdir, images, tmp_path, tap='x')


def test_images_lie_near_their_like(run, tmp_path):
  config, workdir = run
  points = explain.explain(config, workdir, 'train', out=tmp_path)
  names = {p.name for p in tmp_path.iterdir()}
  assert names > {'tsne_features.png', 'tsne_pixels.png', 'tsne.csv'}
  heat_maps = {n for n in names if n.endswith('_gradcam.png')}
  assert len(heat_maps) == len(names) - 3 and len(heat_maps) <= 2 * explain.SURE
  with (tmp_path / 'tsne.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == len(points['pixels']) > 10
  assert float(rows[3]['features_y']) == pytest.approx(
    points['features'][3, 1], rel=1e-4
  )
  assert rows[0]['label'] in lesions.LABELS
  known = {f'{row["image_id"]}_gradcam.png' for row in rows}
  assert heat_maps < known and len(heat_maps) > explain.SURE
  # Two heaps stay two heaps, and a seed is a seed.
  heaps = np.concatenate([np.zeros((20, 5)), np.full((20, 5), 9.0)])
  heaps += np.random.default_rng(0).normal(size=heaps.shape)
  drawn = explain.project(heaps)
  np.testing.assert_array_equal(drawn, explain.project(heaps))
  centres = drawn[:20].mean(0), drawn[20:].mean(0)
  apart = np.linalg.norm(centres[0] - centres[1])
  assert apart > 2 * drawn[:20].std(0).max()
  with pytest.raises(ValueError, match='four images or more; there are 3'):
    explain.project(heaps[:3])


def test_features_are_means_over_the_map(run):
  """Those that the head's mean makes, image by image."""
  config, workdir = run
  made = experiment.make(config, workdir)
  variables, _ = ensemble.load_member(made, workdir, 'best')
  data = experiment.open_data(config, workdir)
  examples = data.parts['validation']
  explainer = explain.Explainer(made, variables)
  found = dict(explainer.features(examples))
  assert sorted(found) == list(range(len(examples)))
  image = made.prepare({'image': examples[0]['image'][None]}, None)['image']
  encoder = {k: v['encoder'] for k, v in variables.items()}
  (map_,) = made.network.encoder.apply(encoder, image, False)
  assert explainer.tap == 'stage5'
  np.testing.assert_allclose(found[0], map_.mean((0, 1, 2)), atol=1e-5)
