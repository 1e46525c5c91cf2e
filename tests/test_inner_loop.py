"""The inner loop: plain gradient descent on each task, by itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.inner_loop import adaptation, after, after_each
from maml_tf.inner_optimizers import StepSizes, adam, sgd
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


# Losses of anything


def test_a_batch_may_be_any_nest():
  """Two inputs in a dictionary, a pair of labels; the loss is not a learner's."""
  random = np.random.RandomState(0)
  batch = tf.nest.map_structure(tf.constant, (
      {'x': random.normal(size=(3, 4)), 'z': random.normal(size=(3, 4))},
      (random.normal(size=(3, 4)), random.normal(size=(3, 4)))))

  def loss(parameters, batch):
    inputs, (first, second) = batch
    scale = parameters['scale'][:, tf.newaxis]
    return tf.reduce_sum((scale * inputs['x'] - first) ** 2
                         + (scale * inputs['z'] - second) ** 2, axis=1)
  start, adapted = adaptation(loss, {'scale': tf.constant(0.5, tf.float64)}, batch,
                              sgd(STEP_SIZE), names=['scale'], num_updates=1)
  (inputs, labels) = batch
  slope = sum(np.sum(2 * x * (0.5 * x - y), axis=1) for x, y in
              zip((inputs['x'].numpy(), inputs['z'].numpy()), map(np.array, labels)))
  np.testing.assert_array_equal(start['scale'], [0.5] * 3)
  np.testing.assert_allclose(adapted['scale'], 0.5 - STEP_SIZE * slope, rtol=1e-12)


def looked_up(parameters, places):
  """`[tasks]`: of rows of a table, whose gradient TensorFlow gives as rows."""
  table = parameters['table']
  rows = tf.gather(tf.reshape(table, [-1, 2]), places)
  return tf.reduce_sum(rows ** 3, axis=[1, 2])


@pytest.mark.parametrize('recompute', [False, True])
def test_rows_of_a_table_are_adapted_and_differentiated(recompute):
  places = tf.constant([[0, 2, 2], [5, 3, 5]])   # of two tasks' tables of 3, as one of 6
  table = np.random.RandomState(0).normal(size=(3, 2))

  def adapted_sum(value):
    *_, adapted = adaptation(looked_up, {'table': value}, places, sgd(STEP_SIZE),
                             names=['table'], num_updates=2, recompute=recompute)
    return tf.reduce_sum(adapted['table'] ** 2)

  def adapted_by_numpy(value):
    total = 0
    for rows in places.numpy() % 3:
      mine = value.copy()
      for _ in range(2):
        slope = np.zeros_like(mine)
        np.add.at(slope, rows, 3 * mine[rows] ** 2)
        mine = mine - STEP_SIZE * slope
      total += np.sum(mine ** 2)
    return total
  value = tf.constant(table)
  with tf.GradientTape() as tape:
    tape.watch(value)
    total = adapted_sum(value)
  np.testing.assert_allclose(total, adapted_by_numpy(table), rtol=1e-12)
  gradient = tape.gradient(total, value).numpy()
  direction = np.random.RandomState(1).normal(size=table.shape)
  slope = (adapted_by_numpy(table + 1e-6 * direction)
           - adapted_by_numpy(table - 1e-6 * direction)) / 2e-6
  np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-7)


def distance(parameters, target):
  return (parameters['w'] - target) ** 2


def test_a_weight_that_the_loss_does_not_use_stays():
  values = {'w': tf.constant(1.0), 'unused': tf.constant([3.0, 4.0])}
  *_, adapted = adaptation(distance, values, tf.zeros([2]), sgd(0.1),
                           names=['w', 'unused'], num_updates=2)
  np.testing.assert_array_equal(adapted['unused'], [[3, 4], [3, 4]])
  np.testing.assert_allclose(adapted['w'], [0.64, 0.64], rtol=1e-6)


def test_the_number_of_tasks_may_be_unknown(convolutional):
  """As in the signature of an exported function; through batch norm and convolutions."""
  learner, objective, values, episodes = convolutional(tasks=3)
  expected = adapt(learner, objective, values, episodes, 2)[-1]
  specs = tf.nest.map_structure(
      lambda value: tf.TensorSpec([None, *value.shape[1:]], value.dtype), episodes)
  function = tf.function(lambda given: adapt(learner, objective, values, given, 2)[-1],
                         input_signature=[specs], autograph=False)
  for name, value in function(episodes).items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13)


# Rules


@pytest.mark.parametrize('step_size, expected', [
    (0.25, [0.5, 0.25]), ([0.25, 0.5], [0.5, 0.0]), ({'w': 0.25}, [0.5, 0.25]),
    ({'w': np.array([0.5]), 'other': 0.1}, [0.0, 0.0])])
def test_step_sizes_by_parameter_and_update(step_size, expected):
  """The last one serves all further updates."""
  steps = list(adaptation(distance, {'w': tf.constant(1.0)}, tf.zeros([1]), sgd(step_size),
                          names=['w'], num_updates=2))
  np.testing.assert_allclose([step['w'][0] for step in steps[1:]], expected)


def test_adam_of_the_inner_loop_by_numpy():
  rule = adam(0.1)
  steps = list(adaptation(distance, {'w': tf.constant(1.0, tf.float64)},
                          tf.constant([0.0, 3.0], tf.float64), rule, names=['w'],
                          num_updates=3))
  for task, target in enumerate((0.0, 3.0)):
    value, moment = 1.0, 0.0
    for number, step in enumerate(steps[1:], start=1):
      slope = 2 * (value - target)
      moment = 0.999 * moment + 0.001 * slope ** 2
      value -= 0.1 * np.sqrt(1 - 0.999 ** number) * slope / (np.sqrt(moment) + 1e-8)
      np.testing.assert_allclose(step['w'][task], value, rtol=1e-12)


def test_step_sizes_can_be_set_to_what_has_their_form():
  sizes = StepSizes({'w': 0.1, 'v': [0.1, 0.2]}, 'float64')
  sizes.value = {'w': 0.3, 'v': [0.4, 0.5]}
  np.testing.assert_array_equal(sizes.tensors()['v'], [0.4, 0.5])
  for wrong in (0.3, {'w': 0.3}, {'w': 0.3, 'v': 0.4}):
    with pytest.raises(ConfigError, match='has the form that it was made with'):
      sizes.value = wrong
  for wrong in ({'w': np.nan, 'v': [0.1, 0.2]}, {'w': 0.3, 'v': [0.1, np.inf]}):
    with pytest.raises(ConfigError, match='must be a finite number'):
      sizes.value = wrong
  assert sizes.value == {'w': 0.3, 'v': [0.4, 0.5]}


# In a loop


RULES = {'sgd': lambda: sgd([0.1, 0.3]), 'adam': lambda: adam([0.1, 0.3])}


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('in_a_graph', [False, True])
def test_a_loop_gives_what_one_update_after_the_other_gives(rule, in_a_graph):
  targets = tf.constant([0.0, 3.0], tf.float64)

  def steps():
    return adaptation(distance, {'w': tf.constant(1.0, tf.float64)}, targets,
                      RULES[rule](), names=['w'], num_updates=5)
  def looped():
    return (after_each(steps(), lambda values: values['w'] ** 2),
            after(steps(), [0, 2, 5], lambda values: values['w']))
  each, some = tf.function(looped)() if in_a_graph else looped()
  expected = np.stack([step['w'] for step in steps()], axis=1)
  np.testing.assert_allclose(each, expected ** 2, rtol=1e-14)
  np.testing.assert_allclose(tf.stack(some, axis=1), expected[:, [0, 2, 5]], rtol=1e-14)
  unrolled = after_each(iter(steps()), lambda values: values['w'] ** 2)
  np.testing.assert_allclose(each, unrolled, rtol=1e-14)
  assert len(after(iter(steps()), [0, 2, 5], dict)) == 3


def test_one_update_or_none_needs_no_loop():
  def graph(num_updates):
    def results(targets):
      steps = adaptation(distance, {'w': tf.constant(1.0)}, targets, sgd(0.1), names=['w'],
                         num_updates=num_updates)
      return after_each(steps, lambda values: values['w'])
    return tf.function(results).get_concrete_function(tf.TensorSpec([2], tf.float32))
  for num_updates in (0, 1):
    assert graph(num_updates)(tf.zeros([2])).shape == (2, num_updates + 1)
    assert not [op for op in graph(num_updates).graph.get_operations() if 'While' in op.type]
