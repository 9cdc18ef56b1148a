"""Images that an epoch shows several times, and weights of classes."""

import collections
import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from indices import make_index, singles
from test_pipeline import Records

from jaxderm import class_weights, dispatch, experiment, opening, sharding
from jaxderm.data import folds, oversampling, pipeline, resident
from jaxderm.member import Member

BOTH = ('benign', 'malignant')


# ------------------------------------------------------------------ repeating


@pytest.mark.parametrize(
  'benign, malignant, expected', [(727, 173, 4430), (582, 138, 3540)]
)
def test_the_papers_counts(benign, malignant, expected):
  """SPEC 2.6: of all 900 images, and of the 720 for training."""
  label = np.array([0] * benign + [1] * malignant)
  of_class = oversampling.times({'malignant': 13, 'benign': 3}, BOTH, 'd')
  assert of_class.tolist() == [3, 13]
  assert oversampling.often(label, of_class).sum() == expected


def test_who_is_not_named_is_shown_once():
  of_class = oversampling.times({'b': 4}, ('a', 'b', 'c'), 'd')
  often = oversampling.often(np.array([2, 1, 0, -1, 1]), of_class)
  assert often.tolist() == [1, 4, 1, 1, 4]
  assert oversampling.times({}, (), 'd').tolist() == []
  none = oversampling.often(np.array([-1, -1]), oversampling.times({}, (), 'd'))
  assert none.tolist() == [1, 1]


@pytest.mark.parametrize(
  'repeats, told',
  [
    ({'mel': 3}, r'data\.repeats\.mel: isic has no such class.*benign, mali'),
    ({'benign': 0}, r'data\.repeats\.benign is 0; .* whole number'),
    ({'benign': 1.5}, r'data\.repeats\.benign is 1\.5'),
    ({'benign': True}, r'data\.repeats\.benign is True'),
  ],
)
def test_wrong_repeats_are_named(repeats, told):
  with pytest.raises(ValueError, match=told):
    oversampling.times(repeats, BOTH, 'isic')


def repeated():
  """Records 4, 1 and 9, of which 1 is shown three times."""
  return pipeline.Examples(Records(), np.array([4, 1, 1, 1, 9]), 2)


def test_an_epoch_shows_each_as_often_as_it_should():
  how = {'seed': 3, 'batch_size': 2, 'threads': 0}
  batches = pipeline.training_batches(repeated(), **how)
  seen = [b['label'] for b in itertools.islice(batches, 10)]
  for epoch in np.concatenate(seen).reshape(4, 5):
    assert collections.Counter(epoch.tolist()) == {4: 1, 1: 3, 9: 1}
  late = pipeline.training_batches(repeated(), start=4, **how)
  for one, other in zip(seen[4:], late, strict=False):
    np.testing.assert_array_equal(one, other['label'])


def test_it_is_decoded_once_and_resident_once():
  source = repeated()
  for _ in range(2):
    for i in range(5):
      source[i]
  assert source._records.read == [4, 1, 9]
  mesh = sharding.make_mesh()
  union = resident.union([source])
  columns = resident.load(union, mesh)
  assert columns['label'].tolist() == [1, 4, 9]
  order = pipeline.order(len(source), seed=3, batch_size=2)
  rows = dispatch.row_feed(order, resident.positions(source, union))(0, 10)
  host = pipeline.training_batches(source, seed=3, batch_size=2, threads=0)
  for row, batch in zip(rows, host, strict=False):
    np.testing.assert_array_equal(columns['label'][row], batch['label'])


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


def test_of_a_run_the_training_images_alone(data_dir, tmp_path):
  config = small_runs.classes(data_dir)
  config.data.repeats = dict(melanoma=5)
  config.loss = dict(name='cross_entropy', weights='balanced')
  made = experiment.make(config)
  data = experiment.open_data(config, tmp_path)
  label = data.index.label
  train = data.parts['train'].rows
  melanomas = int((label[train] == 1).sum())
  assert melanomas
  assert len(set(train.tolist())) == len(train)
  shown = collections.Counter(data.training.rows.tolist())
  assert shown == {r: 5 if label[r] == 1 else 1 for r in train.tolist()}
  count = len(train) + 4 * melanomas
  assert f'an epoch shows {count} images' in data.notes[-1]
  member = Member('', config, made, data, None)
  assert member.epoch_steps == count // config.data.batch_size
  # Weights are of what is shown, so that they do not weigh it twice.
  counts = np.bincount(label[data.training.rows])
  loss = experiment.with_data(made, data).task.loss(
    jnp.zeros((3, 3)), {'label': jnp.arange(3)}
  )
  expected = np.log(3) * count / (3 * counts)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_copies_of_a_split_are_not_repeated_again():
  label = np.array([0, 1, 0, 0, 1] * 12)
  data = make_index(
    60,
    'isic2016_part3',
    parts=('train', 'test'),
    label=label,
    lesion_id=[''] * 60,
  )
  split = folds.make(data, 'wei2020_leaky')
  rows = data.rows(split.images('train'))
  for repeats in ({}, {'benign': 3, 'malignant': 13}):
    shown = opening._shown(repeats, data, split, rows)
    assert sorted(shown) == sorted(data.rows(split.train))
  assert len(shown) == len(split.train) > 3 * len(rows)
  with pytest.raises(ValueError, match='copies of its own .benign 3, malig'):
    opening._shown({'benign': 2}, data, split, rows)
  # Of a split of images, they are.
  plain = folds.make(singles(20, 'ph2'), 'yang2021')
  index = singles(20, 'ph2')
  rows = index.rows(plain.train)
  shown = opening._shown({'malignant': 2}, index, plain, rows)
  assert len(shown) == len(rows) + int(index.label[rows].sum())


# -------------------------------------------------------------------- weights

HAM10000 = (327, 514, 1099, 115, 1113, 6705, 142)


def test_balanced_is_the_papers():
  """SPEC 3.6, and what scikit-learn calls so."""
  from sklearn.utils.class_weight import compute_class_weight

  found = class_weights.balanced(np.array(HAM10000))
  printed = [4.375, 2.783, 1.302, 12.441, 1.285, 0.213, 10.075]
  np.testing.assert_allclose(found, printed, atol=6e-4)
  label = np.repeat(np.arange(7), HAM10000)
  reference = compute_class_weight('balanced', classes=np.arange(7), y=label)
  np.testing.assert_allclose(found, reference)


def test_rules_by_hand():
  counts = np.array([100.0, 25.0])
  expected = {
    'balanced': [125 / 200, 125 / 50],
    'balanced_mean': [0.4, 1.6],  # 1 : 4
    'inverse_sqrt': [2 / 3, 4 / 3],  # 1 : 2
    'equal': [1, 1],
  }
  assert set(expected) == set(class_weights.RULES)
  for name, weights in expected.items():
    loss = {'name': 'focal_cross_entropy', 'alpha': name, 'gamma': 2}
    made = class_weights.weigh(loss, BOTH, counts)
    assert list(made) == ['alpha']
    assert made['alpha'] == pytest.approx(weights)


def test_what_is_no_rule_is_left_or_told():
  assert class_weights.asked({'name': 'x', 'alpha': 0.5, 'of': 'mine'}) == {}
  assert class_weights.weigh({'weights': (1, 2)}, BOTH, [3, 0]) == {}
  with pytest.raises(ValueError, match=r"weights is 'ballanced'.*balanced, b"):
    class_weights.asked({'name': 'cross_entropy', 'weights': 'ballanced'})
  told = r"loss\.alpha='inverse_sqrt' needs .* none of malignant"
  with pytest.raises(ValueError, match=told):
    class_weights.weigh({'alpha': 'inverse_sqrt'}, BOTH, [3, 0])


def test_a_wrong_rule_is_told_before_data_are_read(data_dir):
  config = small_runs.classes(data_dir)
  config.loss = dict(name='focal_cross_entropy', alpha='balance')
  with pytest.raises(ValueError, match="alpha is 'balance'; it must be numb"):
    experiment.make(config)


@pytest.mark.parametrize('rule', ['balanced_mean', 'equal'])
def test_a_run_weighs_by_its_rule(rule, data_dir, tmp_path):
  config = small_runs.classes(data_dir)
  config.loss = dict(name='focal_cross_entropy', alpha=rule, gamma=0.0)
  made = experiment.make(config)
  data = experiment.open_data(config, tmp_path)
  counts = np.bincount(data.index.label[data.parts['train'].rows])
  expected = np.log(3) * class_weights.RULES[rule](counts)
  weighed = experiment.with_data(made, data)
  found = weighed.task.loss(jnp.zeros((3, 3)), {'label': jnp.arange(3)})
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert weighed.task.inputs == made.task.inputs
  gone = dataclasses.replace(data.index, label=data.index.label.clip(max=1))
  if rule == 'balanced_mean':
    with pytest.raises(ValueError, match='none of seborrheic_keratosis'):
      experiment.with_data(made, dataclasses.replace(data, index=gone))
