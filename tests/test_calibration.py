"""Calibration: by hand, and against scikit-learn and scipy."""

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve

from jaxderm import calibration


def drawn(images=400, classes=4, scale=3.0, seed=0):
  """Labels and over-confident probabilities: their logits are `scale` times."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(images, classes))
  label = np.array([rng.choice(classes, p=p) for p in softmax(logits, axis=1)])
  return label, softmax(scale * logits, axis=1)


def test_error_by_hand():
  # Bins of 1/15: (13/15, 14/15] has the first two, (10/15, 11/15] the third.
  probability = np.array([[0.9, 0.1], [0.1, 0.9], [0.3, 0.7], [0.5, 0.5]])
  label = np.array([0, 0, 1, 1])
  got = calibration.summarise(label, probability, np.arange(4), resamples=20)
  # |1 - 1.8| + |1 - 0.7| + |0 - 0.5|, of four images.
  assert got['ece'] == pytest.approx((0.8 + 0.3 + 0.5) / 4)
  assert got['brier'] == pytest.approx(2 * (0.01 + 0.81 + 0.09 + 0.25) / 4)
  expected = -np.log([0.9, 0.1, 0.7, 0.5]).mean()
  assert got['nll'] == pytest.approx(expected)
  found = got['reliability']
  assert found['counts'] == [0] * 7 + [1, 0, 0, 1, 0, 0, 2, 0]
  assert found['accuracy'][13] == 1 / 2
  assert found['confidence'][13] == pytest.approx(0.9)
  assert found['accuracy'][0] is None
  for name in calibration.SCORES:
    low, high = got['intervals'][name]
    assert low <= got[name] <= high


def test_a_probability_at_an_edge_is_in_the_lower_bin():
  edges = [0, 0.2, 0.4, 1.0]
  found = calibration.bin_of(np.array(edges), bins=5)
  assert found.tolist() == [0, 0, 1, 4]


def test_reliability_is_scikit_learns():
  label, probability = drawn(classes=2)
  sure = probability.max(1)
  right = probability.argmax(1) == label
  shares, means = calibration_curve(right, sure, n_bins=15)
  found = calibration.reliability(label, probability)
  full = [i for i, n in enumerate(found['counts']) if n]
  np.testing.assert_allclose([found['accuracy'][i] for i in full], shares)
  np.testing.assert_allclose([found['confidence'][i] for i in full], means)


def test_brier_and_likelihood_are_scikit_learns():
  label, probability = drawn(classes=2)
  half = sk.brier_score_loss(label, probability[:, 1])
  assert calibration.brier(label, probability).mean() == pytest.approx(2 * half)
  label, probability = drawn()
  expected = sk.log_loss(label, probability, labels=range(4))
  assert calibration.nll(label, probability).mean() == pytest.approx(expected)


def test_temperature_is_the_one_that_was_put_in_and_scipys():
  label, probability = drawn(4000, scale=3.0)
  found = calibration.fit(label, probability)
  assert found == pytest.approx(3, abs=0.25)
  logits = np.log(probability)

  def loss(parameters):
    scaled = log_softmax(logits / parameters[0], axis=1)
    return -scaled[np.arange(len(label)), label].mean()

  expected = minimize(loss, [1.0], method='Nelder-Mead', tol=1e-9).x[0]
  assert found == pytest.approx(expected, rel=1e-4)
  before, after = (
    calibration.summarise(label, p, np.arange(len(label)), resamples=1)
    for p in (probability, calibration.temper(probability, found))
  )
  assert after['ece'] < 0.05 and before['ece'] > 0.15
  assert after['nll'] < before['nll'] and after['brier'] < before['brier']


def test_tempering_is_that_of_the_logits_and_keeps_the_order():
  logits = np.random.default_rng(0).normal(size=(20, 5)) * 4
  probability = softmax(logits, axis=1)
  for temperature in (0.5, 2.0, 7.0):
    found = calibration.temper(probability, temperature)
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=1))
    np.testing.assert_array_equal(found.argsort(1), probability.argsort(1))
  assert calibration.temper(probability, 1.0) is probability


def test_certain_probabilities_stay_finite():
  sure = np.array([[1.0, 0.0], [0.0, 1.0]])
  label = np.array([0, 1])
  found = calibration.fit(label, sure)
  assert calibration.LOWEST <= found <= calibration.HIGHEST
  assert calibration.fit(1 - label, sure) == pytest.approx(20, rel=1e-3)
  assert np.isfinite(calibration.nll(1 - label, sure)).all()
  np.testing.assert_allclose(calibration.temper(sure, 2.0), sure, atol=1e-12)


def test_what_a_temperature_may_be():
  assert calibration.check('none') == 1
  assert calibration.check('1.5') == 1.5
  assert calibration.check('validation') is None
  for wrong in ('0', '-1', 'nan', 'inf', 'fitted'):
    with pytest.raises(ValueError, match=f"temperature is '{wrong}'.*above 0"):
      calibration.check(wrong)
  with pytest.raises(ValueError, match='for networks that classify'):
    calibration.check('2', 'segmentation')
  assert calibration.check('none', 'segmentation') == 1
