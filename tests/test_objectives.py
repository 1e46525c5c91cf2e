"""Losses on the TF1 code's scale, and accuracies over the classes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.objective import as_objective
from maml_tf.measures import ACCURACY, MEAN_SQUARED_ERROR
from maml_tf.objectives import MeanCrossEntropy, MeanSquaredError, ScaledCrossEntropy


def cross_entropies(outputs, labels):
  """By NumPy, `[tasks, examples]`."""
  log_sums = np.log(np.exp(outputs).sum(-1))
  return log_sums - np.take_along_axis(outputs, labels[..., None], -1)[..., 0]


@pytest.fixture
def answers():
  random = np.random.RandomState(0)
  return random.normal(size=(3, 20, 5)), random.randint(0, 5, (3, 20)).astype('int32')


@pytest.mark.parametrize('shots', [1, 4, 15])
def test_cross_entropy_is_the_sum_over_examples_divided_by_k(answers, shots):
  outputs, labels = answers
  loss = ScaledCrossEntropy(shots).loss(tf.constant(outputs), tf.constant(labels))
  np.testing.assert_allclose(loss, cross_entropies(outputs, labels).sum(1) / shots,
                             rtol=1e-13)


def test_the_support_loss_is_n_times_the_mean_cross_entropy(answers):
  outputs, labels = answers                     # 5 ways, 4 shots
  loss = ScaledCrossEntropy(4).loss(tf.constant(outputs), tf.constant(labels))
  np.testing.assert_allclose(loss, 5 * cross_entropies(outputs, labels).mean(1), rtol=1e-13)


def test_fifteen_query_examples_per_class_are_divided_by_the_same_k():
  """5 ways, 1 shot, 15 queries: 75 times the mean."""
  loss = ScaledCrossEntropy(1).loss(tf.zeros([2, 75, 5], tf.float64),
                                    tf.zeros([2, 75], tf.int32))
  np.testing.assert_allclose(loss, [75 * np.log(5)] * 2, rtol=1e-14)


def test_accuracy_is_over_classes_and_by_task():
  labels = tf.constant([[0, 1, 2, 3], [3, 3, 3, 3]])
  chosen = [[0, 1, 2, 0], [3, 0, 1, 2]]
  accuracy = ScaledCrossEntropy(1).measured(tf.one_hot(chosen, 4, dtype=tf.float64),
                                            labels)['accuracy']
  assert accuracy.dtype == tf.float64
  np.testing.assert_array_equal(accuracy, [0.75, 0.25])


def test_accuracy_counts_as_numpy_does(answers):
  outputs, labels = answers
  accuracy = ScaledCrossEntropy(4).measured(tf.constant(outputs),
                                            tf.constant(labels))['accuracy']
  np.testing.assert_allclose(accuracy, (outputs.argmax(-1) == labels).mean(1), rtol=1e-15)
  assert len(set(accuracy.numpy())) > 1


def test_squared_error_is_a_true_mean():
  random = np.random.RandomState(0)
  outputs, labels = random.normal(size=(2, 3, 7, 2))
  objective = MeanSquaredError()
  loss = objective.loss(tf.constant(outputs), tf.constant(labels))
  np.testing.assert_allclose(loss, ((outputs - labels) ** 2).mean((1, 2)), rtol=1e-14)
  measured = objective.measured(tf.constant(outputs), tf.constant(labels))
  assert list(measured) == ['loss']
  np.testing.assert_array_equal(measured['loss'], loss)


@pytest.mark.parametrize('shape', [(3, 7), (3, 7, 2), (3, 7, 4, 4, 2)])
def test_squared_error_is_of_outputs_of_any_axes(shape):
  outputs, labels = np.random.RandomState(0).normal(size=(2, *shape))
  loss = MeanSquaredError().loss(tf.constant(outputs), tf.constant(labels))
  expected = ((outputs - labels) ** 2).reshape(3, -1).mean(1)
  np.testing.assert_allclose(loss, expected, rtol=1e-14)


@pytest.mark.parametrize('loss', [
    MeanSquaredError(), 'mse', 'mae', 'huber', tf.keras.losses.MeanSquaredError(),
    tf.keras.losses.Huber(), tf.keras.losses.LogCosh()],
    ids=['its own', 'mse', 'mae', 'huber', 'MeanSquaredError', 'Huber', 'LogCosh'])
def test_classes_are_not_taken_for_targets(loss):
  """As many examples as classes: they were broadcast against each other."""
  outputs, labels = tf.zeros([1, 5, 5]), tf.range(5)[tf.newaxis]
  with pytest.raises(ConfigError, match='a target for each output.*a sparse cross-entropy'):
    as_objective(loss).loss(outputs, labels)
  assert as_objective(loss).loss(outputs[..., :1], labels).shape == [1]
  assert as_objective(loss).loss(outputs, tf.zeros([1, 5, 5])).shape == [1]


@pytest.mark.parametrize('objective', [MeanCrossEntropy(), ScaledCrossEntropy(4)],
                         ids=['mean', 'scaled'])
def test_classes_are_numbers_of_any_type(answers, objective):
  outputs, labels = answers
  expected = objective.measured(tf.constant(outputs), tf.constant(labels))
  for other in (*map(labels.astype, ('float32', 'uint8', 'int64')), labels[..., np.newaxis]):
    found = objective.measured(tf.constant(outputs), tf.constant(other))
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
  for wrong in (np.eye(5)[labels], labels.astype(str)):
    with pytest.raises(ConfigError, match='a number for each example.*Received: .*3, 20'):
      objective.measured(tf.constant(outputs), tf.constant(wrong))


def test_shots_of_0_are_refused():
  with pytest.raises(ConfigError, match='shots must be above 0. Received: 0'):
    ScaledCrossEntropy(0)


def test_losses_keep_float64():
  for objective, labels in ((MeanSquaredError(), tf.zeros([1, 2, 3])),
                            (ScaledCrossEntropy(1), tf.zeros([1, 2], tf.int32))):
    assert objective.loss(tf.zeros([1, 2, 3], tf.float64), labels).dtype == tf.float64


def test_a_task_is_judged_by_the_last_measure(answers):
  assert MeanSquaredError().measure is MEAN_SQUARED_ERROR
  objective = ScaledCrossEntropy(1)
  assert objective.measure is ACCURACY
  outputs, labels = map(tf.constant, answers)
  measured = objective.measured(outputs, labels)
  assert list(measured) == [measure.name for measure in objective.measures]
  np.testing.assert_array_equal(measured['loss'], objective.loss(outputs, labels))
