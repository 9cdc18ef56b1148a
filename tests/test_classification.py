"""Classification: the task, the data it needs, and a run from the shell."""

import dataclasses
import importlib.util
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import publishers
import pytest
from programs import ROOT, assert_same_runs, main

from jaxderm import (
  class_metrics,
  class_report,
  experiment,
  figures,
  inference,
  losses,
  rows,
  sharding,
  task,
  train,
)

# ------------------------------------------------------------------ the task

LOGITS = jnp.log(jnp.asarray([[6.0, 3.0, 1.0], [1.0, 1.0, 2.0]]))
LABEL = {'label': jnp.asarray([1, 2], jnp.int32)}


@pytest.fixture(scope='module')
def cross_entropy():
  return task.classification({'name': 'cross_entropy'})


def test_probabilities_and_losses_by_hand(cross_entropy):
  probability = cross_entropy.probabilities(LOGITS)
  expected = [[0.6, 0.3, 0.1], [0.25, 0.25, 0.5]]
  np.testing.assert_allclose(probability, expected, rtol=1e-6)
  loss = cross_entropy.loss(LOGITS, LABEL)
  np.testing.assert_allclose(loss, -np.log([0.3, 0.5]), rtol=1e-6)
  weighed = task.classification(
    {'name': 'focal_cross_entropy', 'alpha': (1.0, 10.0, 100.0), 'gamma': 2.0}
  )
  expected = [-10 * 0.49 * np.log(0.3), -100 * 0.25 * np.log(0.5)]
  np.testing.assert_allclose(weighed.loss(LOGITS, LABEL), expected, rtol=1e-5)


@pytest.mark.parametrize('name', losses.CLASSIFICATION)
def test_the_loss_is_that_of_the_config(name):
  made = task.classification({'name': name})
  expected = losses.CLASSIFICATION[name](LOGITS, LABEL['label'])
  np.testing.assert_array_equal(made.loss(LOGITS, LABEL), expected)
  narrow = LOGITS.astype(jnp.bfloat16)
  assert made.loss(narrow, LABEL).dtype == jnp.float32
  assert made.probabilities(narrow).dtype == jnp.float32


def test_scores_by_hand(cross_entropy):
  columns = {
    'label': np.array([0, 0, 1, 2]),
    'probability': np.array(
      [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
    ),
  }
  # Class 1 has one of its three pairs in order and no ties; 0 has 3 of 4.
  assert cross_entropy.scores(columns) == {
    'accuracy': 3 / 4,
    'balanced_accuracy': pytest.approx((1 / 2 + 1 + 1) / 3),
    'auc': pytest.approx((3 / 4 + 1 + 1) / 3),
  }
  assert set(cross_entropy.score_names) == set(cross_entropy.scores(columns))
  lone = {k: v[:2] for k, v in columns.items()}
  assert cross_entropy.scores(lone) == {
    'accuracy': 1 / 2,
    'balanced_accuracy': 1 / 2,
  }


def test_what_a_step_sees(cross_entropy):
  assert cross_entropy.name == 'classification'
  assert cross_entropy.inputs == ('image',)
  assert task.TASKS['classification'] is task.classification
  columns = cross_entropy.rows(cross_entropy.probabilities(LOGITS), LABEL)
  assert {k: v.shape for k, v in columns.items()} == {
    'label': (2,),
    'probability': (2, 3),
  }


def test_a_loss_of_another_task_is_refused():
  with pytest.raises(ValueError, match="'bce_dice'.*cross_entropy"):
    task.classification({'name': 'bce_dice'})
  with pytest.raises(ValueError, match="'cross_entropy'.*soft_dice"):
    task.segmentation({'name': 'cross_entropy'})
  with pytest.raises(ValueError, match="no constant 'gama'.*gamma"):
    task.classification({'name': 'focal_cross_entropy', 'gama': 1})


def test_views_of_classes_are_averaged_and_not_turned(cross_entropy):
  """A network that sees the corner: each view shows it another pixel."""

  class Corner:
    def apply(self, variables, image, train):
      return image[:, 0, 0] * variables['params']['scale']

  image = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
  mesh = sharding.make_mesh()
  views = ('identity', 'hflip', 'vflip', 'rot180')
  predict = inference.make_predict(
    Corner(), cross_entropy, lambda batch, key: batch, mesh, views=views
  )
  batch = sharding.place({'image': image}, mesh)
  actual = predict({'params': {'scale': jnp.float32(5)}}, batch)
  corners = [image[:, 0, 0], image[:, 0, -1], image[:, -1, 0], image[:, -1, -1]]
  expected = np.mean([jax.nn.softmax(5 * x) for x in corners], axis=0)
  assert actual.shape == (2, 3)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


# ------------------------------------------------------------------ the data


def config_of(data_dir, **data):
  spec = importlib.util.spec_from_file_location(
    'ham10000', ROOT / 'configs' / 'ham10000_encoder.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config('Plain8')
  config.data.options = dict(n=40, size=32)
  config.data.update(
    name='synthetic', size=32, batch_size=8, data_dir=str(data_dir), **data
  )
  config.model.changes.classes = 3
  config.compilation_cache = ''
  return config


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def opened(config, workdir):
  made = experiment.make(config)
  return made, experiment.open_data(config, workdir)


def test_balanced_weights_are_of_the_training_images(data_dir, tmp_path):
  config = config_of(data_dir)
  made, data = opened(config, tmp_path)
  label = data.index.label[data.parts['train'].rows]
  whole = np.bincount(data.index.label, minlength=3)
  counts = np.bincount(label, minlength=3)
  weights = len(label) / (3 * counts)
  assert abs(weights - len(data.index.label) / (3 * whole)).max() > 0.01
  logits = jnp.zeros((3, 3))
  batch = {'label': jnp.arange(3)}
  loss = experiment.with_data(made, data).task.loss(logits, batch)
  focal = (2 / 3) ** 2 * np.log(3)
  np.testing.assert_allclose(loss, weights * focal, rtol=1e-5)
  # Over the training images they are 1 in the mean.
  assert weights[label].mean() == pytest.approx(1)


def test_numbers_for_weights_are_left_as_they_are(data_dir, tmp_path):
  config = config_of(data_dir)
  config.loss = dict(name='cross_entropy', weights=(1.0, 2.0, 4.0))
  made, data = opened(config, tmp_path)
  loss = experiment.with_data(made, data).task.loss(
    jnp.zeros((3, 3)), {'label': jnp.arange(3)}
  )
  np.testing.assert_allclose(loss, np.log(3) * np.array([1, 2, 4]), rtol=1e-6)


def test_classes_of_the_network_and_of_the_data_must_agree(data_dir, tmp_path):
  config = config_of(data_dir)
  config.model.changes.classes = 7
  told = '7 classes .model.changes.classes.*synthetic has 3: nevus, melanoma'
  with pytest.raises(ValueError, match=told):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()


def relabelled(data, label):
  """The data as if its labels were others."""
  index = dataclasses.replace(data.index, label=np.asarray(label))
  return dataclasses.replace(data, index=index)


def test_images_without_a_label_are_named(data_dir, tmp_path):
  made, data = opened(config_of(data_dir), tmp_path)
  label = data.index.label.copy()
  bare = data.parts['validation'].rows[1]
  label[bare] = -1
  name = data.index.image_id[bare]
  with pytest.raises(ValueError, match=f'1 of . validation images.*{name}'):
    experiment.with_data(made, relabelled(data, label))


def test_a_class_without_training_images(data_dir, tmp_path, capsys):
  config = config_of(data_dir)
  made, data = opened(config, tmp_path)
  none = relabelled(data, np.minimum(data.index.label, 1))
  told = "loss.alpha='balanced'.*none of seborrheic_keratosis"
  with pytest.raises(ValueError, match=told):
    experiment.with_data(made, none)
  config.loss = dict(name='cross_entropy')
  experiment.with_data(experiment.make(config), none)
  assert 'no training image is of seborrheic' in capsys.readouterr().out


@pytest.mark.parametrize(
  'system, name, told',
  [
    ('unet', 'classification', "'unet' is for segmentation"),
    ('classifier', 'segmentation', "'classifier' is for classification"),
    ('yang2021/UNet', 'classification', 'is a network for segmentation'),
  ],
)
def test_network_and_task_must_agree(system, name, told, data_dir):
  config = config_of(data_dir)
  config.task, config.model.system = name, system
  kind = 'yang' not in system
  config.model.changes = dict(encoder='Plain8') if kind else dict()
  with pytest.raises(ValueError, match=told):
    experiment.make(config)


def test_a_folder_of_ham10000_has_seven_classes(place):
  root, built = place
  publishers.ham10000(root)
  publishers.write(  # without the row that has no picture
    root / 'HAM10000_metadata',
    publishers.DATAVERSE,
    *(
      (f'HAM_{k}', f'ISIC_{k}', dx, 'histo', '80.0', 'male', 'scalp')
      for k, dx in enumerate(('bkl', 'nv', 'vasc'))
    ),
  )
  config = config_of(built, split='deploy', validation=0.0)
  config.data.name, config.data.options = 'ham10000', dict()
  config.data.manual_dir = str(root)
  config.loss = dict(name='cross_entropy')
  config.model.changes.classes = 7
  made, data = opened(config, place[0])
  assert experiment.with_data(made, data) is made
  config.model.changes.classes = 2
  with pytest.raises(ValueError, match='2 classes.*ham10000 has 7: akiec, bcc'):
    experiment.with_data(experiment.make(config), data)


# ------------------------------------------------------------------ the page


def some_rows():
  label = [0, 0, 1, 1, 1]
  probability = [[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.95, 0.05], [0.4, 0.6]]
  names = ('nv', '<mel>')
  return [
    {'image_id': f'i{k}', 'lesion_id': f'i{k}', 'label': names[c]}
    | {f'p_{name}': p for name, p in zip(names, ps, strict=True)}
    for k, (c, ps) in enumerate(zip(label, probability, strict=True))
  ]


def test_the_surest_mistakes_come_first():
  for table in (some_rows(), some_rows()[::-1]):
    picks = class_report.pick_mistakes(table, 2)
    assert [p.image_id for p in picks] == ['i3', 'i2']
  assert picks[0].title == '<mel>, taken for nv'
  assert picks[0].caption == 'i3: nv 0.950, <mel> 0.050'
  assert len(class_report.pick_mistakes(some_rows())) == 3


def test_the_page_tells_scores_classes_and_confusions(tmp_path):
  summary = class_metrics.summarise(some_rows(), resamples=50)
  summary['run'] = {'system': 'classifier', 'dataset': 'ham10000'}
  path = tmp_path / 'report.html'
  image = np.full((600, 300, 3), 128, np.uint8)
  picture = {'title': 'a <b>', 'caption': 'c & d', 'image': image}
  class_report.write_report(path, summary, figures.png(image), [picture])
  text = path.read_text(encoding='ascii')
  assert '<h1>classifier on ham10000</h1>' in text
  for group in ('scores', 'macro'):
    for name, value in summary[group].items():
      low, high = summary['intervals'][group][name]
      cell = f'>{value:.3f}<small>{low:.3f} to {high:.3f}</small>'
      assert cell in text, name
  # One of two nevi and one of three melanomas are right.
  counts = re.findall(r'data-of="as [^"]*" [^>]*>(\d+)<', text)
  assert counts == ['1', '1', '2', '1']
  assert '0.30)">1<' in text  # half of the row, times 0.6
  assert '<mel>' not in text and '&lt;mel&gt;' in text
  assert 'a &lt;b&gt;' in text and 'c &amp; d' in text
  assert text.count('data:image/png;base64') == 2
  assert '<script' not in text and 'http:' not in text


def test_the_page_of_a_part_without_a_class(tmp_path):
  table = [r for r in some_rows() if r['label'] == 'nv']
  summary = class_metrics.summarise(table, resamples=5)
  path = tmp_path / 'report.html'
  class_report.write_report(path, summary, None, [])
  text = path.read_text()
  assert 'nan' not in text.lower()
  assert '&#8211;' in text
  assert 'No image is of &lt;mel&gt;: left out of means.' in text


# -------------------------------------------------------------------- a run

HOW = {'config': 'configs/ham10000_encoder.py:Plain8', 'small': False}
SMALL = (
  '--config.data.name=synthetic',
  '--config.model.changes.classes=3',
  '--config.data.size=32',
  '--config.data.batch_size=8',
  '--config.evaluate.batch_size=8',
  '--config.evaluate.resamples=50',
)


@pytest.fixture(scope='module')
def flags(data_dir):
  return (*SMALL, f'--config.data.data_dir={data_dir}')


@pytest.fixture(scope='module')
def run(flags, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('classes') / 'run'
  told = main(workdir, *flags, '--config.epochs=2', **HOW)
  return workdir, told


def test_it_tells_and_leaves_what_is_promised(run):
  workdir, told = run
  assert re.search(r'validation  loss .* balanced_accuracy .* auc', told)
  assert re.search(r'test: \d+ images', told)
  assert 'macro: f1' in told
  assert 'Traceback' not in told
  summary = json.loads((workdir / 'summary.json').read_text())
  table = rows.read_rows(workdir / 'rows.csv', ('label',))
  again = class_metrics.summarise(table, resamples=50)
  for group in ('scores', 'macro', 'confusion'):
    assert summary[group] == again[group]
  split = json.loads((workdir / 'split.json').read_text())
  assert [r['image_id'] for r in table] == split['test']
  assert list(table[0])[3:] == [f'p_{k}' for k in summary['run']['classes']]
  for row in table:
    assert sum(row[f'p_{k}'] for k in summary['run']['classes']) == (
      pytest.approx(1, abs=1e-5)
    )
  assert 'threshold' not in summary['run']
  assert summary['run']['system'] == 'classifier (Plain8)'
  text = (workdir / 'report.html').read_text()
  assert 'Confusions' in text and 'seborrheic_keratosis' in text


def test_labels_are_those_of_the_data(run, flags, data_dir):
  """A row that were shifted against its label would be one of another image."""
  from jaxderm.data import lesions

  workdir, _ = run
  for row in rows.read_rows(workdir / 'rows.csv', ('label',)):
    seed, number = re.fullmatch(r'SYN(\d+)_(\d+)', row['image_id']).groups()
    about = lesions.facts(int(seed), int(number))
    assert row['label'] == lesions.LABELS[about.label]


def test_stopped_and_gone_on_it_is_the_same_run(run, flags, tmp_path):
  """What is trained to the first epoch and to the second ends the same."""
  workdir = tmp_path / 'run'
  main(workdir, *flags, '--config.epochs=1', **HOW)
  config = json.loads((workdir / 'config.json').read_text())
  config['epochs'] = 2  # a constant rate does not know the length
  (workdir / 'config.json').write_text(json.dumps(config))
  told = main(workdir, *flags, '--config.epochs=2', **HOW)
  assert 'going on at step' in told
  assert_same_runs(run[0], workdir)


def test_eight_devices_and_four_views(run, flags, tmp_path):
  """Devices change nothing but rounding; views are averaged."""
  alone = rows.read_rows(run[0] / 'rows.csv', ('label',))
  again = ('--mode=evaluate', '--config.epochs=2')
  how = HOW | {'devices': 8}
  main(run[0], *flags, *again, f'--out={tmp_path / "8"}', **how)
  views = "--config.evaluate.views=('identity','hflip','vflip','rot180')"
  main(run[0], *flags, *again, views, f'--out={tmp_path / "views"}', **how)
  eight, viewed = (
    rows.read_rows(tmp_path / name / 'rows.csv', ('label',))
    for name in ('8', 'views')
  )

  def probabilities(table):
    return np.array([[v for k, v in r.items() if k[:2] == 'p_'] for r in table])

  names = [(r['image_id'], r['label']) for r in alone]
  assert [(r['image_id'], r['label']) for r in eight] == names
  assert [(r['image_id'], r['label']) for r in viewed] == names
  np.testing.assert_allclose(
    probabilities(eight), probabilities(alone), atol=1e-5
  )
  change = abs(probabilities(viewed) - probabilities(alone))
  assert 1e-6 < change.max() < 0.5


def test_a_folder_of_images_from_the_shell(run, tmp_path):
  picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
  (tmp_path / 'lesion.png').write_bytes(figures.png(picture))
  told = main(
    run[0],
    '--mode=predict',
    f'--images={tmp_path}',
    f'--out={tmp_path / "out"}',
    '--tap=stage2',
    config=None,
    small=False,
  )
  assert '1 heat maps in' in told
  header, row = (tmp_path / 'out' / 'predictions.csv').read_text().splitlines()
  names = json.loads((run[0] / 'summary.json').read_text())['run']['classes']
  assert header.split(',')[4:-1] == [f'p_{name}' for name in names]
  assert row.startswith('lesion.png,ok,')
  assert (tmp_path / 'out' / 'lesion_gradcam.png').exists()


def test_flags_that_do_not_go_together(run, tmp_path):
  for flags, told in (
    (('--mode=evaluate', '--metadata=x.csv'), '--metadata is for --mode=pre'),
    (('--mode=evaluate', '--tap=stage2'), '--tap is for --mode=predict and'),
  ):
    how = {'config': None, 'small': False, 'expect': 2}
    assert told in main(run[0], *flags, **how)


def test_the_summary_tells_calibration_points_and_groups(run):
  summary = json.loads((run[0] / 'summary.json').read_text())
  assert summary['temperature'] == {'from': 'none', 'value': 1.0}
  assert (
    sum(summary['calibration']['reliability']['counts'])
    == (summary['n_images'])
  )
  points = summary['operating_points']
  for where in ('validation', 'scored'):
    assert list(points[where]) == sorted(points[where])
    assert set(points[where]) == set(summary['run']['classes'])
  assert summary['groups']['smallest'] == 30
  text = (run[0] / 'report.html').read_text()
  assert 'Calibration' in text and 'chosen on the scored images' in text
