"""Classification as a whole: temperature, points, groups; nothing is NaN."""

import json
import re

import numpy as np
import pytest
from indices import make_index

from jaxderm import (
  calibration,
  class_figures,
  class_metrics,
  class_report,
  class_summary,
  group_report,
  groups,
  isic_scores,
)

NAMES = ('nv', 'mel', 'bcc')


def table(images=90, seed=0, prefix='i', classes=3):
  """Rows of over-confident probabilities."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, classes, images)
  logits = rng.normal(size=(images, 3)) + np.eye(3)[label]
  probability = np.exp(3 * logits)
  probability /= probability.sum(1, keepdims=True)
  ids = [f'{prefix}{i:03d}' for i in range(images)]
  return {
    'image_id': ids,
    'lesion_id': ids,
    'label': [NAMES[c] for c in label],
  } | {f'p_{name}': probability[:, c] for c, name in enumerate(NAMES)}


def read(rows):
  return class_metrics.read(rows)


# ------------------------------------------------------------------- groups


def test_age_bands_by_hand():
  ages = np.array([0, 9.9, 10, 85, np.nan], np.float32)
  expected = ['0-9', '0-9', '10-19', '80-89', 'unknown']
  assert groups.age_bands(ages).tolist() == expected


def test_facts_are_those_that_are_known_of_some():
  index = make_index(
    4, age=[45, 50, np.nan, 5], sex=['male', '', 'female', 'unknown']
  )
  found = groups.facts(index, np.array([2, 1, 0]))
  assert {k: v.tolist() for k, v in found.items()} == {
    'age': ['unknown', '50-59', '40-49'],
    'sex': ['female', 'unknown', 'male'],
  }
  index = make_index(2, diagnosis_method=['histo', ''], site=['', ''])
  found = groups.facts(index, np.arange(2))
  assert {k: v.tolist() for k, v in found.items()} == {
    'diagnosis_method': ['histo', 'unknown']
  }


def test_small_groups_are_counted_and_not_scored():
  rows = {'image_id': list('abcdef'), 'lesion_id': list('xxyzuv')}
  by = {'age': np.array(['100-109', '20-29', 'unknown', '20-29', '20-29', '5'])}
  scored = []

  def score(part):
    scored.append(part['image_id'].tolist())
    return {'score': 1.0}

  found = groups.summarise(rows, by, score, smallest=3)
  assert list(found['by']['age']) == ['5', '20-29', '100-109', 'unknown']
  assert found['by']['age']['20-29'] == {
    'n_images': 3,
    'n_lesions': 3,
    'score': 1.0,
  }
  assert found['by']['age']['100-109'] == {'n_images': 1, 'n_lesions': 1}
  assert scored == [['b', 'd', 'e']]
  assert found['smallest'] == 3


# ------------------------------------------------------------------ a whole


@pytest.fixture(scope='module')
def whole():
  rows = table()
  # All men have one of two classes; there are few children.
  sex = np.where(np.asarray(rows['label']) == 'bcc', 'female', 'male')
  sex[:5] = 'child'
  validation = table(60, seed=1, prefix='v')
  return (
    rows,
    validation,
    *class_summary.finish(
      rows,
      validation,
      by={'sex': sex},
      temperature='validation',
      smallest=10,
      resamples=40,
    ),
  )


def test_the_temperature_is_fitted_on_validation_and_applied(whole):
  rows, validation, kept, summary = whole
  _, label, probability = read(validation)
  expected = calibration.fit(label, probability)
  assert summary['temperature'] == {
    'value': expected,
    'from': 'validation',
    'images': 60,
    'of_scored': 0,
  }
  assert expected > 1.5
  _, label, before = read(rows)
  _, _, after = read(kept)
  np.testing.assert_allclose(after, calibration.temper(before, expected))
  assert summary['calibration']['nll'] == pytest.approx(
    calibration.nll(label, after).mean()
  )
  assert summary['uncalibrated']['nll'] == pytest.approx(
    calibration.nll(label, before).mean()
  )
  assert summary['calibration']['ece'] < summary['uncalibrated']['ece']
  # Classes are as they were; thresholds are of what is kept.
  plain = class_metrics.summarise(rows, resamples=2)
  assert summary['confusion'] == plain['confusion']
  point = summary['operating_points']['validation']['mel']['0.90']
  tempered = read(class_summary.temper(validation, expected))[2]
  assert point['threshold'] in tempered[:, 1]


def test_scores_of_groups_are_those_of_their_rows(whole):
  _, _, kept, summary = whole
  found = summary['groups']['by']['sex']
  assert found['child'] == {'n_images': 5, 'n_lesions': 5}
  men = [i for i, k in enumerate(kept['label']) if k != 'bcc' and i >= 5]
  part = {k: np.asarray(v)[men] for k, v in kept.items()}
  alone = class_metrics.summarise(part, resamples=40)
  assert found['male']['scores'] == alone['scores']
  assert found['male']['intervals']['macro'] == alone['intervals']['macro']
  assert found['male']['absent'] == ['bcc']
  assert found['male']['images_of_class']['bcc'] == 0
  assert found['male']['per_class']['bcc']['recall'] is None
  recall = alone['per_class']['mel']['recall']
  assert found['male']['per_class']['mel']['recall'] == recall


def test_isic_scores_have_intervals(whole):
  _, _, _, summary = whole
  for name in isic_scores.NAMES:
    low, high = summary['intervals']['isic']['macro'][name]
    assert low <= summary['isic']['macro'][name] <= high
  # Without ties and with every class, it is the mean recall.
  assert summary['isic']['balanced_accuracy'] == pytest.approx(
    summary['scores']['balanced_accuracy']
  )


def test_a_summary_without_a_class_has_no_nan():
  rows, validation = table(40, classes=2), table(20, 1, 'v', classes=1)
  _, summary = class_summary.finish(
    rows, validation, by={'sex': np.array(['male'] * 40)}, resamples=20
  )
  json.dumps(summary, allow_nan=False)
  assert summary['absent'] == ['bcc']
  assert summary['isic']['per_class']['bcc']['auc'] is None
  assert summary['operating_points']['validation']['mel']['0.90'] is None
  assert summary['temperature'] == {'value': 1.0, 'from': 'none'}
  assert 'uncalibrated' not in summary


def test_a_given_temperature_and_no_validation_images():
  rows = table(30)
  kept, summary = class_summary.finish(rows, temperature='2', resamples=5)
  assert summary['temperature'] == {'value': 2.0, 'from': 'given'}
  assert summary['operating_points']['validation'] is None
  np.testing.assert_allclose(read(kept)[2].sum(1), 1)
  with pytest.raises(ValueError, match='needs validation images'):
    class_summary.finish(rows, temperature='validation', resamples=5)


def test_what_is_fitted_on_the_scored_images_is_told():
  rows = table(30)
  _, summary = class_summary.finish(
    rows, rows, temperature='validation', resamples=5
  )
  assert summary['temperature']['of_scored'] == 30
  # Thresholds that were chosen on the scored images are no others.
  assert summary['operating_points']['validation'] is None


def test_the_page_tells_all_of_it(whole, tmp_path):
  _, _, kept, summary = whole
  summary = summary | {'run': {}}
  path = tmp_path / 'report.html'
  plots = class_figures.of_rows(kept)
  class_report.write_report(path, summary, None, [], plots)
  text = path.read_text(encoding='ascii')
  assert text.count('data:image/png;base64') == 2
  for value in (
    summary['calibration']['brier'],
    summary['operating_points']['validation']['mel']['0.95']['specificity'],
    summary['operating_points']['scored']['nv']['0.90']['specificity'],
    summary['groups']['by']['sex']['male']['macro']['auc'],
  ):
    assert f'>{value:.3f}<small>' in text
  assert 'this flatters' in text
  assert '<th>child</th><td data-of="Images">5</td>' in text
  assert 'fewer than 10 images' in text
  assert f'Temperature {summary["temperature"]["value"]:.4g}' in text
  assert 'nan' not in re.sub('base64,[^"]*', '', text).lower()


def test_no_groups_no_section():
  assert group_report.section({'smallest': 30, 'by': {}}, {}) == ''
