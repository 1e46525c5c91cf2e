"""Nets of one task each: as a batch they are what they are one by one."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf
from stopping import stopped_after

from maml_tf import experiment
from maml_tf.baselines.averaged_nets import AveragedNets, mean_of_those_before
from maml_tf.errors import ConfigError
from maml_tf.learners import FullyConnected
from maml_tf.meta_parameters import MetaParameters
from maml_tf.objectives import MeanSquaredError
from maml_tf.training import trainer
from maml_tf.training.optimizers import build_optimizer
from maml_tf.training.run_folder import prepare_folder

NETS = 4


def nets_of(regulariser='None', weight=0.0, hidden=(6, 5), num_nets=NETS):
  """(the nets, the parameters that hold their mean)."""
  learner = FullyConnected(1, hidden, 1, 'None')
  averaged = MetaParameters(learner, seed=7, dtype='float64')
  return AveragedNets(
      learner, MeanSquaredError(), num_nets=num_nets, regulariser=regulariser, weight=weight,
      averaged=averaged, seed=3, dtype='float64', step_size=0.1, num_updates=1), averaged


def distinct(model):
  """Gives every net values of its own."""
  random = np.random.RandomState(5)
  values = {name: random.normal(size=value.shape) * 0.7
            for name, value in model.meta_parameters.arrays().items()}
  model.meta_parameters.assign(values)
  return values


def own_loss(values, net, episodes, regulariser, weight, others):
  """Of one net, by NumPy. Args: others: where the nets before it are, and stay."""
  features = episodes.support.inputs[net].numpy()
  for layer in ('dense1', 'dense2'):
    features = np.maximum(
        features @ values[f'{layer}/kernel'][net] + values[f'{layer}/bias'][net], 0)
  outputs = features @ values['output/kernel'][net] + values['output/bias'][net]
  loss = np.mean((outputs - episodes.support.labels[net].numpy())**2)
  for name, value in values.items():
    if regulariser == 'l2':
      loss += weight * np.sum(value[net]**2)
    elif regulariser == 'mean' and net > 0:
      loss += weight * np.sum((value[net] - others[name][:net].mean(axis=0))**2)
  return loss


@pytest.mark.parametrize('regulariser, weight', [('None', 0.0), ('l2', 0.3), ('mean', 0.3)])
def test_each_net_has_the_gradient_of_its_own_loss(regulariser, weight, make_regression):
  model, _ = nets_of(regulariser, weight)
  values = distinct(model)
  episodes = make_regression(NETS, 5)
  means, gradients = model.meta_gradient(episodes)
  assert list(means) == ['loss']
  losses = [own_loss(values, net, episodes, regulariser, weight, values)
            for net in range(NETS)]
  np.testing.assert_allclose(means['loss'], np.mean(losses), rtol=1e-12)
  random = np.random.RandomState(0)
  for name, value in values.items():
    for net in range(NETS):
      direction = np.zeros_like(value)
      direction[net] = random.normal(size=value.shape[1:])
      ahead, behind = (
          own_loss({**values, name: value + sign * 1e-6 * direction}, net, episodes,
                   regulariser, weight, values) for sign in (1, -1))
      np.testing.assert_allclose(np.sum(gradients[name] * direction),
                                 (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8,
                                 err_msg=f'{name}, net {net}')


def test_the_mean_is_that_of_the_nets_before():
  values = np.random.RandomState(0).normal(size=(5, 2, 3))
  received = mean_of_those_before(tf.constant(values)).numpy()
  np.testing.assert_array_equal(received[0], values[0])
  for net in range(1, 5):
    np.testing.assert_allclose(received[net], values[:net].mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize('regulariser, weight', [('None', 0.0), ('l2', 0.05)])
def test_the_mean_equals_that_of_nets_trained_one_by_one(regulariser, weight,
                                                         make_regression):
  model, averaged = nets_of(regulariser, weight)
  batches = [make_regression(NETS, 5, seed=seed) for seed in range(6)]
  initial = {name: value[0] for name, value in model.meta_parameters.arrays().items()}
  model.compile(build_optimizer('adam', 0.01, 'float64'))
  for batch in batches:
    model.train_step(batch)

  learner = FullyConnected(1, (6, 5), 1, 'None')
  trained = []
  for net in range(NETS):
    variables = {name: tf.Variable(value) for name, value in initial.items()}
    optimizer = build_optimizer('adam', 0.01, 'float64')
    for batch in batches:
      with tf.GradientTape() as tape:
        tensors = {name: tf.convert_to_tensor(value) for name, value in variables.items()}
        outputs = learner(tensors, batch.support.inputs[net:net + 1])
        loss = tf.reduce_mean((outputs - batch.support.labels[net:net + 1])**2)
        loss += weight * tf.add_n([tf.reduce_sum(value**2) for value in tensors.values()])
      gradients = tape.gradient(loss, list(variables.values()))
      optimizer.apply_gradients(zip(gradients, variables.values()))
    trained.append({name: value.numpy() for name, value in variables.items()})
  for name, value in averaged.arrays().items():
    expected = np.mean([values[name] for values in trained], axis=0)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    assert np.abs(value - initial[name]).max() > 1e-3


def test_towards_the_mean_it_ends_where_one_after_the_other_ends():
  """Linear nets, of which the minimum is known."""
  model, averaged = nets_of('mean', 0.5, hidden=(), num_nets=3)
  random = np.random.RandomState(1)
  inputs, targets = random.normal(size=(3, 4, 1)), random.normal(size=(3, 4, 1))
  from maml_tf.episodes import Episodes
  episodes = Episodes.of(*map(tf.constant, (inputs, targets, inputs, targets)))
  model.compile(build_optimizer('sgd', 0.2, 'float64'))
  step = tf.function(model.train_step, autograph=False)
  for _ in range(300):
    step(episodes)
  solved = []
  for net in range(3):
    design = np.concatenate([inputs[net], np.ones((4, 1))], axis=1)
    weight, target = (0.5, np.mean(solved, axis=0)) if net else (0.0, 0.0)
    solved.append(np.linalg.solve(design.T @ design / 4 + weight * np.eye(2),
                                  design.T @ targets[net][:, 0] / 4 + weight * target))
  found = model.meta_parameters.arrays()
  received = np.stack([found['output/kernel'][:, 0, 0], found['output/bias'][:, 0]], axis=1)
  np.testing.assert_allclose(received, solved, rtol=1e-6, atol=1e-8)
  mean = averaged.arrays()
  np.testing.assert_allclose([mean['output/kernel'][0, 0], mean['output/bias'][0]],
                             np.mean(solved, axis=0), rtol=1e-6, atol=1e-8)


def test_all_nets_start_alike_and_the_mean_is_theirs_from_the_start():
  model, averaged = nets_of()
  mean = averaged.arrays()
  for name, value in model.meta_parameters.arrays().items():
    np.testing.assert_array_equal(value, np.repeat(value[:1], NETS, axis=0))
    np.testing.assert_allclose(mean[name], value[0], rtol=1e-15)


def test_an_unknown_regulariser_is_refused():
  with pytest.raises(ConfigError, match='None, l2, mean. Received: l1'):
    nets_of('l1')


@pytest.mark.slow
def test_a_resumed_run_ends_as_the_uninterrupted_one(small_config, tmp_path, monkeypatch):
  given = dict(baseline='averaged', averaged_regulariser='mean', num_averaged_nets=3,
               pretrain_iterations=200, validation_interval=50)
  results = {}
  for name, interrupted in (('whole', False), ('stopped', True)):
    config = small_config(logdir=str(tmp_path / name), log=interrupted, **given)
    if interrupted:
      with stopped_after(100, monkeypatch):
        folder = prepare_folder(config)
        assert trainer.train(config, experiment.build_model(config), folder).iteration == 100
    model = experiment.build_model(config)
    results[name] = trainer.train(config, model, prepare_folder(config)).checkpoint
  whole, stopped = (tf.train.load_checkpoint(path) for path in results.values())
  keys = [key for key in whole.get_variable_to_shape_map()
          if 'save_counter' not in key and 'OBJECT_GRAPH' not in key]
  assert any(key.startswith('pretrain_parameters') for key in keys)
  for key in keys:
    np.testing.assert_array_equal(whole.get_tensor(key), stopped.get_tensor(key), key)
  assert os.path.basename(results['whole']) == 'model-200'
