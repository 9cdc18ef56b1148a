"""What evaluation chooses on validation images, and for whom it scores."""

import types

import numpy as np
import pytest
import small_runs

from jaxderm import (
  calibration,
  class_metrics,
  evaluate,
  groups,
  metrics,
  rows,
  scoring,
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  config = small_runs.classes(tmp_path_factory.mktemp('data'))
  config.data.size = 32
  workdir = tmp_path_factory.mktemp('runs') / 'classes'
  return config, small_runs.save_untrained(config, workdir)


def evaluated(run, out, split, **settings):
  """The summary and the probabilities of a part."""
  config, workdir = run
  config = config.copy_and_resolve_references()
  config.evaluate.update(settings)
  summary = evaluate.evaluate(config, workdir, split, out=str(out))
  table = rows.read_rows(out / 'rows.csv', ('label',))
  return summary, class_metrics.read(rows.columns(table, ('label',)))


def test_a_temperature_is_fitted_on_the_validation_images(run, tmp_path):
  _, (_, label, probability) = evaluated(run, tmp_path / 'v', 'validation')
  expected = calibration.fit(label, probability)
  assert abs(expected - 1) > 0.05
  # Noise is for what is scored; the temperature is of clean images.
  noise = {'noise': 0.3, 'smallest_group': 2}
  plain, (_, _, before) = evaluated(run, tmp_path / 'plain', 'test', **noise)
  fitted = {'temperature': 'validation'}
  summary, (_, _, after) = evaluated(
    run, tmp_path / 'fit', 'test', **noise, **fitted
  )
  assert summary['temperature']['value'] == pytest.approx(expected, rel=1e-3)
  assert summary['temperature']['images'] == len(label)
  np.testing.assert_allclose(
    after, calibration.temper(before, expected), atol=1e-4
  )
  assert summary['uncalibrated']['nll'] == pytest.approx(
    plain['calibration']['nll']
  )
  both, _ = evaluated(run, tmp_path / 'both', 'validation', **fitted)
  assert both['temperature']['of_scored'] == len(label)
  assert both['operating_points']['validation'] is None


def test_a_wrong_temperature_is_told_before_anything_is_done(run, tmp_path):
  with pytest.raises(ValueError, match="temperature is 'hot'"):
    evaluated(run, tmp_path / 'hot', 'test', temperature='hot')


def test_folds_have_no_validation_images_in_common():
  def member(*names):
    return types.SimpleNamespace(image_ids=lambda part: list(names))

  class Score:
    chooses = True

  rows_ = {'image_id': ['a']}
  for members in ([member('a'), member('b')], [member(), member()]):
    ensemble = types.SimpleNamespace(members=members)
    assert evaluate._to_choose_on(Score, ensemble, 'test', rows_) is None
  ensemble = types.SimpleNamespace(members=[member('a'), member('b')])
  assert evaluate._to_choose_on(Score, ensemble, 'validation', rows_) is rows_
  Score.chooses = False
  ensemble = types.SimpleNamespace(members=[member('a')])
  assert evaluate._to_choose_on(Score, ensemble, 'test', rows_) is None


def test_masks_are_scored_for_groups_too():
  from indices import make_index

  index = make_index(6, sex=['male', 'female', 'male', 'male', '', 'female'])
  score = scoring.Masks(index, 0.5)
  table = {
    'image_id': index.image_id,
    'lesion_id': index.lesion_id,
    **{k: np.arange(1, 7) * i for i, k in enumerate(rows.COUNTS, 1)},
  }
  kept, summary = score.finish(table, None, resamples=10, smallest=3)
  assert kept is table
  found = summary['groups']['by']['sex']
  assert found['female'] == {'n_images': 2, 'n_lesions': 2}
  chosen = {k: np.asarray(v)[[0, 2, 3]] for k, v in table.items()}
  expected = metrics.summarise(chosen, resamples=10)
  assert found['male']['per_image'] == expected['per_image']
  assert found['male']['intervals'] == expected['intervals']
  assert found['unknown']['n_images'] == 1
  assert groups.SMALLEST == 30
