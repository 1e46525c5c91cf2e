"""The inner loop: plain gradient descent on each task, by itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.inner_loop import adaptation
from maml_tf.inner_optimizers import sgd
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

STEP_SIZE = 0.05


def adapt(learner, objective, parameters, episodes, num_updates, first_order=False,
          step_size=STEP_SIZE):
  return list(adaptation(
      lambda values, batch: objective.loss(learner(values, batch.inputs), batch.labels),
      {name: tf.constant(value) for name, value in parameters.items()}, episodes.support,
      sgd(step_size), names=learner.adapted_names, num_updates=num_updates,
      first_order=first_order))


@pytest.mark.parametrize('first_order', [False, True])
def test_linear_regression_is_gradient_descent_by_numpy(make_regression, generic_values,
                                                        first_order):
  learner = FullyConnected(2, (), 1, 'None')
  episodes = make_regression(tasks=3, examples=5, num_inputs=2)
  values = generic_values(learner)
  steps = adapt(learner, MeanSquaredError(), values, episodes, 4, first_order)
  assert len(steps) == 5
  for task in range(3):
    kernel, bias = values['output/kernel'], values['output/bias']
    x, y = episodes.support.inputs[task].numpy(), episodes.support.labels[task].numpy()
    for step in steps:
      np.testing.assert_allclose(step['output/kernel'][task], kernel, rtol=1e-12)
      np.testing.assert_allclose(step['output/bias'][task], bias, rtol=1e-12)
      error = x @ kernel + bias - y
      kernel = kernel - STEP_SIZE * 2 * x.T @ error / len(x)
      bias = bias - STEP_SIZE * 2 * error.mean(0)


@pytest.mark.parametrize('shots', [1, 2])
def test_softmax_regression_sums_over_examples_and_divides_by_k(make_classification,
                                                                generic_values, shots):
  learner = FullyConnected(4, (), 3, 'None')
  episodes = make_classification(tasks=2, ways=3, shots=2, image_shape=(2, 2, 1))
  values = generic_values(learner)
  _, adapted = adapt(learner, ScaledCrossEntropy(shots), values, episodes, 1)
  for task in range(2):
    x = episodes.support.inputs[task].numpy().reshape(6, 4)
    logits = x @ values['output/kernel'] + values['output/bias']
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    errors -= np.eye(3)[episodes.support.labels[task].numpy()]
    expected = values['output/kernel'] - STEP_SIZE * x.T @ errors / shots
    np.testing.assert_allclose(adapted['output/kernel'][task], expected, rtol=1e-12)


@pytest.fixture
def convolutional(make_classification, generic_values):
  def make(norm='batch_norm', tasks=2):
    learner = Convolutional((9, 8, 1), 4, 3, norm, max_pool=False, spatial_mean=True)
    return (learner, ScaledCrossEntropy(2), generic_values(learner),
            make_classification(tasks, 3, 2, (9, 8, 1)))
  return make


@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm', 'None'])
def test_a_step_is_along_the_finite_difference_gradient(convolutional, norm):
  """Through a whole net: coordinates of every adapted parameter, for one task."""
  learner, objective, values, episodes = convolutional(norm, tasks=1)
  start, adapted = adapt(learner, objective, values, episodes, 1)

  def support_loss(name, index, offset):
    moved = {key: value.copy() for key, value in values.items()}
    moved[name].flat[index] += offset
    outputs = learner({key: tf.constant(value) for key, value in moved.items()},
                      episodes.support.inputs)
    return objective.loss(outputs, episodes.support.labels).numpy()[0]
  for name in learner.adapted_names:
    index = values[name].size // 2
    slope = (support_loss(name, index, 1e-6) - support_loss(name, index, -1e-6)) / 2e-6
    moved = (adapted[name] - start[name]).numpy().flat[index]
    np.testing.assert_allclose(moved, -STEP_SIZE * slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm'])
def test_offsets_and_scales_are_handed_on_unchanged(convolutional, norm):
  learner, objective, values, episodes = convolutional(norm)
  for step in adapt(learner, objective, values, episodes, 3):
    assert set(step) == set(values)
    for name, value in step.items():
      if name in learner.adapted_names:
        assert value.shape == (2, *values[name].shape)
      else:
        np.testing.assert_array_equal(value, values[name])


def test_every_kernel_is_adapted_and_tasks_differ(convolutional):
  learner, objective, values, episodes = convolutional()
  start, adapted = adapt(learner, objective, values, episodes, 1)
  for name in learner.adapted_names:
    np.testing.assert_array_equal(start[name], np.stack([values[name]] * 2))
    if name.endswith('kernel'):
      # Not every element: on a small map some see only padding, or dead units.
      assert np.abs(adapted[name] - start[name]).max() > 1e-3
      assert np.abs(adapted[name][0] - adapted[name][1]).max() > 1e-3


def test_a_task_adapts_as_if_it_were_alone(convolutional):
  learner, objective, values, episodes = convolutional(tasks=3)
  *_, together = adapt(learner, objective, values, episodes, 3)
  for task in range(3):
    alone = tf.nest.map_structure(lambda value, task=task: value[task:task + 1], episodes)
    *_, adapted = adapt(learner, objective, values, alone, 3)
    for name in learner.adapted_names:
      np.testing.assert_allclose(adapted[name][0], together[name][task], rtol=1e-10,
                                 atol=1e-12)


def test_no_updates_yield_the_initialisation(convolutional):
  learner, objective, values, episodes = convolutional()
  assert len(adapt(learner, objective, values, episodes, 0)) == 1


def test_first_order_adapts_to_the_same_parameters(convolutional):
  learner, objective, values, episodes = convolutional()
  for exact, approximate in zip(adapt(learner, objective, values, episodes, 3, False),
                                adapt(learner, objective, values, episodes, 3, True)):
    for name in values:
      np.testing.assert_array_equal(exact[name], approximate[name])


def test_the_query_set_has_no_part_in_it(convolutional):
  learner, objective, values, episodes = convolutional()
  other = episodes.replaced(query_inputs=episodes.query.inputs * 0,
                            query_labels=episodes.query.labels * 0)
  for name, value in adapt(learner, objective, values, episodes, 1)[1].items():
    np.testing.assert_array_equal(adapt(learner, objective, values, other, 1)[1][name], value)
