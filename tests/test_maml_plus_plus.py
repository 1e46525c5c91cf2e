"""MAML++: each part against plain eager loops, and all of them off against MAML."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss

from maml_tf import experiment
from maml_tf.errors import ConfigError
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners.maml import MAML
from maml_tf.meta_learners.maml_plus_plus import MAMLPlusPlus, loss_weights
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.training import trainer
from maml_tf.training.optimizers import build_optimizer
from maml_tf.training.run_folder import prepare_folder

TASKS, WAYS, SHOTS, ALPHA, UPDATES = 2, 3, 2, 0.1, 3
OFF = dict(learned_step_sizes='None')


def model_of(kind=MAMLPlusPlus, norm='batch_norm', **given):
  model = kind(FullyConnected(4, (6, 5), WAYS, norm), ScaledCrossEntropy(SHOTS),
               **{**dict(step_size=ALPHA, num_updates=UPDATES, dtype='float64'), **given})
  random = np.random.RandomState(0)
  model.meta_parameters.assign({
      name: value if name.startswith('step_size') else
      random.normal(size=value.shape) * 0.6 + name.endswith('gamma')
      for name, value in model.meta_parameters.arrays().items()})
  return model


@pytest.fixture
def episodes(make_classification):
  return make_classification(TASKS, WAYS, SHOTS, (4,))


def by_hand(model, episodes, weights=None, first_order=False, alphas=None, per_step=False):
  """(loss, gradients) of plain loops over tasks and steps."""
  learner, objective = model.learner, model.objective
  theta = {name: tf.Variable(value) for name, value in model.meta_parameters.arrays().items()}
  total, gradient = 0, {name: 0 for name in theta}
  for task in range(TASKS):
    support, query = (type(part)(*(value[task:task + 1] for value in part))
                      for part in episodes)
    with tf.GradientTape() as outer:
      values = {name: tf.identity(value) for name, value in theta.items()}
      losses = []
      for step in range(UPDATES):
        with tf.GradientTape() as inner:
          inner.watch(values)
          loss = objective.loss(learner(values, support.inputs), support.labels)
        slopes = inner.gradient(loss, {name: values[name] for name in learner.adapted_names})
        for name, slope in slopes.items():
          slope = tf.stop_gradient(slope) if first_order else slope
          size = ALPHA if alphas is None else theta[f'step_size/{name.split("/")[0]}'][step]
          values[name] = values[name] - size * slope
        if per_step:
          for name in values:
            if f'after_update/{name}' in theta:
              values[name] = theta[f'after_update/{name}'][step]
        losses.append(objective.loss(learner(values, query.inputs), query.labels)[0])
      loss = losses[-1] if weights is None else sum(
          weight * one for weight, one in zip(weights, losses))
    slopes = outer.gradient(loss, theta, unconnected_gradients='zero')
    total += loss / TASKS
    gradient = {name: gradient[name] + tf.convert_to_tensor(slopes[name]) / TASKS
                for name in theta}
  return total, gradient


def assert_same(model, episodes, **given):
  means, gradients = model.meta_gradient(episodes)
  loss, expected = by_hand(model, episodes, **given)
  np.testing.assert_allclose(means['loss'], loss, rtol=1e-11)
  assert set(gradients) == set(expected)
  for name, value in gradients.items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-8, atol=1e-11, err_msg=name)


def at_iteration(model, iteration):
  model.compile(build_optimizer('adam', 0.001, 'float64'))
  model.optimizer.iterations.assign(iteration)
  return model


def test_with_all_of_it_off_it_is_maml(episodes):
  for received, expected in zip(tf.nest.flatten(model_of(**OFF).meta_gradient(episodes)),
                                tf.nest.flatten(model_of(MAML).meta_gradient(episodes))):
    np.testing.assert_array_equal(received, expected)


def test_a_layer_has_a_step_size_for_each_update(episodes):
  model = model_of()
  random = np.random.RandomState(4)
  model.meta_parameters.assign({
      name: random.uniform(0.05, 0.2, value.shape) if name.startswith('step_size') else value
      for name, value in model.meta_parameters.arrays().items()})
  assert_same(model, episodes, alphas=True)


@pytest.mark.parametrize('iteration, weights', [
    (0, [1 / 3, 1 / 3, 1 / 3]), (50, [1 / 6, 1 / 6, 2 / 3]), (100, [0, 0, 1]),
    (500, [0, 0, 1])])
def test_losses_of_all_updates_count_the_less_the_later_it_is(iteration, weights, episodes):
  np.testing.assert_allclose(loss_weights(3, tf.constant(iteration), 100, tf.float64),
                             weights, rtol=1e-12)
  model = at_iteration(model_of(multi_step_iterations=100, **OFF), iteration)
  assert_same(model, episodes, weights=weights)


@pytest.mark.parametrize('iteration', [0, 9, 10])
@pytest.mark.parametrize('tasks_at_once', [0, 1])
def test_the_order_changes_with_the_iteration(iteration, tasks_at_once, episodes):
  """Of what is learned beside the net, too."""
  model = model_of(first_order_iterations=10, tasks_at_once=tasks_at_once, per_step_norm=True)
  assert_same(at_iteration(model, iteration), episodes, first_order=iteration < 10,
              alphas=True, per_step=True)


@pytest.mark.parametrize('norm, tables', [('batch_norm', 2), ('layer_norm', 4)])
@pytest.mark.parametrize('recompute', [False, True])
def test_norms_are_of_the_step(norm, tables, recompute, episodes):
  model = model_of(per_step_norm=True, norm=norm, recompute_inner_steps=recompute, **OFF)
  names = [name for name in model.state() if name.startswith('after_update/')]
  assert len(names) == tables and model.state()[names[0]].shape[0] == UPDATES
  assert_same(model, episodes, per_step=True)


def test_recomputed_steps_are_the_same_where_the_order_changes(episodes):
  """In a branch of a graph, what a step hands on unchanged was of the graph around it."""
  def gradient(recompute):
    model = model_of(per_step_norm=True, first_order_iterations=1, num_updates=1,
                     recompute_inner_steps=recompute)
    at_iteration(model, 1)
    _, gradients = tf.function(model.meta_gradient, autograph=False)(episodes)
    return gradients
  expected = gradient(False)
  for name, value in gradient(True).items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_all_of_it_is_a_gradient_and_trains_in_a_graph(episodes):
  model = model_of(per_step_norm=True, multi_step_iterations=4, first_order_iterations=2)
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))
  model.compile(build_optimizer('adam', 0.003, 'float64'))
  before = model.state()
  history = model.fit(tf.data.Dataset.from_tensors(episodes).repeat(8), verbose=0,
                      shuffle=False).history
  assert np.isfinite(history['loss'][-1])
  assert all(np.any(value != before[name]) for name, value in model.state().items()
             if not name.endswith('bias') or name.startswith('output'))


def test_norms_start_as_they_are_before_the_first_update(episodes):
  model = MAMLPlusPlus(FullyConnected(4, (6, 5), WAYS, 'layer_norm'),
                       ScaledCrossEntropy(SHOTS), step_size=ALPHA, num_updates=2,
                       per_step_norm=True)
  for name, value in model.state().items():
    if name.startswith('after_update/'):
      np.testing.assert_array_equal(value, [model.state()[name[len('after_update/'):]]] * 2)


def tables_as_the_norms(state):
  """{name of an offset or scale: those after the updates}, which are the same."""
  tables = {name[len('after_update/'):]: value for name, value in state.items()
            if name.startswith('after_update/')}
  for name, table in tables.items():
    np.testing.assert_array_equal(table, [state[name]] * len(table), name)
  return tables


def keras_model(**of_norm):
  return tf.keras.Sequential([
      tf.keras.Input([4]), tf.keras.layers.Dense(6, name='hidden'),
      tf.keras.layers.BatchNormalization(name='norm', **of_norm),
      tf.keras.layers.ReLU(), tf.keras.layers.Dense(WAYS, name='head')])


def of_keras(net, **given):
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  return MAMLPlusPlus(net, loss, num_updates=2, per_step_norm=True, **given)


def test_norms_start_from_a_trained_model(episodes):
  net = keras_model()
  random = np.random.RandomState(2)
  for variable in net.trainable_variables:
    variable.assign(random.normal(size=variable.shape))
  before = net.get_weights()
  model = of_keras(net, step_size=0.0)
  np.testing.assert_equal(net.get_weights(), before)
  assert len(tables_as_the_norms(model.state())) == 2
  outputs = model.adapted_outputs(episodes, 2)
  np.testing.assert_array_equal(outputs[:, 2], outputs[:, 0])
  assert np.ptp(outputs) > 0.1


def test_norms_start_from_the_initializer():
  model = of_keras(keras_model(gamma_initializer='zeros', beta_initializer='ones'))
  tables = tables_as_the_norms(model.state())
  assert {name.split('/')[-1]: np.unique(table).tolist() for name, table in tables.items()
          } == {'gamma': [0], 'beta': [1]}


def test_what_was_learned_for_after_an_update_is_kept():
  model = model_of(per_step_norm=True)   # whose parameters are any
  before = model.state()
  MAMLPlusPlus(model.learner, model.objective, num_updates=UPDATES, per_step_norm=True,
               parameters=model.meta_parameters)
  np.testing.assert_equal(model.state(), before)


def test_norms_start_from_what_was_pretrained(small_config):
  config = small_config('omniglot', method='maml_plus_plus', num_updates=2, log=False,
                        meta_lr_schedule='constant', pretrain_iterations=2,
                        metatrain_iterations=1)
  def trained(until=None):
    model = experiment.build_model(config)
    trainer.train(config, model, prepare_folder(config), until)
    return model.state()
  tables = tables_as_the_norms(trained(until=2))
  assert len(tables) == 4 and all(np.all(table) for table in tables.values())
  state = trained()   # goes on
  assert any(np.any(value[0] != value[1]) for name, value in state.items()
             if name.startswith('after_update/'))


def test_no_update_is_refused():
  with pytest.raises(ConfigError, match='num_updates must be an integer, 1 or more'):
    model_of(num_updates=0)


@pytest.mark.parametrize('name', ['multi_step_iterations', 'first_order_iterations'])
def test_numbers_of_iterations_below_0_are_refused(name):
  """Of which the weights of the losses would be of any size."""
  with pytest.raises(ConfigError, match=f'{name} must be an integer, 0 or more. Received: -5'):
    model_of(**{name: -5})


@pytest.mark.parametrize('of_keras_layers', [False, True])
def test_the_annealing_goes_by_the_optimizer_that_is_there(of_keras_layers, episodes):
  """Also where a graph was made before there was one, or with another one."""
  weights = np.full(UPDATES, 1 / UPDATES)
  if of_keras_layers:
    episodes = tf.nest.map_structure(
        lambda value: tf.cast(value, 'float32') if value.dtype.is_floating else value,
        episodes)
    loss_of_classes = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = MAMLPlusPlus(keras_model(), loss_of_classes, num_updates=UPDATES,
                         multi_step_iterations=100, step_size=ALPHA)
  else:
    model = model_of(multi_step_iterations=100, tasks_at_once=1)
  after = np.mean(model.task_results(episodes, UPDATES).query['loss'], axis=0)[1:]
  def loss():
    return model.meta_gradient(episodes)[0]['loss']
  np.testing.assert_allclose(loss(), after[-1], rtol=1e-5)   # weights of the end
  for _ in range(2):
    model.compile(tf.keras.optimizers.SGD(0.1))
    np.testing.assert_allclose(loss(), weights @ after, rtol=1e-5)
    model.optimizer.iterations.assign(100)
    np.testing.assert_allclose(loss(), after[-1], rtol=1e-5)


def test_the_step_size_falls_as_a_cosine():
  rates = []
  for iteration in (0, 5, 10, 20):
    optimizer = build_optimizer('sgd', 0.5, 'float64', decay_iterations=10,
                                schedule='cosine')
    variable = tf.Variable(0.0, dtype=tf.float64)
    optimizer.build([variable])
    optimizer.iterations.assign(iteration)
    optimizer.apply_gradients([(tf.constant(1.0, tf.float64), variable)])
    rates.append(-float(variable))
  np.testing.assert_allclose(rates, [0.5, 0.25, 0, 0], atol=1e-7)
