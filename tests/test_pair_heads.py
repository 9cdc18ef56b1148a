"""The head that answers, and runs of networks that were trained on pairs."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from programs import assert_same_runs
from sklearn.metrics import average_precision_score

from jaxderm import (
  evaluate,
  experiment,
  fusion,
  pair_heads,
  scoring,
  task,
  train,
)
from jaxderm.models.discriminant import Verdicts
from jaxderm.rows import read_rows

PAIRWISE = task.pairwise({'name': 'cross_entropy'})

# ------------------------------------------------------------ the better head


def two_heads(seed=0, count=40, classes=2):
  rng = np.random.default_rng(seed)
  label = rng.integers(0, classes, count)
  logits = rng.normal(size=(count, 2, classes))
  logits[np.arange(count), 1, label] += 1  # the second has learnt something
  probability = np.exp(logits)
  probability /= probability.sum(-1, keepdims=True)
  return {'label': label, 'probability': probability}


def test_average_precision_of_melanoma_is_scikit_learns():
  columns = two_heads()
  label = columns['label']
  each = [
    average_precision_score(label, columns['probability'][:, k, 1])
    for k in (0, 1)
  ]
  named = PAIRWISE.scores(columns)
  assert named['average_precision_1'] == pytest.approx(each[0])
  assert named['average_precision_2'] == pytest.approx(each[1])
  assert named['average_precision'] == pytest.approx(max(each))
  assert each[1] > each[0] + 0.05
  # All scores are those of the better head.
  best = columns['probability'][:, 1]
  assert named['accuracy'] == pytest.approx((best.argmax(1) == label).mean())
  assert set(named) == set(PAIRWISE.score_names)
  # Of a chosen head, its own.
  alone = PAIRWISE.scores({**columns, 'probability': best})
  assert alone['average_precision'] == pytest.approx(each[1])
  # The other way round.
  swapped = {**columns, 'probability': columns['probability'][:, ::-1]}
  assert PAIRWISE.scores(swapped)['average_precision'] == pytest.approx(each[1])


def test_average_precision_of_several_classes():
  columns = two_heads(classes=3)
  label, probability = columns['label'], columns['probability'][:, 1]
  expected = np.mean(
    [average_precision_score(label == c, probability[:, c]) for c in range(3)]
  )
  found = pair_heads.average_precision(label, probability)
  assert found == pytest.approx(expected)
  # A class without images is left out; without melanoma there is none.
  some = label < 2
  found = pair_heads.average_precision(label[some], probability[some])
  expected = np.mean(
    [
      average_precision_score(label[some] == c, probability[some, c])
      for c in range(2)
    ]
  )
  assert found == pytest.approx(expected)
  lone = pair_heads.average_precision(np.zeros(3, int), np.ones((3, 2)) / 2)
  assert np.isnan(lone)


def told(folder, *precisions):
  lines = [
    {
      'step': 10 * (k + 1),
      'kind': 'validation',
      'average_precision_1': one,
      'average_precision_2': two,
    }
    for k, (one, two) in enumerate(precisions)
  ]
  lines.append({'step': 15, 'kind': 'train', 'loss': 1.0})
  text = '\n'.join(map(json.dumps, lines)) + '\n{"step": 3'
  (folder / 'metrics.jsonl').write_text(text)
  return folder


def test_the_head_is_that_of_the_state(tmp_path):
  run = told(tmp_path, (0.5, 0.6), (0.7, 0.6), (0.6, 0.6), (None, None))
  for at, head in ((10, 2), (20, 1), (25, 1), (30, 1), (40, 1)):
    found, about = pair_heads.choose('validation', run, at)
    assert (found, about['number'], about['from']) == (head, head, 'validation')
    assert about['step'] == at // 10 * 10
  assert about['average_precision'] == [None, None]
  assert pair_heads.choose('2', run, 20) == (2, {'number': 2, 'from': 'given'})
  for folder, at in ((run, 9), (tmp_path / 'nowhere', 50)):
    with pytest.raises(ValueError, match="no validation.*evaluate.head to '1'"):
      pair_heads.choose('validation', folder, at)


def test_fusion_ranks_as_the_heads_are_ranked(tmp_path):
  index = dataclasses.make_dataclass('Index', ['labels', 'label'])
  score = scoring.Paired(index(('benign', 'malignant'), None), 0.5)
  assert score.ranked_by == 'average precision of malignant'
  columns = two_heads()
  best = columns['probability'][:, 1]
  outcomes = [
    score.outcome(p, y) for p, y in zip(best, columns['label'], strict=True)
  ]
  expected = average_precision_score(columns['label'], best[:, 1])
  assert score.worth(np.array(outcomes)) == pytest.approx(expected)


# --------------------------------------------------------------------- runs


def config_of(data_dir, **values):
  made = small_runs.classes(data_dir, **values)
  made.task = 'pairwise'
  made.model.system = 'discriminant'
  made.model.changes = dict(
    encoder='Plain8', taps=('stage1',), classes=3, hidden=8
  )
  made.data.augment = dict(hflip=dict(p=0.5))
  made.evaluate.views = ('identity', 'hflip')
  return made


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'run'
  config = config_of(data_dir)
  train.train(config, workdir)
  return config, workdir


def probabilities(folder):
  rows = read_rows(folder / 'rows.csv', ('label',))
  return np.array([[v for k, v in r.items() if k[:2] == 'p_'] for r in rows])


def with_head(config, head):
  config = config.copy_and_resolve_references()
  config.evaluate.head = head
  return config


def test_a_run_answers_with_its_better_head(run, tmp_path):
  config, workdir = run
  summary = evaluate.evaluate(config, workdir, out=str(tmp_path / 'best'))
  events = map(json.loads, (workdir / 'metrics.jsonl').open())
  at = {e['step']: e for e in events if e['kind'] == 'validation'}
  head = summary['run']['head']
  event = at[summary['run']['step']]
  each = [event['average_precision_1'], event['average_precision_2']]
  assert head['from'] == 'validation' and head['average_precision'] == each
  assert head['number'] == 1 + (each[1] > each[0])
  assert event['average_precision'] == max(each)
  saved = json.loads((tmp_path / 'best' / 'summary.json').read_text())
  assert saved['run']['head'] == head
  of = {}
  for k in ('1', '2'):
    out = str(tmp_path / k)
    given = evaluate.evaluate(with_head(config, k), workdir, out=out)
    assert given['run']['head'] == {'number': int(k), 'from': 'given'}
    of[k] = probabilities(tmp_path / k)
  best = probabilities(tmp_path / 'best')
  np.testing.assert_array_equal(best, of[str(head['number'])])
  assert np.abs(of['1'] - of['2']).max() > 0.01


def test_stopped_and_gone_on_it_is_the_same_run(run, tmp_path):
  """Of three epochs; the methods go on where they were."""
  config, workdir = run
  shorter = config.copy_and_resolve_references()
  shorter.epochs = 1
  other = tmp_path / 'run'
  train.train(shorter, other)
  content = json.loads((other / 'config.json').read_text())
  (other / 'config.json').write_text(json.dumps(content | {'epochs': 3}))
  train.train(config, other)
  assert_same_runs(workdir, other)


def test_runs_are_fused_by_their_better_heads(run, data_dir, tmp_path):
  config, workdir = run
  other = config_of(data_dir, seed=1)
  folder = small_runs.save_untrained(other, tmp_path / 'other')
  told(folder, (0.1, 0.2))
  text = (
    (folder / 'metrics.jsonl').read_text().replace('"step": 10', '"step": 0')
  )
  (folder / 'metrics.jsonl').write_text(text)
  members = [(config, workdir), (other, folder)]
  for k, member in enumerate(members):
    evaluate.evaluate(*member, out=str(tmp_path / str(k)))
  summary = fusion.fuse(members, tmp_path / 'out', weights='validation')
  about = summary['run']['weights']
  assert about['picked_by'] == 'average precision, mean of the classes'
  assert about['score_of_picked'] >= about['score_of_equal']
  told_ = summary['run']['members']
  assert told_[str(folder)]['head']['number'] == 2
  first, second = (told_[str(f)]['weight'] for f in (workdir, folder))
  assert first * 20 == pytest.approx(round(first * 20))
  one, two, fused = (probabilities(tmp_path / n) for n in ('0', '1', 'out'))
  np.testing.assert_allclose(fused, first * one + second * two, atol=1e-6)


def test_labels_are_checked_and_weighed(data_dir, tmp_path):
  config = config_of(data_dir)
  config.loss = dict(name='cross_entropy', weights='balanced', first=0.0)
  made = experiment.make(config)
  data = experiment.open_data(config, tmp_path)
  label = data.index.label[data.parts['train'].rows]
  weights = len(label) / (3 * np.bincount(label, minlength=3))
  weighed = experiment.with_data(made, data).task
  said = Verdicts(jnp.zeros((3, 2, 3)), jnp.zeros((3, 2)))
  loss = weighed.loss(said, {'label': jnp.arange(3)})
  np.testing.assert_allclose(loss, weights * np.log(3), rtol=1e-5)
  config.model.changes.classes = 2
  with pytest.raises(ValueError, match='2 classes.*synthetic has 3'):
    experiment.with_data(experiment.make(config), data)


def test_a_head_that_there_is_not(data_dir):
  with pytest.raises(
    ValueError, match="evaluate.head is '3'.*1, 2, validation"
  ):
    experiment.make(with_head(config_of(data_dir), '3'))
