"""A part of the data without one of the classes: scores without a NaN."""

import json
import math

import pytest
import small_runs

from jaxderm import evaluate, experiment, recipe
from jaxderm.data import folds


def without(config, path):
  """A split: no melanoma in training, no keratosis in test or validation."""
  data = experiment.open_data(config, path)
  label = dict(zip(data.index.image_id, data.index.label, strict=True))
  split = folds.make(data.index, validation=0.2)
  kept = {
    part: [i for i in getattr(split, part) if label[i] != absent]
    for part, absent in (('train', 1), ('validation', 2), ('test', 2))
  }
  content = vars(split) | kept
  (path / 'mine.json').write_text(json.dumps(content))
  return str(path / 'mine.json')


def numbers(content):
  """Every number of a summary, with its key."""
  flat = recipe.flatten(content)
  for key, value in flat.items():
    for one in value if isinstance(value, list) else [value]:
      if isinstance(one, float):
        yield key, one


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  root = tmp_path_factory.mktemp('absent')
  config = small_runs.classes(root)
  config.data.split_file = without(config, root)
  workdir = small_runs.save_untrained(config, root / 'run')
  evaluate.evaluate(config, workdir)
  return config, workdir


def test_no_table_has_a_nan(run):
  _, workdir = run
  summary = json.loads((workdir / 'summary.json').read_text())
  told = dict(numbers(summary))
  assert len(told) > 10
  assert [k for k, v in told.items() if not math.isfinite(v)] == []
  assert 'NaN' not in (workdir / 'summary.json').read_text()
  assert 'nan' not in (workdir / 'rows.csv').read_text().lower()
  text = (workdir / 'report.html').read_text()
  assert '>nan<' not in text.lower()
  assert 'No image is of seborrheic_keratosis' in text


def test_the_absent_class_has_no_scores_and_is_in_no_mean(run):
  _, workdir = run
  summary = json.loads((workdir / 'summary.json').read_text())
  per_class = summary['per_class']
  assert per_class['seborrheic_keratosis']['auc'] is None
  assert per_class['seborrheic_keratosis']['recall'] is None
  recalls = [per_class[k]['recall'] for k in ('nevus', 'melanoma')]
  assert summary['macro']['recall'] == pytest.approx(sum(recalls) / 2)


def test_the_absent_class_of_training_is_told(run, capsys):
  config, workdir = run
  made = experiment.make(config)
  data = experiment.open_data(config, workdir)
  experiment.with_data(made, data)
  assert 'no training image is of melanoma' in capsys.readouterr().out
  config = config.copy_and_resolve_references()
  config.loss = dict(name='cross_entropy', weights='balanced')
  with pytest.raises(ValueError, match='there is none of melanoma. Give the'):
    experiment.with_data(experiment.make(config), data)
