"""iMAML against ridge regression by NumPy, and against differences of the converged loss."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss

from maml_tf.conjugate_gradient import conjugate_gradient
from maml_tf.errors import ConfigError
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners.imaml import IMAML
from maml_tf.objectives import MeanSquaredError

TASKS, EXAMPLES, INPUTS = 3, 4, 2


def model_of(net, **given):
  return IMAML(net, MeanSquaredError(), **{**dict(
      step_size=0.1, num_updates=150, proximal_weight=3.0, cg_iterations=30,
      dtype='float64'), **given})


def linear(inputs):
  return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def test_it_is_the_gradient_of_ridge_regression(make_regression):
  """phi = (H + lambda)^-1 (2/n X'y + lambda theta), so that d phi / d theta = lambda (H +
  lambda)^-1, with H = 2/n X'X."""
  episodes, theta, weight = make_regression(TASKS, EXAMPLES, INPUTS), [0.3, -0.7, 0.2], 3.0
  theta = np.array(theta)
  losses, expected = [], []
  for task in range(TASKS):
    x, xq = (linear(part.inputs[task].numpy()) for part in episodes)
    y, yq = (part.labels[task].numpy()[:, 0] for part in episodes)
    system = 2 / len(x) * x.T @ x + weight * np.eye(3)
    phi = np.linalg.solve(system, 2 / len(x) * x.T @ y + weight * theta)
    losses.append(np.mean((xq @ phi - yq) ** 2))
    expected.append(weight * np.linalg.solve(system, 2 / len(xq) * xq.T @ (xq @ phi - yq)))
  model = model_of(FullyConnected(INPUTS, (), 1, 'None'))
  model.meta_parameters.assign({'output/kernel': theta[:2, None], 'output/bias': theta[2:]})
  means, gradients = model.meta_gradient(episodes)
  np.testing.assert_allclose(means['loss'], np.mean(losses), rtol=1e-9)
  received = np.concatenate([np.ravel(gradients['output/kernel']), gradients['output/bias']])
  np.testing.assert_allclose(received, np.mean(expected, axis=0), rtol=1e-8)


def test_too_few_iterations_are_not_taken_for_a_solution(make_regression):
  """What the test above compares depends on the linear system."""
  episodes = make_regression(TASKS, EXAMPLES, INPUTS)
  one, all_of_them = (gradient_of(model_of(FullyConnected(INPUTS, (), 1, 'None'),
                                           cg_iterations=iterations), episodes)
                      for iterations in (1, 3))
  assert np.abs(one['output/kernel'] - all_of_them['output/kernel']).max() > 1e-3


class BodyAlone(FullyConnected):
  """Whose last layer is not adapted, and so has a gradient of the other kind."""
  adapted_names = property(lambda self: tuple(
      name for name in super().adapted_names if name not in self.head_names))


@pytest.mark.parametrize('kind', [FullyConnected, BodyAlone])
def test_it_is_the_derivative_of_the_converged_loss(kind, make_regression, generic_values):
  """By all of theta."""
  model = model_of(kind(INPUTS, (5, 4), 1, 'None'), proximal_weight=20.0, step_size=0.03,
                   num_updates=60)
  model.meta_parameters.assign(generic_values(model.learner, seed=1))
  episodes = make_regression(2, EXAMPLES, INPUTS)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


def test_dropout_is_the_same_in_the_inner_loop_and_in_the_linear_system(make_regression):
  """The theorem is of one function. The query set's masks are others."""
  net = tf.keras.Sequential([tf.keras.layers.Input((INPUTS,), dtype='float64'),
                             tf.keras.layers.Dense(8, activation='tanh', dtype='float64'),
                             tf.keras.layers.Dropout(0.5, dtype='float64'),
                             tf.keras.layers.Dense(1, dtype='float64')])
  model = model_of(net, proximal_weight=20.0, step_size=0.01, num_updates=300)
  episodes = model.learner.in_training(make_regression(TASKS, EXAMPLES, INPUTS), 0,
                                       tf.constant(5, tf.int64))
  _, gradients = tf.function(lambda: model.meta_gradient(episodes), autograph=False)()
  assert_is_gradient({name: value.numpy() for name, value in gradients.items()},
                     meta_loss(model, episodes))


def test_no_derivative_is_taken_through_inner_steps(make_regression):
  """So a graph that is recorded holds as many tensors whatever their number."""
  episodes = make_regression(1, EXAMPLES, INPUTS)
  sizes = []
  for updates in (1, 6):
    model = model_of(FullyConnected(INPUTS, (4,), 1, 'None'), num_updates=updates)
    theta = model.meta_parameters.tensors()
    with tf.GradientTape() as tape:
      tape.watch(theta)
      loss = tf.reduce_sum(model.task_objectives(theta, episodes)['loss'])
    sizes.append(tape.gradient(loss, list(theta.values())))
  assert all(value is None for gradients in sizes for value in gradients)


@pytest.mark.parametrize('tasks', [TASKS, None])
def test_conjugate_gradients_are_a_loop_where_they_are_many(make_regression, tasks,
                                                            monkeypatch):
  """The graph does not grow with their number; also where that of the tasks is not known."""
  episodes = make_regression(TASKS, EXAMPLES, INPUTS)

  def traced(iterations):
    model = model_of(FullyConnected(INPUTS, (4,), 1, 'None'), num_updates=2,
                     cg_iterations=iterations)
    signature = tf.nest.map_structure(
        lambda value: tf.TensorSpec([tasks, *value.shape[1:]], value.dtype), episodes)
    function = tf.function(model.meta_gradient, input_signature=[signature], autograph=False)
    size = len(function.get_concrete_function().graph.as_graph_def(
        ).SerializeToString())
    return function(episodes)[1], size
  looped, size = traced(12)
  assert traced(24)[1] < 1.01 * size
  monkeypatch.setattr('maml_tf.meta_learners.imaml._MOST_UNROLLED', 12)
  unrolled, larger = traced(12)
  assert larger > 2 * size
  for name, value in unrolled.items():
    np.testing.assert_allclose(looped[name], value, rtol=1e-9, atol=1e-12)


def test_conjugate_gradients_of_several_tasks_at_once():
  random = np.random.RandomState(0)
  roots = random.normal(size=(TASKS, 4, 4))
  matrices = roots @ roots.transpose(0, 2, 1) + np.eye(4)
  target = random.normal(size=(TASKS, 4))
  target[1] = 0   # which is solved before it starts
  found = conjugate_gradient(
      lambda vectors: tf.linalg.matvec(matrices, vectors), tf.constant(target), 6,
      dot=lambda one, other: tf.reduce_sum(one * other, axis=-1, keepdims=True),
      divide=tf.math.divide_no_nan)
  for task in range(TASKS):
    np.testing.assert_allclose(found.direction[task],
                               np.linalg.solve(matrices[task], target[task]), rtol=1e-9)


@pytest.mark.parametrize('given', [
    dict(proximal_weight=0.0), dict(cg_iterations=0), dict(proximal_weight=float('inf')),
    dict(cg_iterations=2.5), dict(recompute_inner_steps=True)])
def test_what_is_no_problem_is_refused(given):
  with pytest.raises(ConfigError, match='above 0|1 or more|keeps no inner steps'):
    model_of(FullyConnected(1, (2,), 1, 'None'), **given)
