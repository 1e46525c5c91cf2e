"""The test protocol: episodes, statistics, files; against hand-made and NumPy values."""

from __future__ import annotations

import csv
import json
import math
import os
import statistics as python_statistics
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given as drawn
from hypothesis import strategies as st

from maml_tf import application, experiment, measures
from maml_tf.config import ConfigError, resolve
from maml_tf.evaluation import protocol, results_files
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.evaluation.results_files import ProtocolRun
from maml_tf.paper import weights
from maml_tf.paper.rows import row_tested
from maml_tf.task_results import TaskResults
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.run_folder import prepare_folder

# Statistics.

def test_statistics_by_hand():
  means, stds, ci95 = protocol.statistics([[1.0, 2.0], [3.0, 6.0]])
  np.testing.assert_allclose(means, [2.0, 4.0])
  np.testing.assert_allclose(stds, [1.0, 2.0])   # over n, not n - 1
  np.testing.assert_allclose(ci95, [1.96 / math.sqrt(2), 3.92 / math.sqrt(2)])


@drawn(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_statistics_are_those_of_the_standard_library(values):
  means, stds, ci95 = protocol.statistics(np.array(values))
  np.testing.assert_allclose(means, python_statistics.fmean(values), atol=1e-9)
  np.testing.assert_allclose(stds, python_statistics.pstdev(values), atol=1e-9)
  np.testing.assert_allclose(ci95, 1.96 * python_statistics.pstdev(values)
                             / math.sqrt(len(values)), atol=1e-9)


def test_float32_results_are_averaged_in_float64():
  values = np.full(10_000, 0.1, np.float32)
  assert protocol.statistics(values).means == pytest.approx(float(np.float32(0.1)), rel=1e-12)


ACCURACY = TaskResults(
    support={'loss': np.array([4.0, 6.0]), 'accuracy': np.array([0.25, 0.75])},
    query={'loss': np.array([[1.0, 0.5, 0.3], [3.0, 2.5, 2.3]]),
           'accuracy': np.array([[0.2, 0.4, 0.5], [0.4, 0.8, 1.0]])})
LOSS = TaskResults({'loss': np.array([4.0, 6.0])}, {'loss': ACCURACY.query['loss']})


def test_the_score_is_the_last_accuracy_or_minus_the_last_loss():
  assert protocol.score(ACCURACY, measures.ACCURACY) == pytest.approx(0.75)
  assert protocol.score(LOSS, measures.MEAN_SQUARED_ERROR) == pytest.approx(-1.3)


@pytest.mark.parametrize('kind', ['support', 'query'])
def test_what_is_not_finite_is_never_the_best(kind):
  """By its accuracy it could be: of outputs that are no numbers the first class is taken."""
  results = TaskResults(*({name: values.copy() for name, values in part.items()}
                          for part in ACCURACY))
  getattr(results, kind)['loss'][-1] = np.nan
  assert results.query['accuracy'][:, -1].mean() == pytest.approx(0.75)
  assert protocol.score(results, measures.ACCURACY) == -math.inf


# Files.

def a_run(config, results, **values):
  return ProtocolRun(**{**dict(config=config, results=results, checkpoint='logs/model-7',
                               iteration=7, fingerprint='abc', seconds=1.23456), **values})


@pytest.mark.parametrize('results, means, stds', [
    (ACCURACY, [0.5, 0.6, 0.75], [0.25, 0.2, 0.25]),
    (LOSS, [5.0, 1.5, 1.3], [1.0, 1.0, 1.0])])
def test_the_csv_file_is_that_of_the_tf1_code(results, means, stds, small_config, tmp_path):
  """`update0` is the support set before any update, not the query set."""
  config = small_config('sinusoid' if results is LOSS else 'omniglot')
  path, _ = results_files.write_results(str(tmp_path), a_run(config, results))
  with open(path, newline='', encoding='utf-8') as file:
    header, *rows = csv.reader(file)
  assert header == ['update0', 'update1', 'update2']
  expected = [means, stds, [1.96 * std / math.sqrt(2) for std in stds]]
  np.testing.assert_allclose(np.array(rows, float), expected, rtol=1e-12)


def test_writing_leaves_the_results_as_they_are(small_config, tmp_path):
  before = ACCURACY.query['accuracy'].copy()
  results_files.write_results(str(tmp_path), a_run(small_config('omniglot'), ACCURACY))
  np.testing.assert_array_equal(ACCURACY.query['accuracy'], before)


def test_a_full_disk_leaves_both_files_of_an_earlier_test(small_config, tmp_path, disk_limit):
  """The table is small enough, the other one is not: neither is of another test."""
  run = a_run(small_config('omniglot'), ACCURACY)
  paths = [Path(path) for path in results_files.write_results(str(tmp_path), run)]
  before = [path.read_bytes() for path in paths]
  with disk_limit(1000), pytest.raises(OSError):
    results_files.write_results(str(tmp_path), a_run(small_config('omniglot'), TaskResults(
        *({name: 1 - value for name, value in part.items()} for part in ACCURACY))))
  assert [path.read_bytes() for path in paths] == before and len(before[0]) < 1000
  assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize('datasource, given, stem', [
    ('sinusoid', dict(), 'test_ubs5_stepsize0.01'),
    ('sinusoid', dict(update_batch_size=10, update_lr=0.001), 'test_ubs10_stepsize0.001'),
    ('omniglot', dict(test_set=True), 'test_ubs1_stepsize0.4'),
    ('omniglot', dict(), 'val_ubs1_stepsize0.4'),
    ('miniimagenet', dict(test_set=True, update_batch_size=2), 'test_ubs2_stepsize0.01'),
    # A checkpoint of other shots: the file says what was tested.
    ('sinusoid', dict(train=False, train_update_batch_size=10, train_update_lr=0.1),
     'test_ubs5_stepsize0.01'),
    # Other parameters than those of the folder's run, whose own results stay.
    ('sinusoid', dict(train=False, pretrained='a_row:1'), 'test_ubs5_stepsize0.01_of_a_row-1'),
    ('sinusoid', dict(train=False, pretrained='/to/w.npz'),
     'test_ubs5_stepsize0.01_of_w-d0b00380'),
    ('sinusoid', dict(train=False, legacy_checkpoint='/to/model59999'),
     'test_ubs5_stepsize0.01_of_model59999-00382397'),
    ('sinusoid', dict(pretrained='a_row:1'), 'test_ubs5_stepsize0.01')])
def test_the_files_have_the_tf1_code_s_names(datasource, given, stem, small_config,
                                             tmp_path):
  config = small_config(datasource, **given)
  results = LOSS if datasource == 'sinusoid' else ACCURACY
  paths = results_files.write_results(str(tmp_path), a_run(config, results))
  assert paths == (str(tmp_path / f'{stem}.csv'), str(tmp_path / f'{stem}.json'))
  assert sorted(os.listdir(tmp_path)) == [f'{stem}.csv', f'{stem}.json']


@pytest.mark.parametrize('flag, one, other', [
    ('pretrained', 'a/seed0.npz', 'b/seed0.npz'),
    ('legacy_checkpoint', 'a/model1000', 'b/model1000')])
def test_files_of_the_same_name_in_other_folders_have_results_of_their_own(
    flag, one, other, small_config):
  def stem(path):
    return results_files.file_stem(small_config(train=False, **{flag: path}))
  assert stem(one) != stem(other)
  assert stem(one) == stem(os.path.abspath(one)) == stem('a/../' + one)


def test_the_json_file_is_complete(small_config, tmp_path):
  config = small_config('omniglot', test_set=True)
  _, path = results_files.write_results(str(tmp_path), a_run(config, ACCURACY))
  with open(path, encoding='utf-8') as file:
    stored = json.load(file)
  versions = stored.pop('versions')
  updates = stored.pop('updates')
  assert stored == {'config': config.to_dict(), 'num_tasks': 2, 'split': 'test',
                    'episodes_fingerprint': 'abc', 'checkpoint': 'logs/model-7',
                    'iteration': 7, 'seconds': 1.235, 'tuning': None,
                    'times_tested': 1}
  assert versions['tensorflow'] == tf.__version__ and versions['numpy'] == np.__version__
  assert set(versions) == {'python', 'tensorflow', 'keras', 'numpy', 'platform'}
  assert list(updates) == ['update0_support', 'update0_query', 'update1', 'update2']
  width = 1.96 / math.sqrt(2)
  expected = {'update0_support': (5.0, 1.0, 0.5, 0.25), 'update0_query': (2.0, 1.0, 0.3, 0.1),
              'update1': (1.5, 1.0, 0.6, 0.2), 'update2': (1.3, 1.0, 0.75, 0.25)}
  for name, (loss, loss_std, accuracy, accuracy_std) in expected.items():
    for kind, mean, std in (('loss', loss, loss_std), ('accuracy', accuracy, accuracy_std)):
      assert updates[name][kind] == pytest.approx(
          {'mean': mean, 'std': std, 'ci95': width * std}), (name, kind)


def test_the_json_file_of_a_regression_has_no_accuracies(small_config):
  stored = results_files.as_dict(a_run(small_config(), LOSS))
  assert stored['split'] is None
  assert all(list(measures) == ['loss'] for measures in stored['updates'].values())


def test_the_table_of_a_classification(small_config):
  text = results_files.table(a_run(small_config('omniglot'), ACCURACY), {2: '98.7 +- 0.4'})
  lines = [line.split() for line in text.splitlines()]
  assert ' '.join(lines[0]) == 'updates accuracy, % 95% interval std paper'
  assert [' '.join(line) for line in lines[1:]] == [
      '0 (support set) 50.00 +- 34.65 25.00', '0 (query set) 30.00 +- 13.86 10.00',
      '1 60.00 +- 27.72 20.00', '2 75.00 +- 34.65 25.00 98.7 +- 0.4']


def test_the_table_of_a_regression(small_config):
  text = results_files.table(a_run(small_config(), LOSS), {1: '0.67'})
  lines = [line.split() for line in text.splitlines()]
  assert ' '.join(lines[0]) == 'updates mean squared error 95% interval std paper'
  assert ' '.join(lines[1]) == '0 (support set) 5.0000 +- 1.3859 1.0000'
  assert ' '.join(lines[3]) == '1 1.5000 +- 1.3859 1.0000 0.67'
  assert ' '.join(lines[4]) == '2 1.3000 +- 1.3859 1.0000'


def test_the_table_is_aligned(small_config):
  text = results_files.table(a_run(small_config(), LOSS), {0: 'x', 1: 'x', 2: 'x'})
  header, support, *others = text.splitlines()
  column = header.index('paper')
  assert [line.index('x') for line in others] == [column] * 3
  assert {line.index('+-') for line in (support, *others)} == {support.index('+-')}


def test_the_table_has_no_column_for_values_that_are_not_there(small_config):
  assert 'paper' not in results_files.table(a_run(small_config(), LOSS), {})


# The paper's values.

@pytest.mark.parametrize('given, expected', [
    (dict(), {1: '0.67', 5: '0.38', 10: '0.35'}),
    (dict(metatrain_iterations=0, pretrain_iterations=5),
     {1: '2.41', 5: '2.23', 10: '2.19'}),
    (dict(update_batch_size=10), {}), (dict(baseline='oracle'), {}),
    (dict(baseline='averaged'), {1: '4.19', 5: '3.85', 10: '3.69'}),
    (dict(baseline='averaged', averaged_regulariser='l2'),
     {1: '7.18', 5: '5.69', 10: '5.60'}),
    (dict(baseline='averaged', averaged_regulariser='mean'),
     {1: '2.91', 5: '2.72', 10: '2.71'}),
    (dict(baseline='averaged', update_batch_size=10), {}),
    (dict(datasource='miniimagenet', baseline='fine_tuning'), {10: '28.86 +- 0.54'}),
    (dict(datasource='miniimagenet', baseline='fine_tuning', update_batch_size=5),
     {10: '49.79 +- 0.79'}),
    (dict(datasource='miniimagenet', baseline='nearest_neighbour'), {1: '41.08 +- 0.70'}),
    (dict(datasource='miniimagenet', baseline='nearest_neighbour', update_batch_size=5),
     {1: '51.04 +- 0.65'}),
    (dict(datasource='omniglot', baseline='nearest_neighbour'), {}),
    (dict(datasource='miniimagenet', baseline='fine_tuning', conv=False), {}),
    (dict(stop_grad=True), {}),
    (dict(method='anil'), {}), (dict(method='reptile'), {}),
    (dict(datasource='omniglot', method='reptile'), {50: '97.68 +- 0.04'}),
    (dict(datasource='omniglot', method='context_vector'), {3: '94.9 +- 0.9'}),
    (dict(datasource='omniglot', method='context_vector', update_batch_size=5),
     {3: '97.7 +- 0.3'}),
    (dict(datasource='omniglot', method='context_vector', num_classes=20), {}),
    (dict(datasource='miniimagenet', method='context_vector'), {}),
    (dict(datasource='omniglot'), {3: '98.7 +- 0.4'}),
    (dict(datasource='omniglot', update_batch_size=5), {3: '99.9 +- 0.1'}),
    (dict(datasource='omniglot', conv=False), {3: '89.7 +- 1.1'}),
    (dict(datasource='omniglot', conv=False, update_batch_size=5), {3: '97.5 +- 0.6'}),
    (dict(datasource='omniglot', num_classes=20), {5: '95.8 +- 0.3'}),
    (dict(datasource='omniglot', num_classes=20, update_batch_size=5), {5: '98.9 +- 0.2'}),
    (dict(datasource='omniglot', num_classes=7), {}),
    (dict(datasource='omniglot', stop_grad=True), {}),
    (dict(datasource='miniimagenet'), {10: '48.70 +- 1.84'}),
    (dict(datasource='miniimagenet', update_batch_size=5), {10: '63.11 +- 0.92'}),
    (dict(datasource='miniimagenet', stop_grad=True), {10: '48.07 +- 1.75'}),
    (dict(datasource='miniimagenet', stop_grad=True, update_batch_size=5),
     {10: '63.15 +- 0.91'}),
])
def test_the_paper_s_values_are_those_of_its_tables(given, expected):
  row = row_tested(resolve(dict(given, test_set=True)))
  assert (row.paper if row else {}) == expected


def test_a_test_on_validation_classes_has_no_value_in_the_paper():
  assert row_tested(resolve(dict(datasource='omniglot', test_set=False))) is None


# Adaptation, recomputed.

def recomputed(model, episode, step_size, updates):
  """Losses and accuracies of one task, by gradient descent on variables.

  Only the net and the objective are the model's. `[updates + 1]` each; the first
  entry of both on the support set comes with them.
  """
  specs = model.learner.parameter_specs
  arrays = model.meta_parameters.arrays()
  variables = {spec.name: tf.Variable(arrays[spec.name]) for spec in specs}
  adapted = [spec.name for spec in specs if spec.adapted]
  support_inputs, support_labels, query_inputs, query_labels = (
      value[tf.newaxis] for value in episode)

  def measure(inputs, labels):
    outputs = model.learner(
        {name: tf.convert_to_tensor(value) for name, value in variables.items()}, inputs)
    right = np.argmax(outputs.numpy()[0], axis=1) == labels.numpy()[0].reshape(-1)[
        :outputs.shape[1]]
    return float(model.objective.loss(outputs, labels)[0].numpy()), float(right.mean())

  on_support = measure(support_inputs, support_labels)
  rows = [measure(query_inputs, query_labels)]
  for _ in range(updates):
    with tf.GradientTape() as tape:
      outputs = model.learner({name: tf.convert_to_tensor(value)
                               for name, value in variables.items()}, support_inputs)
      loss = model.objective.loss(outputs, support_labels)[0]
    sources = [variables[name] for name in adapted]
    for variable, gradient in zip(sources, tape.gradient(loss, sources)):
      variable.assign_sub(step_size * gradient)
    rows.append(measure(query_inputs, query_labels))
  return on_support, np.array(rows)


@pytest.mark.parametrize('datasource, given', [
    ('sinusoid', dict(update_lr=0.01)), ('omniglot', dict(update_lr=0.4)),
    ('omniglot', dict(conv=False, update_lr=0.1))])
def test_the_results_of_a_task_are_those_of_plain_gradient_descent(
    datasource, given, small_config):
  config = small_config(datasource, dtype='float64', **given)
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'test', 4)
  results = Evaluator(model, generator, 4, 2)()
  for task in (0, 3):
    episode = [value[task] for value in tf.nest.flatten(generator.episodes(0, 4))]
    on_support, rows = recomputed(model, episode, config.inner_loop.update_lr, 2)
    np.testing.assert_allclose(results.query['loss'][task], rows[:, 0], rtol=1e-9)
    np.testing.assert_allclose(results.support['loss'][task], on_support[0], rtol=1e-9)
    if datasource == 'omniglot':
      np.testing.assert_allclose(results.query['accuracy'][task], rows[:, 1])
      np.testing.assert_allclose(results.support['accuracy'][task], on_support[1])
  assert np.ptp(results.query['loss'][:, -1]) > 0   # the tasks are different ones
  assert (results.query['loss'][:, 0] != results.query['loss'][:, -1]).all()


def test_a_sinusoid_by_hand(small_config):
  """One task of the 1-40-40-1 net, forward and backward in NumPy."""
  config = small_config(dtype='float64', update_lr=0.05)
  model = experiment.build_model(config)
  generator = experiment.evaluation_generator(config, 'test', 6)
  results = Evaluator(model, generator, 6, 2)()
  x, y, query_x, query_y = (value[2].numpy()
                            for value in tf.nest.flatten(generator.episodes(0, 6)))
  w1, b1, w2, b2, w3, b3 = model.meta_parameters.arrays().values()
  losses = []
  for _ in range(3):
    hidden = np.maximum(np.maximum(query_x @ w1 + b1, 0) @ w2 + b2, 0)
    losses.append(np.mean((hidden @ w3 + b3 - query_y)**2))
    first = np.maximum(x @ w1 + b1, 0)
    second = np.maximum(first @ w2 + b2, 0)
    by_output = 2 * (second @ w3 + b3 - y) / len(x)
    by_second = (by_output @ w3.T) * (second > 0)
    by_first = (by_second @ w2.T) * (first > 0)
    gradients = (x.T @ by_first, by_first.sum(0), first.T @ by_second, by_second.sum(0),
                 second.T @ by_output, by_output.sum(0))
    w1, b1, w2, b2, w3, b3 = (value - 0.05 * gradient for value, gradient in
                              zip((w1, b1, w2, b2, w3, b3), gradients))
  np.testing.assert_allclose(results.query['loss'][2], losses, rtol=1e-10)


# The evaluator and its episodes.

def test_the_evaluator_gives_one_row_per_task_and_the_same_every_time(small_config):
  config = small_config()
  model = experiment.build_model(config)
  evaluator = Evaluator(model, experiment.evaluation_generator(config, 'val', 6), 6, 2)
  batches = []
  results = evaluator(progress=lambda iterable: batches.append(len(iterable)) or iterable)
  assert batches == [1]
  assert results.query['loss'].shape == (6, 3) and results.support['loss'].shape == (6,)
  assert list(results.query) == list(results.support) == ['loss']
  np.testing.assert_equal(evaluator(), results)


def test_the_evaluator_sees_the_parameters_of_the_moment(small_config):
  config = small_config()
  model = experiment.build_model(config)
  evaluator = Evaluator(model, experiment.evaluation_generator(config, 'val', 6), 6, 1)
  before = evaluator()
  model.meta_parameters.assign({name: array + 0.1 for name, array in
                                model.meta_parameters.arrays().items()})
  assert (evaluator().query['loss'] != before.query['loss']).all()


def test_of_the_last_batch_a_part_may_be_left_out(small_config):
  """Any number of tasks is measured in few batches, each task as among any others."""
  config = small_config()
  model = experiment.build_model(config)
  whole = Evaluator(model, experiment.evaluation_generator(config, 'val', 29), 29, 1)()
  part = Evaluator(model, experiment.evaluation_generator(config, 'val', 6), 6, 1)()
  assert whole.query['loss'].shape == (29, 2) and part.query['loss'].shape == (6, 2)
  np.testing.assert_allclose(whole.query['loss'][:6], part.query['loss'], rtol=1e-5)


@pytest.mark.parametrize('tasks, datasource, batch', [
    (600, 'sinusoid', 25), (6, 'sinusoid', 6), (600, 'miniimagenet', 8),
    (7, 'miniimagenet', 7), (26, 'sinusoid', 13),
    (601, 'sinusoid', 14), (601, 'miniimagenet', 7)])   # not one by one
def test_evaluation_batches_leave_little_of_the_last_one_out(tasks, datasource, batch,
                                                       small_config):
  generator = experiment.evaluation_generator(small_config(datasource), 'val', tasks)
  assert generator.meta_batch_size == batch


@pytest.mark.parametrize('tasks_at_once, batch', [(2, 24), (7, 14), (30, 25), (25, 25)])
def test_groups_of_tasks_divide_the_evaluation_batches(tasks_at_once, batch, small_config):
  config = small_config(tasks_at_once=tasks_at_once, meta_batch_size=tasks_at_once)
  generator = experiment.evaluation_generator(config, 'val', 600)
  assert generator.meta_batch_size == batch
  spec = generator.dataset(0, 1).element_spec
  experiment.build_model(config).groups(spec)   # refuses none


@pytest.mark.parametrize('datasource', ['sinusoid', 'omniglot'])
def test_every_run_is_tested_on_the_same_episodes(datasource, small_config):
  """Whatever it was trained with, and however many tasks are taken."""
  given = dict(meta_batch_size=7, seed=3, meta_lr=0.1, num_updates=4, train_query_size=3)
  usual = experiment.evaluation_generator(small_config(datasource), 'test', 6)
  other = experiment.evaluation_generator(small_config(datasource, **given), 'test', 30)
  assert other.fingerprint(6) == usual.fingerprint(6)
  for one, another in zip(*(tf.nest.flatten(generator.episodes(0, 6))
                            for generator in (usual, other))):
    np.testing.assert_array_equal(one, another)


def test_the_fingerprint_tells_episodes_apart(small_config, tmp_path):
  def fingerprint(split='test', tasks=4, **given):
    config = small_config('omniglot', **given)
    return experiment.evaluation_generator(config, split, tasks).fingerprint(tasks)
  from data_scripts import make_sample_data
  from data_scripts.plan import Layout
  make_sample_data.write_prepared('omniglot', tmp_path / 'other',
                                  Layout(5, 4, 4, 5), seed=1)
  different = {fingerprint(), fingerprint('val'), fingerprint(tasks=5),
               fingerprint(num_classes=2), fingerprint(data_dir=str(tmp_path / 'other'))}
  assert len(different) == 5
  assert all(len(value) == 64 for value in different)


def test_training_validation_and_test_episodes_differ(small_config):
  config = small_config()
  x = [experiment.training_generator(config).recipes(0, 6)['x'].numpy()]
  x += [experiment.evaluation_generator(config, split, 6).recipes(0, 6)['x'].numpy()
        for split in ('val', 'test')]
  for one, other in ((0, 1), (0, 2), (1, 2)):
    assert not np.intersect1d(x[one], x[other]).size


# The whole protocol.

@pytest.fixture
def saved():
  """A function: saves untrained parameters as those of an iteration; (model, folder)."""
  def save(config, iteration=7, scale=1.0):
    folder, model = prepare_folder(config), experiment.build_model(config)
    model.meta_parameters.assign({name: array * scale for name, array in
                                  model.meta_parameters.arrays().items()})
    Checkpoints(folder, parameters=model.meta_parameters).save(iteration)
    return model, folder
  return save


def test_the_protocol_tests_the_checkpoint_and_writes_its_files(saved, small_config, capsys):
  config = small_config(num_test_tasks=6, test_num_updates=10)
  trained, folder = saved(config, scale=0.5)
  results = Evaluator(trained, experiment.evaluation_generator(config, 'test', 6), 6, 10)()
  test_run = application.test(config, experiment.build_model(config), folder)
  np.testing.assert_equal(test_run.results, results)   # not those of a new net
  assert (test_run.iteration, test_run.checkpoint) == (7, os.path.join(folder, 'model-7'))
  written = [f'test_ubs5_stepsize0.01.{suffix}' for suffix in ('csv', 'json')]
  assert {*written, 'fitted_curves.png'} <= set(os.listdir(folder))
  with open(os.path.join(folder, written[1]), encoding='utf-8') as file:
    stored = json.load(file)
  assert stored['num_tasks'] == 6 and len(stored['updates']) == 12
  assert stored['updates']['update10']['loss']['mean'] == pytest.approx(
      float(results.query['loss'][:, 10].mean()), rel=1e-6)
  output = capsys.readouterr().out
  assert f'Test: 6 tasks, {folder}/model-7, ' in output
  assert "The paper's values are of other settings" in output and '0.67' not in output
  for name in (*written, 'fitted_curves.png'):
    assert f'Written: {folder}/{name}' in output


def test_two_checkpoints_and_two_seeds_are_tested_on_the_same_tasks(saved, small_config):
  runs = []
  for given, iteration in ((dict(), 5), (dict(), 9), (dict(seed=1), 5)):
    config = small_config(train=False, test_iter=iteration, **given)
    _, folder = saved(config, iteration, scale=iteration)
    runs.append(application.test(config, experiment.build_model(config), folder))
  assert len({run.fingerprint for run in runs}) == 1
  assert len({run.results.query['loss'].tobytes() for run in runs}) == 3


def test_a_named_file_of_weights_leaves_the_results_of_the_run_in_the_folder(
    saved, small_config, tmp_path):
  config, weights_file = small_config(), str(tmp_path / 'other.npz')
  model, folder = saved(config, scale=0.5)
  application.test(config, experiment.build_model(config), folder)
  before = {path: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
  Path(weights_file).write_bytes(weights.to_bytes(model.state()))
  named = small_config(train=False, pretrained=weights_file)
  application.test(named, experiment.build_model(named), folder)
  assert {path: path.read_bytes() for path in before} == before
  new = {path.name.partition('_of_other')[0] for path in Path(folder).iterdir()
         if path not in before}
  assert {'fitted_curves', 'test_ubs5_stepsize0.01'} <= new


def test_a_test_of_other_tasks_leaves_the_picture_of_the_run(saved, small_config):
  """One with other shots, or another step size, replaced it beside the table of the first."""
  config = small_config()
  _, folder = saved(config, scale=0.5)
  pictures = {'fitted_curves.png'}
  for given, name in (
      (dict(), ''), (dict(update_batch_size=10, train_update_batch_size=5), '_ubs10'),
      (dict(update_lr=0.02, train_update_lr=0.01), '_stepsize0.02')):
    tested = small_config(train=False, **given)
    application.test(tested, experiment.build_model(tested), folder)
    pictures.add(f'fitted_curves{name}.png')
    assert {path.name for path in Path(folder).glob('*.png')} == pictures


@pytest.mark.slow
def test_validation_classes_and_test_classes_have_files_of_their_own(
    saved, small_config, capsys):
  """The TF1 code overwrote one with the other."""
  runs = {}
  for test_set, split in ((False, 'val'), (True, 'test')):
    config = small_config('omniglot', test_set=test_set)
    _, folder = saved(config)
    runs[split] = application.test(config, experiment.build_model(config), folder)
    assert f'Test: 4 tasks of the {split} classes' in capsys.readouterr().out
    with open(f'{folder}/{split}_ubs1_stepsize0.4.json', encoding='utf-8') as file:
      assert json.load(file)['split'] == split
  assert runs['val'].fingerprint != runs['test'].fingerprint
  assert not os.path.exists(f'{folder}/fitted_curves.png')


# From a configuration to the objects.

def test_a_group_that_does_not_divide_the_meta_batch_is_refused(small_config):
  with pytest.raises(ConfigError, match='--tasks_at_once=3 does not divide --meta_batch_si'):
    experiment.build_model(small_config(tasks_at_once=3))
  experiment.build_model(small_config(tasks_at_once=2))
  experiment.build_model(small_config(tasks_at_once=9))   # larger: all at once


@pytest.mark.parametrize('datasource, choice, gpus, expected', [
    ('omniglot', 'auto', [], False), ('omniglot', 'auto', ['gpu'], True),
    ('sinusoid', 'auto', [], True), ('sinusoid', 'off', [], False),
    ('omniglot', 'on', [], True), ('omniglot', 'off', ['gpu'], False)])
def test_xla_is_chosen_where_it_is_faster(datasource, choice, gpus, expected, small_config,
                                          monkeypatch):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  assert experiment.use_xla(small_config(datasource, xla=choice)) is expected


@pytest.mark.parametrize('datasource, given, parameters', [
    ('sinusoid', dict(), 1761),                            # 1-40-40-1
    ('sinusoid', dict(baseline='oracle'), 1841),           # 3-40-40-1
    ('omniglot', dict(num_classes=5, num_filters=64), None),
    ('omniglot', dict(num_classes=5, conv=False), None),
    ('miniimagenet', dict(num_classes=5, num_filters=32), None)])
def test_the_nets_are_those_of_the_paper(datasource, given, parameters, small_config):
  model = experiment.build_model(small_config(datasource, **given))
  arrays = model.meta_parameters.arrays()
  if parameters is not None:
    assert sum(array.size for array in arrays.values()) == parameters
    return
  shapes = [array.shape for array in arrays.values() if array.ndim > 1]
  assert shapes == {
      ('omniglot', True): [(3, 3, 1, 64)] + [(3, 3, 64, 64)] * 3 + [(64, 5)],
      ('omniglot', False): [(784, 256), (256, 128), (128, 64), (64, 64), (64, 5)],
      ('miniimagenet', True): [(3, 3, 3, 32)] + [(3, 3, 32, 32)] * 3 + [(800, 5)],
  }[datasource, given.get('conv', True)]
