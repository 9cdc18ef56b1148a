"""The rules of validation against the Keras callbacks that the papers used."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import keras
import numpy as np
import pytest

from jaxderm import control

LOSSES = [0.9, 0.7, 0.70005, 0.71, 0.6, 0.6, 0.65, 0.64, 0.63, 0.62, 0.5]
LOSSES += [0.5, 0.55, 0.5, 0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56]


def ours(values, rules):
  progress, history = control.Progress(), []
  for step, value in enumerate(values, start=1):
    progress = control.advance(progress, rules, step, value)
    history.append(progress)
    if progress.stopped:
      break
  return history


class FakeModel:
  """As much of a Keras model as the callbacks touch."""

  def __init__(self, learning_rate):
    self.optimizer = keras.optimizers.SGD(learning_rate)
    self.stop_training = False

  def get_weights(self):
    return []


@pytest.mark.parametrize('mode', ['min', 'max'])
@pytest.mark.parametrize('patience, floor', [(1, 0.0), (2, 0.0), (3, 0.3)])
def test_plateau_is_keras(mode, patience, floor):
  values = LOSSES if mode == 'min' else [-v for v in LOSSES]
  callback = keras.callbacks.ReduceLROnPlateau(
    monitor='v',
    factor=0.5,
    patience=patience,
    mode=mode,
    min_delta=1e-4,
    min_lr=floor,
  )
  model = FakeModel(1.0)
  callback.set_model(model)
  callback.on_train_begin()
  expected = []
  for epoch, value in enumerate(values):
    callback.on_epoch_end(epoch, {'v': value})
    expected.append(float(model.optimizer.learning_rate.numpy()))
  rules = control.Rules(
    mode=mode,
    plateau_patience=patience,
    plateau_factor=0.5,
    plateau_min_delta=1e-4,
    plateau_floor=floor,
  )
  rates = [p.rate for p in ours(values, rules)]
  np.testing.assert_allclose(rates, expected, rtol=1e-6)
  assert len(set(rates)) > 2  # the rate fell, or nothing was tested


def test_the_plateau_may_look_at_another_score():
  """As do2022: the rate falls by the loss, the accuracy says which is best."""
  rules = control.Rules(
    mode='max',
    stop_patience=9,
    plateau_mode='min',
    plateau_patience=2,
    plateau_factor=0.2,
  )
  accuracies = [0.5, 0.6, 0.7, 0.6, 0.8]  # a plateau would be none of them
  losses = [1.0, 0.9, 0.95, 0.96, 0.8]
  progress, history = control.Progress(), []
  for k, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True)):
    progress = control.advance(progress, rules, k, accuracy, loss)
    history.append(progress)
  assert [p.best_step for p in history] == [0, 1, 2, 2, 4]
  assert [p.rate for p in history] == [1, 1, 1, 0.2, 0.2]
  assert history[-1].plateau_best == 0.8  # the loss
  assert history[-1].stop_best == 0.8  # the accuracy
  # Alone it looks at the same score, the same way.
  alone = control.Rules(mode='max', plateau_patience=2)
  assert control.advance(control.Progress(), alone, 0, 0.5).plateau_best == 0.5


@pytest.mark.parametrize('patience', [1, 2, 4])
@pytest.mark.parametrize('min_delta', [0.0, 0.05])
def test_early_stopping_is_keras(patience, min_delta):
  callback = keras.callbacks.EarlyStopping(
    monitor='v', patience=patience, mode='min', min_delta=min_delta
  )
  model = FakeModel(1.0)
  callback.set_model(model)
  callback.on_train_begin()
  for epoch, value in enumerate(LOSSES):
    callback.on_epoch_end(epoch, {'v': value})
    if model.stop_training:
      break
  rules = control.Rules(stop_patience=patience, stop_min_delta=min_delta)
  history = ours(LOSSES, rules)
  assert len(history) == epoch + 1
  assert history[-1].stopped == model.stop_training


def test_best_is_the_first_of_equals():
  history = ours([0.5, 0.3, 0.3, 0.4], control.Rules())
  assert [p.best_step for p in history] == [1, 2, 2, 2]
  assert history[-1].best == 0.3


def test_a_number_that_is_none_is_no_gain():
  history = ours([float('nan'), 0.3, float('-inf')], control.Rules())
  assert [p.best_step for p in history] == [-1, 2, 2]


def test_rules_refuse_a_mode():
  with pytest.raises(ValueError, match=r'monitor\.mode.*biggest'):
    control.Rules(mode='biggest')
