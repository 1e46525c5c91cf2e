"""What holds for every method: the registry, groups of tasks, resuming, learning."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest
import tensorflow as tf
from stopping import checkpoint_values, interrupt_at

from maml_tf import config, experiment
from maml_tf.meta_learner import MetaLearner
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.training import trainer
from maml_tf.training.run_folder import prepare_folder

# Values with which a few hundred iterations tell.
QUICK = {
    'maml': dict(meta_lr=0.01, update_lr=0.01),
    'anil': dict(meta_lr=0.01, update_lr=0.1),
    'context_vector': dict(meta_lr=0.01, update_lr=0.5),
    'maml_plus_plus': dict(meta_lr=0.01, update_lr=0.02, num_updates=1,
                           first_order_iterations=50, meta_lr_schedule='constant'),
    'boil': dict(meta_lr=0.01, update_lr=0.1),
    'imaml': dict(meta_lr=0.01, update_lr=0.01, num_updates=3),
    'meta_sgd': dict(meta_lr=0.003, update_lr=0.01),
    'reptile': dict(inner_optimizer='adam', update_lr=0.01, num_updates=3,
                    train_query_size=15, inner_batch_size=5, test_num_updates=4)}


def test_the_flag_and_the_registry_have_the_same_methods():
  assert config.METHODS == METHODS
  assert set(METHODS) == set(QUICK) | set(WITHOUT_INNER_LOOP)
  for method in METHODS:
    assert meta_learner_class(method).has_inner_loop == (method in QUICK)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_is_a_meta_learner_that_cites_its_paper(method):
  kind = meta_learner_class(method)
  assert issubclass(kind, MetaLearner)
  assert '20' in inspect.getdoc(kind) and 'Args:' in inspect.getdoc(kind)
  datasource = 'sinusoid' if method in QUICK else 'omniglot'
  resolved = config.resolve({'method': method, 'datasource': datasource})
  assert type(experiment.build_model(resolved)) is kind


@pytest.mark.parametrize('method', [
    pytest.param(name, marks=[pytest.mark.slow] if name in ('maml_plus_plus', 'imaml') else [])
    for name in METHODS[1:]])
def test_the_grouping_of_tasks_changes_nothing(method, small_config):
  """Neither the outer step nor the results."""
  given, updates = dict(method=method, dtype='float64', meta_batch_size=4), 0
  if method in QUICK:
    updates = given['test_num_updates'] = 2
  if method == 'reptile':
    given.update(num_updates=2, inner_batch_size=4)
  one_by_one, together = (
      experiment.build_model(small_config('omniglot', tasks_at_once=size, **given))
      for size in (1, 4))
  configuration = small_config('omniglot', **given)
  episodes = experiment.training_generator(configuration).batch(0)
  for received, expected in zip(tf.nest.flatten(one_by_one.meta_gradient(episodes)),
                                tf.nest.flatten(together.meta_gradient(episodes))):
    np.testing.assert_allclose(received, expected, rtol=1e-7, atol=1e-10)
  for received, expected in zip(tf.nest.flatten(one_by_one.task_results(episodes, updates)),
                                tf.nest.flatten(together.task_results(episodes, updates))):
    np.testing.assert_allclose(received, expected, rtol=1e-9)


def size_of_graph(model, generator, num_updates) -> int:
  """Operations of a test, those of the functions that it calls included."""
  graph = tf.function(
      lambda episodes: (model.task_results(episodes, num_updates),
                        model.adapted_outputs(episodes, num_updates)), autograph=False
  ).get_concrete_function(generator.dataset(0, 1).element_spec).graph.as_graph_def()
  return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


@pytest.mark.parametrize('method', list(QUICK))
def test_the_graph_of_a_test_does_not_grow_with_its_updates(method, small_config):
  """`--test_num_updates=100` took a minute and 2.5 GB before the first task."""
  configuration = small_config('sinusoid', method=method)
  model = experiment.build_model(configuration)
  generator = experiment.training_generator(configuration)
  assert (size_of_graph(model, generator, 3) == size_of_graph(model, generator, 100)
          < 20 * size_of_graph(model, generator, 0))


def start(configuration):
  model = experiment.build_model(configuration)
  return trainer.train(configuration, model, prepare_folder(configuration)), model


# The few inner steps of iMAML do not end near a minimum on sinusoids, so that a short run
# shows nothing; test_conformance.py interrupts it.
@pytest.mark.slow
@pytest.mark.parametrize('method', [name for name in QUICK if name not in ('maml', 'imaml')])
def test_a_run_learns_and_ends_the_same_where_it_was_interrupted(
    method, small_config, tmp_path, monkeypatch):
  values = dict(method=method, meta_batch_size=5, metatrain_iterations=400, log=False,
                validation_interval=500, num_validation_tasks=4, **QUICK[method])
  whole = small_config(logdir=str(tmp_path / 'whole'), **values)
  expected, model = start(whole)
  tasks = experiment.evaluation_generator(whole, 'test', 50)
  errors, untrained = (
      np.mean(one.task_results(tasks.episodes(0, 50), 3).query['loss'], axis=0)
      for one in (model, experiment.build_model(whole)))
  assert errors[3] < 0.85 * untrained[3]
  assert errors[3] < 0.95 * errors[0]

  with monkeypatch.context() as patch:
    interrupt_at(patch, 100)
    stopped, _ = start(small_config(**values))
  assert (stopped.iteration, stopped.interrupted_by) == (100, 'SIGTERM')
  result, _ = start(small_config(**values))
  received = checkpoint_values(result.checkpoint)
  assert os.path.basename(result.checkpoint) == 'model-400'
  np.testing.assert_equal(received, checkpoint_values(expected.checkpoint))
  if method == 'reptile':
    assert any('inner_optimizer/' in name and np.any(value > 0)
               for name, value in received.items())
