"""Reptile: its inner batches, its optimizers and its outer step, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.inner_optimizers import InnerOptimizer
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.meta_learners.reptile import Reptile, inner_batches
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy
from maml_tf.training.optimizers import build_optimizer

STEP_SIZE, OUTER = 0.05, 0.5
TASKS = 3
OPTIMIZERS = ('sgd', 'adam')


def reptile(learner=None, objective=None, **kwargs):
  return Reptile(learner or FullyConnected(2, (), 1, 'None'),
                 objective or MeanSquaredError(),
                 **{**dict(step_size=STEP_SIZE, num_updates=5, dtype='float64',
                           inner_batch_size=4), **kwargs})


class LinearByNumpy:
  """A linear regression, trained by SGD or by Adam without a first moment."""

  def __init__(self, optimizer, kernel, bias):
    self.weights = np.concatenate([kernel, bias[np.newaxis]])   # [inputs + 1, 1]
    self._adam = optimizer == 'adam'
    self.moments, self.steps = np.zeros_like(self.weights), 0

  def trained(self, x, y, batches):
    """(weights, moments, losses) where training on these mini-batches ends."""
    weights, moments, losses = self.weights, self.moments, []
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    for number, batch in enumerate(batches, start=self.steps + 1):
      error = x[batch] @ weights - y[batch]
      losses.append(np.mean(error ** 2))
      gradient = 2 * x[batch].T @ error / len(batch)
      if not self._adam:
        weights = weights - STEP_SIZE * gradient
        continue
      moments = 0.999 * moments + 0.001 * gradient ** 2
      rate = STEP_SIZE * np.sqrt(1 - 0.999 ** number)
      weights = weights - rate * gradient / (np.sqrt(moments) + 1e-8)
    return weights, moments, losses

  def outer_step(self, tasks, batches):
    """The loss that is reported, and everything moved on."""
    ends = [self.trained(x, y, batches) for x, y in tasks]
    self.weights = self.weights + OUTER * np.mean([end[0] - self.weights for end in ends], 0)
    self.moments = np.mean([end[1] for end in ends], axis=0)
    self.steps += len(batches)
    return np.mean([end[2] for end in ends])


def weights_of(parameters):
  return np.concatenate([parameters['output/kernel'],
                         np.expand_dims(parameters['output/bias'], -2)], axis=-2)


def all_examples(episodes):
  inputs = np.concatenate([episodes.support.inputs, episodes.query.inputs], axis=1)
  labels = np.concatenate([episodes.support.labels, episodes.query.labels], axis=1)
  return list(zip(inputs, labels))


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('tasks_at_once', [0, 1])
@pytest.mark.parametrize('num_updates', [5, 25])   # unrolled, and in a loop
def test_outer_steps_are_those_of_numpy(make_regression, generic_values, optimizer,
                                        tasks_at_once, num_updates):
  """Three of them, so that what Adam remembers is handed on."""
  model = reptile(inner_optimizer=optimizer, tasks_at_once=tasks_at_once,
                  num_updates=num_updates)
  model.compile(build_optimizer('sgd', OUTER, 'float64'))
  values = generic_values(model.learner)
  model.meta_parameters.assign(values)
  expected = LinearByNumpy(optimizer, values['output/kernel'], values['output/bias'])
  for seed in range(3):
    episodes = make_regression(TASKS, 5, num_inputs=2, seed=seed)   # 5 + 7 points
    logs = model.train_step(episodes)
    loss = expected.outer_step(all_examples(episodes), inner_batches(12, 4, num_updates))
    np.testing.assert_allclose(logs['loss'], loss, rtol=1e-12)
    np.testing.assert_allclose(weights_of(model.meta_parameters.arrays()), expected.weights,
                               rtol=1e-10)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('batch_size', [0, 2])
def test_evaluation_trains_on_the_support_set_alone(make_regression, generic_values,
                                                    optimizer, batch_size):
  """Adam goes on from what training left, and training does not notice."""
  model = reptile(inner_optimizer=optimizer, test_inner_batch_size=batch_size)
  model.compile(build_optimizer('sgd', OUTER, 'float64'))
  values = generic_values(model.learner)
  model.meta_parameters.assign(values)
  expected = LinearByNumpy(optimizer, values['output/kernel'], values['output/bias'])
  trained_on = make_regression(TASKS, 5, num_inputs=2)
  model.train_step(trained_on)
  expected.outer_step(all_examples(trained_on), inner_batches(12, 4, 5))
  episodes = make_regression(TASKS, 5, num_inputs=2, seed=9)
  before = tf.nest.map_structure(np.array, model.meta_parameters.inner_optimizer.state()
                                 if optimizer == 'adam' else [])
  steps = list(model.adaptation(model.meta_parameters.tensors(), episodes, 7, True))
  assert len(steps) == 8
  for updates in (0, 1, 7):
    batches = inner_batches(5, batch_size, updates)
    for task, (x, y) in enumerate(zip(episodes.support.inputs.numpy(),
                                      episodes.support.labels.numpy())):
      weights, _, _ = expected.trained(x, y, batches)
      np.testing.assert_allclose(weights_of(steps[updates])[task], weights, rtol=1e-10)
  results = model.task_results(episodes, 7)
  assert results.query['loss'].shape == (TASKS, 8)
  after = tf.nest.map_structure(np.array, model.meta_parameters.inner_optimizer.state()
                                if optimizer == 'adam' else [])
  tf.nest.map_structure(np.testing.assert_array_equal, before, after)


def test_parameters_of_normalisations_move(make_classification):
  """The inner loop of MAML leaves them to the meta-gradient, which is not there."""
  learner = Convolutional((9, 8, 1), 4, 3, 'batch_norm', max_pool=False, spatial_mean=True)
  model = reptile(learner, ScaledCrossEntropy(1), inner_batch_size=5)
  model.compile(build_optimizer('sgd', 1.0, 'float64'))
  before = model.meta_parameters.arrays()
  logs = model.train_step(make_classification(2, 3, 1, (9, 8, 1)))
  assert 0 <= float(logs['accuracy']) <= 1
  for name, value in model.meta_parameters.arrays().items():
    dead = name.startswith('conv') and name.endswith('bias')   # in front of batch norm
    assert np.any(value != before[name]) != dead, name


def test_a_loss_that_is_not_finite_changes_nothing(make_regression):
  model = reptile()
  model.compile(build_optimizer('sgd', 1.0, 'float64'))
  episodes = make_regression(TASKS, 5, num_inputs=2)
  model.train_step(episodes.replaced(query_inputs=episodes.query.inputs * np.nan))
  assert bool(model.diverged.numpy())
  assert float(model.meta_parameters.inner_optimizer.state().steps) == 0
  np.testing.assert_equal(model.meta_parameters.arrays(),
                          model.learner.initial_values(0, 'float64'))


def test_moments_of_another_net_are_refused():
  model = reptile()
  state = model.state()
  with pytest.raises(ValueError, match="expected: .*'inner_steps'"):
    model.assign_state(model.meta_parameters.arrays())
  with pytest.raises(ValueError, match="'another'"):
    model.assign_state({**state, 'another': np.zeros(1)})
  with pytest.raises(ValueError, match='shape'):
    model.assign_state({**state, 'second_moment/output/kernel': np.zeros([1, 1])})
  model.assign_state(state)


@pytest.mark.parametrize('examples, batch_size, count', [
    (50, 10, 5), (75, 10, 8), (5, 5, 3), (7, 3, 11), (5, 0, 2), (5, 9, 2), (4, 2, 0)])
def test_mini_batches_run_through_passes_over_all_examples(examples, batch_size, count):
  batches = inner_batches(examples, batch_size, count)
  size = examples if batch_size == 0 else min(batch_size, examples)
  assert batches.shape == (count, size)
  places = batches.ravel()
  for start in range(0, len(places), examples):
    one_pass = places[start:start + examples]
    assert len(set(one_pass)) == len(one_pass) and set(one_pass) <= set(range(examples))
  np.testing.assert_array_equal(batches, inner_batches(examples, batch_size, count))


def test_passes_differ():
  first, second = inner_batches(50, 50, 2)
  assert np.any(first != second) and np.any(first != np.arange(50))


@pytest.mark.parametrize('given, shown', [
    (dict(inner_optimizer='rmsprop'), "'rmsprop'"), (dict(inner_batch_size=-1), '-1'),
    (dict(test_inner_batch_size=-2), '-2'), (dict(inner_batch_size=2.5), '2.5'),
    (dict(recompute_inner_steps=True), 'keeps no inner steps'),
    (dict(gradient_clip=1.0), 'gradient_clip'),
    (dict(num_updates=0), 'num_updates must be an integer, 1 or more')])
def test_wrong_arguments_are_refused(given, shown):
  with pytest.raises(ConfigError, match=shown):
    reptile(**given)


class WithMomentum(Reptile):

  def inner_optimizer(self, parameters):
    def update(values, gradients, velocities, updates):
      velocities = {name: 0.5 * velocities[name] + gradient
                    for name, gradient in gradients.items()}
      return {name: value - STEP_SIZE * velocities[name]
              for name, value in values.items()}, velocities
    return InnerOptimizer(lambda values: tf.nest.map_structure(tf.zeros_like, values), update)


def test_a_rule_of_one_s_own_takes_the_place_of_sgd(make_regression, generic_values):
  """Of the one that remembers from meta-batch to meta-batch it cannot."""
  def model(**given):
    return WithMomentum(FullyConnected(2, (), 1, 'None'), MeanSquaredError(), num_updates=12,
                        step_size=STEP_SIZE, dtype='float64', **given)
  episodes = make_regression(TASKS, 5, num_inputs=2)
  with pytest.raises(ConfigError, match="WithMomentum.inner_optimizer is not Adam, .*='sgd'"):
    model().meta_gradient(episodes)
  looped = model(inner_optimizer='sgd')
  values = generic_values(looped.learner)
  looped.meta_parameters.assign(values)
  ends = []
  for x, y in all_examples(episodes):
    x, weights = np.concatenate([x, np.ones((len(x), 1))], axis=1), weights_of(values)
    velocity = np.zeros_like(weights)
    for _ in range(12):
      velocity = 0.5 * velocity + 2 * x.T @ (x @ weights - y) / len(x)
      weights = weights - STEP_SIZE * velocity
    ends.append(weights)
  _, gradients = looped.meta_gradient(episodes)
  np.testing.assert_allclose(weights_of(gradients), weights_of(values) - np.mean(ends, axis=0),
                             rtol=1e-10)


# Many inner steps are a loop in the graph.

def test_the_graph_of_many_steps_does_not_grow_with_them(make_regression):
  episodes = make_regression(TASKS, 5, num_inputs=2)
  nodes = []
  for count in (20, 60):
    model = reptile(inner_batch_size=3, num_updates=count)
    graph = tf.function(model.meta_gradient).get_concrete_function(episodes).graph
    nodes.append(len(graph.as_graph_def().node))
  assert nodes[0] == nodes[1]


def test_each_inner_step_has_a_dropout_of_its_own(monkeypatch):
  """In a loop as without one. The loss is linear, so that each step adds its masks."""
  net = tf.keras.Sequential([
      tf.keras.layers.Input((50,)), tf.keras.layers.Dropout(0.5),
      tf.keras.layers.Dense(1, use_bias=False, kernel_initializer='zeros')])
  part = np.ones([1, 1, 50], np.float32), np.zeros([1, 1, 1], np.float32)

  def change(most_unrolled):
    monkeypatch.setattr('maml_tf.meta_learners.reptile._MOST_UNROLLED', most_unrolled)
    model = Reptile(net, lambda labels, outputs: outputs, inner_optimizer='sgd',
                    step_size=1.0, num_updates=12)
    episodes = model.learner.in_training(model._cast((part, part)), 0,
                                         tf.constant(5, tf.int64))
    _, changes = tf.function(lambda: model.meta_gradient(episodes), autograph=False)()
    [kernel] = changes.values()
    return kernel.numpy()
  looped = change(most_unrolled=0)
  # Of one mask in all steps there would be three values: dropped in both examples, in one,
  # in none.
  assert len(np.unique(looped)) > 3
  np.testing.assert_array_equal(looped, change(most_unrolled=20))
