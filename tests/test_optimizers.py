"""The outer loop's optimizers, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.config import (
  ADDONS_OPTIMIZERS,
  KERAS_OPTIMIZERS,
  META_OPTIMIZERS,
  TRUST_REGION,
  ConfigError,
)
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError
from maml_tf.training import optimizers
from maml_tf.training.optimizers import build_optimizer

STEPS = 30


def gradients_of(seed=0):
  """`[STEPS, 6]`, from ordinary sizes down to where Adam's epsilon counts."""
  random = np.random.RandomState(seed)
  return random.normal(size=(STEPS, 6)) * [1, 10, 1e-3, 1e-6, 1e-8, 1e-9]


def run(optimizer, dtype):
  """The variable after every step, `[STEPS, 6]`."""
  variable = tf.Variable(np.linspace(-0.5, 1, 6), dtype=dtype)
  optimizer.build([variable])
  visited = []
  for gradient in gradients_of():
    optimizer.apply_gradients([(tf.constant(gradient, dtype), variable)])
    visited.append(variable.numpy())
  return np.array(visited)


def adam_by_numpy(rate, beta_1, beta_2, epsilon):
  """As TF1 writes it: the correction of the bias is part of the rate."""
  value, first, second = np.linspace(-0.5, 1, 6), np.zeros(6), np.zeros(6)
  visited = []
  for step, gradient in enumerate(gradients_of(), start=1):
    first = beta_1 * first + (1 - beta_1) * gradient
    second = beta_2 * second + (1 - beta_2) * gradient ** 2
    corrected = rate * np.sqrt(1 - beta_2 ** step) / (1 - beta_1 ** step)
    value = value - corrected * first / (np.sqrt(second) + epsilon)
    visited.append(value)
  return np.array(visited)


def rounded(*values):
  """Through float32, as TF1 stored its constants."""
  return [float(np.float32(value)) for value in values]


def test_adam_in_float64_is_tf1s_to_round_off():
  expected = adam_by_numpy(*rounded(0.001, 0.9, 0.999, 1e-8))
  np.testing.assert_allclose(run(build_optimizer('adam', 0.001, 'float64'), 'float64'),
                             expected, rtol=0, atol=1e-12 * 0.001 * STEPS)


def test_that_comparison_sees_the_constants():
  """Exact decimals, and Keras's epsilon, are further away than it allows."""
  received = run(build_optimizer('adam', 0.001, 'float64'), 'float64')
  for constants in ((0.001, 0.9, 0.999, 1e-8), rounded(0.001, 0.9, 0.999, 1e-7)):
    assert np.abs(received - adam_by_numpy(*constants)).max() > 1e-9


def test_adam_in_float32():
  expected = adam_by_numpy(*rounded(0.001, 0.9, 0.999, 1e-8))
  received = run(build_optimizer('adam', 0.001), 'float32')
  assert received.dtype == np.float32
  np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6)
  # Keras's epsilon would show, where gradients are 1e-8.
  assert np.abs(received - adam_by_numpy(0.001, 0.9, 0.999, 1e-7)).max() > 1e-3


def sgd_by_numpy(rate, momentum):
  value, velocity, visited = np.linspace(-0.5, 1, 6), np.zeros(6), []
  for gradient in gradients_of():
    velocity = momentum * velocity - rate * gradient
    value = value + velocity
    visited.append(value)
  return np.array(visited)


@pytest.mark.parametrize('name, momentum', [('sgd', 0.0), ('momentum', 0.9)])
def test_sgd_and_momentum(name, momentum):
  expected = sgd_by_numpy(*rounded(0.01, momentum))
  np.testing.assert_allclose(run(build_optimizer(name, 0.01, 'float64'), 'float64'), expected,
                             rtol=0, atol=1e-13)
  np.testing.assert_allclose(run(build_optimizer(name, 0.01), 'float32'), expected,
                             rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype, tolerance', [('float64', 1e-13), ('float32', 1e-5)])
def test_the_step_size_falls_linearly_to_0(dtype, tolerance):
  """Over fewer steps than are made: those after them change nothing."""
  value, expected = np.linspace(-0.5, 1, 6), []
  for step, gradient in enumerate(gradients_of()):
    value = value - max(0.0, 1 - step / 20) * float(np.float32(0.3)) * gradient
    expected.append(value)
  received = run(build_optimizer('sgd', 0.3, dtype, decay_iterations=20), dtype)
  np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)
  np.testing.assert_array_equal(received[20:], received[20:21].repeat(10, axis=0))


@pytest.mark.parametrize('dtype, tolerance', [('float64', 1e-13), ('float32', 1e-5)])
def test_the_step_size_is_halved_again_and_again(dtype, tolerance):
  value, expected = np.linspace(-0.5, 1, 6), []
  for step, gradient in enumerate(gradients_of()):
    value = value - 0.5**(step // 7) * float(np.float32(0.3)) * gradient
    expected.append(value)
  received = run(build_optimizer('sgd', 0.3, dtype, decay_iterations=7, schedule='halving'),
                 dtype)
  np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('name', [name for name in META_OPTIMIZERS if name != TRUST_REGION])
def test_every_optimizer_takes_a_schedule(name):
  if name in ADDONS_OPTIMIZERS and optimizers.tensorflow_addons() is None:
    pytest.skip('TensorFlow Addons needs Keras 2')
  def steps(**kwargs):
    optimizer, variable = build_optimizer(name, 0.1, **kwargs), tf.Variable([1.0, -1.0])
    values = [variable.numpy()]
    for _ in range(2):
      optimizer.apply_gradients([(tf.constant([0.5, -2.0]), variable)])
      values.append(variable.numpy())
    return np.abs(np.diff(values, axis=0))
  constant, falling = steps(), steps(decay_iterations=3)
  np.testing.assert_array_equal(falling[0], constant[0])
  assert np.all(falling[1] < constant[1]) and np.all(falling[1] > 0)


@pytest.mark.parametrize('name', KERAS_OPTIMIZERS)
def test_precisions_agree(name):
  single = run(build_optimizer(name, 0.01), 'float32')
  double = run(build_optimizer(name, 0.01, 'float64'), 'float64')
  assert double.dtype == np.float64
  assert np.all(np.any(double != double.astype('float32'), axis=0))
  np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_the_default_float_type_is_left_as_it_was(dtype):
  before = tf.keras.backend.floatx()
  build_optimizer('adam', 0.1, dtype)
  assert tf.keras.backend.floatx() == before == 'float32'


def train(name, make_regression, steps=3):
  model = MAML(FullyConnected(1, (6,), 1, 'None'), MeanSquaredError(), step_size=0.05,
               num_updates=1)
  model.compile(build_optimizer(name, 0.01))
  before = model.meta_parameters.arrays()
  dataset = tf.data.Dataset.from_tensors(make_regression(2, 5, dtype='float32'))
  model.fit(dataset.repeat(steps), verbose=0, shuffle=False)
  assert int(model.optimizer.iterations) == steps
  return before, model.meta_parameters.arrays()


@pytest.mark.parametrize('name', META_OPTIMIZERS)
def test_every_optimizer_trains_a_model(name, make_regression):
  if name in ADDONS_OPTIMIZERS and optimizers.tensorflow_addons() is None:
    with pytest.raises(ConfigError, match=f'--meta_optimizer={name}'):
      build_optimizer(name, 0.01)
    return
  before, after = train(name, make_regression)
  for parameter in ('dense1/kernel', 'output/bias'):
    assert np.any(after[parameter] != before[parameter])
    assert np.all(np.isfinite(after[parameter]))


@pytest.mark.parametrize('name', ADDONS_OPTIMIZERS)
def test_addons_that_are_missing_are_a_user_error(name, monkeypatch):
  monkeypatch.setattr(optimizers, 'tensorflow_addons', lambda: None)
  with pytest.raises(ConfigError) as error:
    build_optimizer(name, 0.01)
  assert f'--meta_optimizer={name}' in str(error.value)
  assert 'TensorFlow Addons' in str(error.value)
