"""The conformance table: what every method has to hold, a row each.

The meta-gradient against finite differences in float64, groups of tasks, XLA, two replicas,
and a run that was interrupted. What a method computes is tested against its paper's equations
elsewhere.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss
from stopping import stopped_after

from maml_tf import experiment
from maml_tf.learners import Convolutional, WithContext
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.training import trainer
from maml_tf.training.optimizers import build_optimizer
from maml_tf.training.run_folder import prepare_folder

TASKS, WAYS, SHOTS, IMAGE = 4, 3, 2, (9, 8, 2)
_STEPS = dict(step_size=0.3, num_updates=2)
_COMPARED = dict(shots=SHOTS)
_PLUS_PLUS = dict(_STEPS, multi_step_iterations=9, first_order_iterations=0,
                  per_step_norm=True)
THROUGH_CG = {'imaml'}   # conjugate gradients magnify rounding
# {row: (method, arguments)}; a row without a gradient by differences says why.
ROWS = {
    'maml': ('maml', _STEPS),
    'maml, first order': ('maml', dict(_STEPS, first_order=True)),
    'maml, step sizes of layers': ('maml', dict(_STEPS, learned_step_sizes='layer')),
    'maml, of layers and steps': ('maml', dict(_STEPS, learned_step_sizes='layer_and_step')),
    'meta_sgd': ('meta_sgd', _STEPS),
    'maml_plus_plus': ('maml_plus_plus', _PLUS_PLUS),
    'maml_plus_plus, of two orders': ('maml_plus_plus', dict(
        _PLUS_PLUS, first_order_iterations=2)),
    'anil': ('anil', _STEPS),
    'boil': ('boil', _STEPS),
    'context_vector': ('context_vector', _STEPS),
    'imaml': ('imaml', dict(step_size=0.05, num_updates=3, proximal_weight=4.0)),
    'reptile': ('reptile', dict(_STEPS, inner_batch_size=4)),
    'prototypical': ('prototypical', _COMPARED),
    'matching': ('matching', _COMPARED),
    'matching, full context': ('matching', dict(_COMPARED, full_context=True)),
    'siamese': ('siamese', _COMPARED),
}
ITERATIONS = {'maml_plus_plus, of two orders': (0, 2)}   # of first and of second order
# First order is none of a loss; Reptile follows no gradient; the implicit one is that of the
# converged inner loop, and is compared with it in test_imaml.py.
WITHOUT_DIFFERENCES = {'maml, first order', 'reptile', 'imaml'}


def model_of(row, generic_values, **given):
  method, arguments = ROWS[row]
  def net(channels):
    return Convolutional((*IMAGE[:2], channels), 4, WAYS, 'batch_norm', max_pool=False,
                         spatial_mean=True)
  learner = WithContext(net(3), IMAGE, 1) if method == 'context_vector' else net(2)
  model = meta_learner_class(method)(learner, ScaledCrossEntropy(SHOTS), dtype='float64',
                                     **arguments, **given)
  values = {**model.meta_parameters.arrays(), **generic_values(model.learner, seed=1)}
  random = np.random.RandomState(2)
  for name in sorted(set(values) - {spec.name for spec in model.learner.parameter_specs}):
    values[name] = values[name] + 0.1 * random.uniform(size=values[name].shape)
  model.meta_parameters.assign(values)
  # What depends on the iteration is as in training, and not as at its end.
  model.compile(build_optimizer('sgd', 0.001, 'float64'))
  return model


def at_iterations(row, *models):
  """Once for each kind of iteration that the row has, the models being there."""
  for iteration in ITERATIONS.get(row, (0,)):
    for model in models:
      model.optimizer.iterations.assign(iteration)
    yield


@pytest.fixture
def episodes(make_classification):
  return make_classification(TASKS, WAYS, SHOTS, IMAGE)


def test_every_method_has_a_row():
  assert {method for method, _ in ROWS.values()} == set(METHODS)


def test_in_its_rows_all_of_maml_plus_plus_has_an_effect(episodes, generic_values):
  [row] = ITERATIONS
  model = model_of(row, generic_values)
  last_loss = tf.reduce_mean(model.task_results(episodes, 2).query['loss'][:, -1])
  first, second = (model.meta_gradient(episodes) for _ in at_iterations(row, model))
  assert all(abs(means['loss'] - last_loss) > 1e-3 for means, _ in (first, second))
  assert any(np.abs(one - second[1][name]).max() > 1e-3 for name, one in first[1].items())


@pytest.mark.parametrize('row', sorted(set(ROWS) - WITHOUT_DIFFERENCES))
def test_its_gradient_is_the_derivative_of_its_loss(row, episodes, generic_values):
  model = model_of(row, generic_values)
  model.optimizer.iterations.assign(ITERATIONS.get(row, (0,))[-1])
  assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


def assert_same(received, expected, tolerance=1e-8):
  for one, other in zip(tf.nest.flatten(received), tf.nest.flatten(expected)):
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('row', ROWS)
def test_groups_of_tasks_change_nothing(row, episodes, generic_values):
  one, other = (model_of(row, generic_values, tasks_at_once=size) for size in (1, 4))
  for _ in at_iterations(row, one, other):
    assert_same(one.meta_gradient(episodes), other.meta_gradient(episodes))
  updates = 3 if one.has_inner_loop else 0
  assert_same(one.task_results(episodes, updates), other.task_results(episodes, updates))


@pytest.mark.slow
@pytest.mark.parametrize('row', ROWS)
def test_xla_changes_nothing(row, episodes, generic_values):
  model = model_of(row, generic_values)
  compiled = tf.function(model.meta_gradient, autograph=False, jit_compile=True)
  for _ in at_iterations(row, model):
    assert_same(compiled(episodes), model.meta_gradient(episodes))


@pytest.fixture(scope='module')
def by_replicas(forks, tmp_path_factory):
  """{row: the largest difference between two replicas and one, or what went wrong}."""
  folder = tmp_path_factory.mktemp('replicas')
  process = forks.start('rows_by_replicas:compare', folder / 'log.txt',
                        str(folder / 'errors.json'))
  assert process.wait() == 0, process.output_text()
  return json.loads((folder / 'errors.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize('row', ROWS)
def test_two_replicas_do_what_one_does(row, by_replicas):
  print(f'{row}: {by_replicas[row]}')
  assert by_replicas[row] < (1e-11 if row in THROUGH_CG else 1e-12)


def trained(configuration):
  model = experiment.build_model(configuration)
  result = trainer.train(configuration, model, prepare_folder(configuration))
  reader = tf.train.load_checkpoint(result.checkpoint)
  return result.iteration, {
      name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
      if 'save_counter' not in name and 'OBJECT_GRAPH' not in name}


_RUNS = {   # {row: flags}
    **{method: dict(method=method) for method in METHODS},
    'maml, step sizes of layers': dict(learned_step_sizes='layer_and_step'),
    'maml_plus_plus': dict(method='maml_plus_plus', multi_step_iterations=5,
                           first_order_iterations=3),
    'matching, full context': dict(method='matching', full_context=True)}


@pytest.mark.slow
@pytest.mark.parametrize('row', _RUNS)
def test_an_interrupted_run_ends_bit_for_bit_the_same(row, small_config, tmp_path,
                                                      monkeypatch):
  given = dict(metatrain_iterations=6, validation_interval=3, log=False, **_RUNS[row])
  if row not in WITHOUT_INNER_LOOP and 'matching' not in row:
    given.update(num_updates=2)
  whole = trained(small_config('omniglot', logdir=str(tmp_path / 'whole'), **given))
  with stopped_after(2, monkeypatch):
    stopped, _ = trained(small_config('omniglot', **given))
  resumed = trained(small_config('omniglot', **given))
  assert (stopped, resumed[0], whole[0]) == (2, 6, 6)
  np.testing.assert_equal(resumed[1], whole[1])
