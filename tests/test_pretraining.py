"""Pre-training: one net for all tasks, on the support sets, without adaptation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.baselines.pretraining import Pretraining
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy
from maml_tf.training.optimizers import build_optimizer


def pretraining(learner=None, objective=None, **kwargs):
  return Pretraining(learner or FullyConnected(1, (6, 5), 1, 'None'),
                     objective or MeanSquaredError(),
                     **{**dict(step_size=0.1, num_updates=1, dtype='float64'), **kwargs})


def test_its_gradient_is_the_difference_of_the_support_loss(make_regression, generic_values):
  model = pretraining()
  values = generic_values(model.learner)
  model.meta_parameters.assign(values)
  episodes = make_regression(tasks=3, examples=5)
  means, gradients = model.meta_gradient(episodes)
  assert list(means) == ['loss']

  def support_loss(parameters):
    outputs = model.learner({name: tf.constant(value) for name, value in parameters.items()},
                            episodes.support.inputs)
    return float(tf.reduce_mean(tf.square(outputs - episodes.support.labels)))
  np.testing.assert_allclose(means['loss'], support_loss(values), rtol=1e-13)
  random = np.random.RandomState(0)
  for name in values:
    direction = random.normal(size=values[name].shape)
    ahead, behind = (support_loss({**values, name: values[name] + sign * 1e-6 * direction})
                     for sign in (1, -1))
    np.testing.assert_allclose(np.sum(gradients[name] * direction), (ahead - behind) / 2e-6,
                               rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize('tasks_at_once', [0, 1, 2])
def test_it_depends_on_support_sets_alone(make_classification, tasks_at_once):
  model = pretraining(FullyConnected(4, (6,), 3, 'batch_norm'), ScaledCrossEntropy(2),
                      tasks_at_once=tasks_at_once)
  episodes = make_classification(tasks=4, ways=3, shots=2, image_shape=(2, 2, 1))
  other = episodes.replaced(query_inputs=-episodes.query.inputs,
                            query_labels=0 * episodes.query.labels)
  means, gradients = model.meta_gradient(episodes)
  other_means, other_gradients = model.meta_gradient(other)
  assert list(means) == ['loss', 'accuracy']
  tf.nest.map_structure(np.testing.assert_array_equal, means, other_means)
  for name, value in gradients.items():
    np.testing.assert_array_equal(value, other_gradients[name])
  results = model.task_results(episodes, 0)
  for name, value in means.items():
    np.testing.assert_allclose(value, np.mean(results.support[name]), rtol=1e-12)


def test_it_equals_maml_without_updates_where_the_sets_are_equal(make_regression):
  episodes = make_regression(tasks=3, examples=5)
  episodes = episodes.replaced(query_inputs=episodes.support.inputs,
                               query_labels=episodes.support.labels)
  _, received = pretraining(seed=2).meta_gradient(episodes)
  maml = MAML(FullyConnected(1, (6, 5), 1, 'None'), MeanSquaredError(), step_size=0.1,
              num_updates=0, seed=2, dtype='float64')
  _, expected = maml.meta_gradient(episodes)
  for name, value in expected.items():
    np.testing.assert_allclose(received[name], value, rtol=1e-11, atol=1e-14)


def test_it_trains_the_parameters_of_another_model(make_regression):
  maml = MAML(FullyConnected(1, (6, 5), 1, 'None'), MeanSquaredError(), step_size=0.1,
              num_updates=1, seed=4, dtype='float64')
  shared = pretraining(maml.learner, maml.objective, parameters=maml.meta_parameters)
  alone = pretraining(seed=4)
  before = maml.meta_parameters.arrays()
  dataset = tf.data.Dataset.from_tensors(make_regression(tasks=2, examples=4)).repeat(5)
  for model in (maml, shared, alone):
    model.compile(build_optimizer('adam', 0.02, 'float64'))
  for model in (shared, alone):
    model.fit(dataset, verbose=0, shuffle=False)
  received = maml.meta_parameters.arrays()
  for name, expected in alone.meta_parameters.arrays().items():
    np.testing.assert_allclose(received[name], expected, rtol=0, atol=1e-13)
    assert np.abs(received[name] - before[name]).max() > 1e-3
  # Every phase counts by itself.
  assert int(shared.optimizer.iterations) == 5
  assert int(maml.optimizer.iterations) == 0


def test_it_learns_what_tasks_have_in_common(make_regression):
  model = pretraining(step_size=0.1)
  model.compile(build_optimizer('adam', 0.02, 'float64'))
  episodes = make_regression(tasks=1, examples=4)
  episodes = episodes.replaced(support_labels=2 * episodes.support.inputs + 1)
  losses = model.fit(tf.data.Dataset.from_tensors(episodes).repeat(150), epochs=2,
                     verbose=0, shuffle=False).history['loss']
  assert losses[-1] < 0.1 * float(tf.reduce_mean(tf.square(episodes.support.labels)))
