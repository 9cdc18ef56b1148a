"""Age, sex and site: as numbers, from a table, and in a run."""

import csv
import dataclasses
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs
from compiling import quick_jit
from conftest import real_data
from programs import assert_same_runs, final_arrays

from jaxderm import (
  ensemble,
  experiment,
  fresh_state,
  sharding,
  step,
  task,
  train,
)
from jaxderm.data import metadata
from jaxderm.models.metadata import MetadataBranch

NAN = float('nan')


# ------------------------------------------------------------------- encoding


def test_by_hand():
  rows = metadata.encode(
    [50, NAN, 0], ['male', '', 'x'], ['back', 'Unknown ', 'moon'], missing_age=7
  )
  assert rows.shape == (3, 21)
  assert rows.dtype == np.float32
  expected = np.zeros((3, 21))
  expected[:, 0] = [50, 7, 0]
  # Columns 1 to 4 are other, female, male, unknown; 5 is another site, 6
  # abdomen, 7 acral, 8 back, ..., 19 unknown, 20 upper extremity.
  expected[0, [3, 8]] = expected[1, [4, 19]] = expected[2, [1, 5]] = 1
  np.testing.assert_array_equal(rows, expected)
  flagged = metadata.encode(
    [NAN, 5], ['', ''], ['', ''], missing_age=7, flag=True
  )
  assert flagged.shape == (2, 22)
  assert flagged[:, 21].tolist() == [1, 0]
  assert flagged[:, 0].tolist() == [7, 5]


def test_nobody_is_no_row():
  assert metadata.encode([], [], [], missing_age=0).shape == (0, 21)


def test_training_images_decide():
  ages = np.array([20, 40, NAN, 90], np.float32)
  mean = metadata.fit(ages, 'mean', 'd')
  assert (mean.age, mean.mean, mean.count) == (50, 50, 3)
  assert mean.variance == pytest.approx((900 + 100 + 1600) / 3)
  # The mean, once standardised, is 0.
  (row,) = mean([NAN], [''], [''])
  assert row[0] - mean.statistics()['mean'] == 0
  assert metadata.fit(ages, 'drop', 'd').age == 50
  median = metadata.fit(ages, 'median', 'd')
  assert (median.age, median.mean, median.count) == (40, 50, 3)
  assert median([NAN], [''], [''])[0, [0, 21]].tolist() == [40, 1]
  assert metadata.columns('median') == 22
  assert metadata.columns('mean') == metadata.columns('drop') == 21


def test_data_without_ages_are_told():
  with pytest.raises(ValueError, match='ph2: none of 2 training images has'):
    metadata.fit(np.array([NAN, NAN]), 'mean', 'ph2')
  with pytest.raises(ValueError, match="missing_age is 'zero'.*median, drop"):
    metadata.columns('zero')


def test_a_run_keeps_its_encoding(tmp_path):
  encoding = metadata.fit(np.array([20, 41.5, 70]), 'median', 'd')
  encoding.write(tmp_path)
  assert metadata.load(tmp_path) == encoding
  (tmp_path / 'metadata.json').write_text('{"age": 3}')
  with pytest.raises(ValueError, match=r'metadata\.json is not a JSON object'):
    metadata.load(tmp_path)
  with pytest.raises(FileNotFoundError, match='whole folder of the run'):
    metadata.load(tmp_path / 'elsewhere')


@pytest.mark.data
def test_the_names_are_those_of_ham10000():
  path = real_data('ham10000') / 'HAM10000_metadata.csv'
  with path.open() as file:
    rows = list(csv.DictReader(file))
  assert sorted({r['localization'] for r in rows}) == list(metadata.SITES)
  assert sorted({r['sex'] for r in rows}) == list(metadata.SEXES)
  table = metadata.read(path)
  assert len(table) == 10_015
  ages = [age for age, _, _ in table.values()]
  assert sum(math.isnan(age) for age in ages) == 57  # SPEC.md 3.4
  assert metadata.notes(*list(zip(*table.values(), strict=True))[1:]) == []


# --------------------------------------------------------------- a user's table


def written(tmp_path, *lines):
  path = tmp_path / 'mine.csv'
  path.write_text('\n'.join(lines) + '\n')
  return path


def test_columns_in_any_order_and_by_either_name(tmp_path):
  path = written(
    tmp_path,
    'note,site,image,sex,age',
    'x,back,a.jpg,male,61.5',
    'y,,b,,',
    'z,Unknown,c.v2,unknown,unknown',
  )
  table = metadata.read(path)
  assert table['a'] == (61.5, 'male', 'back')
  assert list(table) == ['a', 'b', 'c.v2']
  for name in ('b', 'c.v2'):
    age, *texts = table[name]
    assert math.isnan(age)
    assert texts == ['', '']


HEADER = 'image_id,age,sex,localization'


@pytest.mark.parametrize(
  'lines, told',
  [
    (['image_id,age,sex', 'a,3,male'], r'mine\.csv:1: has no column localiz'),
    (['name,sex'], r'csv:1: has no column image_id, age, localization'),
    ([''], r'csv:1: has no column image_id, age, sex, localization'),
    ([HEADER, 'a,-1,male,back'], r"csv:2: age is '-1', expected an age in y"),
    (
      [HEADER, 'a,3,,', 'b,x,,'],
      r"csv:3: age is 'x', expected an age in years",
    ),
    ([HEADER, 'a,inf,,'], r"csv:2: age is 'inf', expected an age in years"),
    ([HEADER, 'a,3,male'], r'csv:2: has 3 values, expected 4'),
    ([HEADER, 'a,3,,', 'a,4,,'], r'csv:3: image_id a is in line 2 already'),
    ([HEADER, 'a,3,,', 'a.jpg,4,,'], r'csv:3: a\.jpg is in line 2 already'),
  ],
)
def test_what_is_wrong_in_a_table_is_named(lines, told, tmp_path):
  with pytest.raises(ValueError, match=told):
    metadata.read(written(tmp_path, *lines))


def test_a_table_that_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='image_id, age, sex, localiz'):
    metadata.read(tmp_path / 'no.csv')


def test_an_unknown_site_counts_as_another_and_is_told(tmp_path):
  path = written(tmp_path, HEADER, 'a,30,male,left knee', 'b,30,male,back')
  age, sex, site = zip(*metadata.read(path).values(), strict=True)
  assert metadata.encode(age, sex, site, missing_age=0)[0, 5] == 1
  (note,) = metadata.notes(sex, site)
  assert note.startswith('1 images have a site that is not one of abdomen')
  assert 'left knee' in note


# ----------------------------------------------------------------------- a run


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def config_of(data_dir, **data):
  config = small_runs.classes(data_dir, epochs=2)
  config.model.changes = dict(encoder='Plain8', classes=3, metadata=21)
  config.data.update(data)
  config.optim.name = 'sgd'  # Adam makes whole steps of rounding
  return config


def opened(config, workdir):
  made = experiment.make(config)
  data = experiment.open_data(config, workdir, made.task.inputs)
  return experiment.with_data(made, data), data


def test_batches_have_metadata_where_the_network_takes_it(data_dir, tmp_path):
  made, data = opened(config_of(data_dir), tmp_path)
  assert made.task.inputs == ('image', 'metadata')
  assert made.example(3)['metadata'].shape == (3, 21)
  for part, examples in data.parts.items():
    for i, row in enumerate(examples.rows):
      known = (data.index.age, data.index.sex, data.index.site)
      expected = data.encoding(*[[column[row]] for column in known])[0]
      np.testing.assert_array_equal(examples[i]['metadata'], expected, part)
  plain = small_runs.classes(data_dir)
  made, data = opened(plain, tmp_path)
  assert made.task.inputs == ('image',)
  assert 'metadata' not in data.parts['train'][0]
  assert data.encoding is None


def test_images_without_an_age_can_be_left_out(data_dir, tmp_path):
  """Of all parts, whatever the network, and the split says so."""
  config = config_of(data_dir, missing_age='drop')
  _, data = opened(config, tmp_path)
  unknown = set(data.index.image_id[np.isnan(data.index.age)])
  assert unknown
  kept = {i for part in data.parts for i in data.split.images(part)}
  assert kept == set(data.index.image_id) - unknown
  assert data.split.note == f'Left out {len(unknown)} images of unknown age.'
  assert any(data.split.note in note for note in data.notes)
  config.model.changes = dict(encoder='Plain8', classes=3)
  assert opened(config, tmp_path)[1].split == data.split


def test_a_width_that_does_not_fit_is_told(data_dir):
  config = config_of(data_dir, missing_age='median')
  with pytest.raises(ValueError, match="metadata is 21.*'median' makes 22"):
    experiment.make(config)


def statistics(arrays):
  return [
    float(arrays[f"['batch_stats']['metadata']['{name}']"])
    for name in ('mean', 'variance', 'count')
  ]


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  root = tmp_path_factory.mktemp('trained')
  run = config_of(data_dir), root / 'run'
  train.train(*run)
  return run


def test_statistics_are_of_the_training_images_and_stay(trained):
  """Through steps, evaluations and checkpoints."""
  config, workdir = trained
  _, data = opened(config, workdir)
  ages = data.index.age[data.parts['train'].rows].astype(float)
  expected = [np.nanmean(ages), np.nanvar(ages), np.sum(~np.isnan(ages))]
  found = statistics(final_arrays(workdir))
  assert found == pytest.approx(expected, rel=1e-6)
  told = json.loads((workdir / 'metadata.json').read_text())
  assert told == dataclasses.asdict(data.encoding)


def test_gone_on_it_is_the_same_run(trained, tmp_path):
  config, whole = trained
  first = config.copy_and_resolve_references()
  first.epochs = 1
  train.train(first, tmp_path / 'run')
  path = tmp_path / 'run' / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'epochs': 2}))
  train.train(config, tmp_path / 'run')
  assert_same_runs(whole, tmp_path / 'run')


class Tiny(nn.Module):
  """A branch and a mean colour."""

  @nn.compact
  def __call__(self, image, metadata, train):
    known = MetadataBranch(hidden=4, name='metadata')(metadata)
    colour = nn.BatchNorm(not train, name='encoder')(image.mean((1, 2)))
    return nn.Dense(3, name='logits')(jnp.concatenate([known, colour], -1))


def test_members_of_one_program_keep_their_own():
  """Folds side by side, as on an accelerator: `vmap` mixes nothing."""
  mesh = sharding.make_mesh()
  inputs = ('image', 'metadata')
  made = task.classification({'name': 'cross_entropy'})
  made = dataclasses.replace(made, inputs=inputs)
  tx = optax.sgd(0.1)
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.random((4, 2, 2, 3), np.float32),
    'metadata': 60 * rng.random((4, 21), np.float32),
    'label': np.array([0, 1, 2, 0]),
    'valid': np.ones(4, np.float32),
  }
  own = [{'mean': m, 'variance': 9.0, 'count': m} for m in (30.0, 50.0)]
  states = [
    fresh_state.plan(
      Tiny(), made, tx, batch, 0, mesh, {'batch_stats': {'metadata': one}}
    ).make()
    for one in own
  ]
  update = step.make_update(Tiny(), made, tx, lambda batch, key: batch)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
  after, _ = quick_jit(jax.vmap(update, (0, None)))(stacked, batch)
  for k, (state, expected) in enumerate(zip(states, own, strict=True)):
    kept = after.batch_stats['metadata']
    assert {name: float(x[k]) for name, x in kept.items()} == expected
    alone, _ = quick_jit(update)(state, batch)
    assert alone.batch_stats['metadata'] == expected
    assert float(alone.batch_stats['encoder']['mean'][0]) != 0  # unlike these
    np.testing.assert_allclose(
      after.params['logits']['kernel'][k],
      alone.params['logits']['kernel'],
      atol=1e-6,
    )


def test_evaluation_sees_each_image_with_its_own_metadata(trained):
  """Against ages that are standardised here, and not by the network."""
  member = ensemble.load(*trained)
  examples, made = member.data.parts['test'], member.made
  actual = np.array([p for _, p in member.mapper(examples)])
  known, rows = member.data.index, examples.rows
  age = known.age[rows]
  encoding = member.data.encoding
  given = metadata.encode(
    (age - encoding.mean) / encoding.variance**0.5,
    known.sex[rows],
    known.site[rows],
    missing_age=0,
  )
  variables, _ = ensemble.load_member(made, trained[1], 'best')
  variables['batch_stats'] = variables['batch_stats'] | {
    'metadata': {'mean': 0.0, 'variance': 1.0, 'count': 0.0}
  }
  images = np.stack([examples[i]['image'] for i in range(len(examples))])
  images = made.prepare({'image': images}, None)['image']

  def probabilities(given):
    logits = made.network.apply(variables, images, given, False)
    return made.task.probabilities(logits)

  np.testing.assert_allclose(actual, probabilities(given), atol=1e-5)
  assert abs(actual - probabilities(given[::-1])).max() > 1e-3


def test_status_tells_what_counts_as_other():
  assert metadata.status('female', 'scalp') == 'ok'
  assert metadata.status('', 'unknown') == 'ok'
  told = metadata.status('f', 'moon')
  assert told == "ok, sex 'f' counts as other, site 'moon' counts as other"
