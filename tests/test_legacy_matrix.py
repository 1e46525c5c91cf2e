"""Batch statistics from the support set, and the matrix of ways to test."""

from __future__ import annotations

import csv
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import flags
from maml_tf import application, command_line, devices, experiment, matrix
from maml_tf.config import ConfigError, resolve
from maml_tf.data_generator import DataGenerator
from maml_tf.evaluation import conditions
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.legacy import checkpoint
from maml_tf.sources.images import ImageSource

SUPPORT, QUERIES = 5, 7


def learners(norm):
  return {'convolutional': Convolutional((6, 6, 2), 3, 4, norm, max_pool=False,
                                         spatial_mean=True),
          'max-pool': Convolutional((20, 20, 1), 2, 4, norm, max_pool=True,
                                    spatial_mean=False),
          'fully connected': FullyConnected(8, (5, 6), 4, norm)}


SHAPES = {'convolutional': (6, 6, 2), 'max-pool': (20, 20, 1), 'fully connected': (8,)}


def outputs_by_numpy(kind, values, support, query):
  """Of one task's query examples, batch norm being that of the support examples."""
  both = [support, query]
  layers = {'fully connected': ['dense1', 'dense2']}.get(
      kind, ['conv1', 'conv2', 'conv3', 'conv4'])
  for layer in layers:
    kernel, bias = values[f'{layer}/kernel'], values[f'{layer}/bias']
    if kernel.ndim == 2:
      both = [part @ kernel + bias for part in both]
    else:
      stride = 1 if kind == 'max-pool' else 2
      both = [convolved(part, kernel, stride) + bias for part in both]
    axes = tuple(range(both[0].ndim - 1))
    mean, variance = both[0].mean(axes), both[0].var(axes)
    both = [np.maximum((part - mean) / np.sqrt(variance + 1e-3) + values[f'{layer}/beta'], 0)
            for part in both]
    if kind == 'max-pool':
      both = [part[:, :part.shape[1] // 2 * 2, :part.shape[2] // 2 * 2] for part in both]
      both = [part.reshape(len(part), part.shape[1] // 2, 2, part.shape[2] // 2, 2, -1)
              .max(axis=(2, 4)) for part in both]
  features = both[1].mean((1, 2)) if kind == 'convolutional' else both[1].reshape(
      len(both[1]), -1)
  return features @ values['output/kernel'] + values['output/bias']


def convolved(images, kernel, stride):
  """3 x 3, padded like TensorFlow's SAME."""
  size = -(-images.shape[1] // stride)
  total = max((size - 1) * stride + 3 - images.shape[1], 0)
  padded = np.pad(images, [(0, 0), *[(total // 2, total - total // 2)] * 2, (0, 0)])
  result = np.zeros((len(images), size, size, kernel.shape[-1]))
  for row in range(size):
    for column in range(size):
      window = padded[:, row * stride:row * stride + 3, column * stride:column * stride + 3]
      result[:, row, column] = np.tensordot(window, kernel, axes=3)
  return result


@pytest.mark.parametrize('kind', SHAPES)
def test_statistics_of_the_support_set(kind, generic_values):
  learner = learners('batch_norm')[kind]
  values = generic_values(learner)
  inputs = np.random.RandomState(1).uniform(size=(2, SUPPORT + QUERIES, *SHAPES[kind]))
  outputs = learner({name: tf.constant(value) for name, value in values.items()},
                    tf.constant(inputs), statistics_size=SUPPORT)
  for task in range(2):
    expected = outputs_by_numpy(kind, values, inputs[task, :SUPPORT], inputs[task, SUPPORT:])
    np.testing.assert_allclose(outputs[task, SUPPORT:], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('kind', SHAPES)
@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm', 'None'])
def test_the_support_set_sees_itself_alone(kind, norm, generic_values):
  learner = learners(norm)[kind]
  values = {name: tf.constant(value) for name, value in generic_values(learner).items()}
  inputs = tf.constant(np.random.RandomState(1).uniform(size=(2, 12, *SHAPES[kind])))
  outputs = learner(values, inputs, statistics_size=SUPPORT)
  np.testing.assert_allclose(outputs[:, :SUPPORT], learner(values, inputs[:, :SUPPORT]),
                             rtol=1e-9, atol=1e-12)
  np.testing.assert_array_equal(learner(values, inputs, statistics_size=12),
                                learner(values, inputs))
  if norm != 'batch_norm':   # no statistics over examples
    np.testing.assert_array_equal(outputs, learner(values, inputs))


def test_no_query_example_sees_another(generic_values):
  learner = learners('batch_norm')['convolutional']
  values = {name: tf.constant(value) for name, value in generic_values(learner).items()}
  inputs = np.random.RandomState(1).uniform(size=(1, SUPPORT + QUERIES, 6, 6, 2))
  before = learner(values, tf.constant(inputs), statistics_size=SUPPORT)
  inputs[:, SUPPORT + 1:] = 0.3
  after = learner(values, tf.constant(inputs), statistics_size=SUPPORT)
  np.testing.assert_array_equal(before[:, :SUPPORT + 1], after[:, :SUPPORT + 1])


# --- the matrix -------------------------------------------------------------

@pytest.fixture
def model(generic_values):
  config = resolve(dict(datasource='omniglot', num_classes=3, num_filters=4, num_updates=2,
                        update_lr=0.2))
  model = experiment.build_model(config)
  model.meta_parameters.assign(generic_values(model.learner, dtype='float32'))
  return model


@pytest.fixture
def generator(make_split):
  def make(batch=4, queries=4):
    split = make_split(class_counts=(8,) * 6, image_shape=(28, 28, 1))
    return DataGenerator(ImageSource(split, 3, 2, queries, rotations=False), batch, 0, 'test')
  return make


@pytest.mark.slow
def test_conditions_agree_with_the_protocol(model, generator):
  """The transductive ones are what `main.py` measures, with that query set."""
  sizes, updates = [1, 4], [1, 3]
  measured = conditions.ConditionsEvaluator(model, generator(), 3, sizes, updates)(0, 8)
  assert measured.shape == (8, 4, 2)
  named = conditions.conditions(sizes)
  for size in sizes:
    batches = list(generator().dataset(0, 2))
    batches = [batch.replaced(query_inputs=batch.query.inputs[:, :3 * size],
                              query_labels=batch.query.labels[:, :3 * size])
               for batch in batches]
    expected = np.concatenate([model.task_results(batch, 3).query['accuracy']
                               for batch in batches])
    index = named.index(conditions.Condition(size, conditions.FROM_QUERY))
    np.testing.assert_array_equal(measured[:, index], expected[:, updates])
  expected = Evaluator(model, generator(), 8, 3)().query['accuracy']
  index = named.index(conditions.Condition(4, conditions.FROM_QUERY))
  np.testing.assert_array_equal(measured[:, index], expected[:, updates])


def test_inductive_results_do_not_depend_on_the_query_set(model, generator):
  def inductive(sizes):
    measured = conditions.ConditionsEvaluator(model, generator(), 3, sizes, [2])(0, 4)
    return measured[:, conditions.conditions(sizes).index((1, conditions.FROM_SUPPORT))]
  np.testing.assert_array_equal(inductive([1]), inductive([1, 4]))


def test_first_group_of_queries_has_one_of_each_class(generator):
  labels = generator().batch(0).query.labels.numpy().reshape(4, 4, 3)
  assert (np.sort(labels, axis=2) == np.arange(3)).all()


@pytest.mark.parametrize('first, count, batch', [(0, 7, 4), (3, 5, 4), (5, 2, 1), (4, 4, 2)])
def test_any_stretch_of_the_episodes(model, generator, first, count, batch):
  whole = conditions.ConditionsEvaluator(model, generator(), 3, [1], [1])(0, 8)
  part = conditions.ConditionsEvaluator(model, generator(batch), 3, [1], [1])(first, count)
  np.testing.assert_array_equal(part, whole[first:first + count])


def test_rows():
  accuracies = np.array([[[0.0, 1.0]] * 2, [[1.0, 1.0]] * 2])   # two tasks
  first, second, *_ = conditions.rows(accuracies, [1], [1, 5])
  assert first == conditions.Row(2, 1, 'transductive', 1, 0.5, 0.5,
                                 pytest.approx(1.96 * 0.5 / 2**0.5))
  assert second == conditions.Row(2, 1, 'transductive', 5, 1.0, 0.0, 0.0)


@pytest.fixture
def arguments(sample_data, tmp_path, generic_values):
  """Flags of a small matrix of a TF1 checkpoint."""
  flags = ['--datasource=omniglot', '--num_classes=3', '--num_filters=4',
           f'--data_dir={sample_data("omniglot")}', f'--logdir={tmp_path / "logs"}']
  learner = experiment.build_learner(resolve(dict(datasource='omniglot', num_classes=3,
                                                  num_filters=4)))
  checkpoint.write(str(tmp_path / 'tf1' / 'model100'), learner,
                   generic_values(learner, dtype='float32'))
  return [*flags, f'--legacy_checkpoint={tmp_path / "tf1" / "model100"}', '--tasks=4,6',
          '--query_sizes=2,1', '--updates=1,3']


@pytest.mark.slow
def test_one_command(arguments, tmp_path, capsys):
  assert matrix.main(arguments) == command_line.DONE
  out = capsys.readouterr().out
  assert 'inductive' in out and 'model100' in out and '3 updates' in out
  [path] = tmp_path.glob('logs/*/val_matrix_*.json')
  result = json.loads(path.read_text())
  assert result['iteration'] == 100 and len(result['rows']) == 2 * 4 * 2
  with open(path.with_suffix('.csv'), newline='') as file:
    rows = list(csv.DictReader(file))
  assert [float(row['mean']) for row in rows] == [row['mean'] for row in result['rows']]
  assert [row['num_tasks'] for row in rows] == ['4'] * 8 + ['6'] * 8
  # The smaller number of tasks alone gives the same.
  arguments[arguments.index('--tasks=4,6')] = '--tasks=4'
  assert matrix.main(arguments) == command_line.DONE
  assert json.loads(path.read_text())['rows'] == result['rows'][:8]


def test_each_checkpoint_has_a_matrix_of_its_own_and_looks_are_counted(small_config, tmp_path):
  def written(**given):
    config = small_config('omniglot', train=False, **given)
    _, path = matrix.write(str(tmp_path), config, {'rows': [{'mean': 0.5}]})
    with open(path, encoding='utf-8') as file:
      return pathlib.Path(path).stem, json.load(file)['times_tested']
  assert written() == ('val_matrix_ubs1_stepsize0.4', 1)
  assert written(test_set=True) == ('matrix_ubs1_stepsize0.4', 1)
  assert written(pretrained='a_row:1') == ('val_matrix_ubs1_stepsize0.4_of_a_row-1', 1)
  assert written(test_iter=7) == ('val_matrix_ubs1_stepsize0.4_iteration7', 1)
  assert written() == ('val_matrix_ubs1_stepsize0.4', 2)
  named = {written(legacy_checkpoint=f'{folder}/model1000')[0] for folder in 'ab'}
  assert len(named) == 2 and all('_of_model1000' in name for name in named)


def test_a_full_disk_leaves_both_files_of_an_earlier_one(small_config, tmp_path, disk_limit):
  """The table is small enough, the other file is not."""
  config = small_config('omniglot', train=False)
  def write(mean):
    return matrix.write(str(tmp_path), config, {'rows': [{'mean': mean}], 'more': 'x' * 1000})
  paths = [pathlib.Path(path) for path in write(0.5)]
  before = [path.read_bytes() for path in paths]
  with disk_limit(1000), pytest.raises(OSError):
    write(0.25)
  assert [path.read_bytes() for path in paths] == before
  assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_outputs_that_are_not_finite_are_said(arguments, tmp_path, capsys):
  code = matrix.main([*arguments, '--tasks=2', '--query_sizes=1', '--update_lr=1e38'])
  captured = capsys.readouterr()
  assert code == command_line.FAILED
  assert 'after 3 updates the outputs are not' in captured.err
  [path] = tmp_path.glob('logs/*/val_matrix_*.json')
  means = {row['updates']: row['mean'] for row in json.loads(path.read_text())['rows']}
  assert means[3] is None


@pytest.mark.slow
def test_a_run_of_this_project(arguments, small_config, capsys):
  config = small_config('omniglot', metatrain_iterations=0)
  assert application.run(config) == command_line.DONE
  flags = [argument for argument in arguments if 'legacy' not in argument]
  flags += ['--meta_batch_size=3', '--train_query_size=2']
  assert matrix.main(flags) == command_line.DONE
  out = capsys.readouterr().out
  assert str(pathlib.Path(config.run.logdir) / config.experiment_name) in out


def test_the_named_file_is_tested_and_nothing_is_trained(arguments, monkeypatch):
  """With --train=True it was a checkpoint of the folder, under the name of its own matrix."""
  seen = []
  monkeypatch.setattr(matrix, 'run', lambda config, *_: seen.append(config) or {'rows': []})
  assert matrix.main([*arguments, '--train=True']) == command_line.DONE
  assert not seen[0].run.train and seen[0].of_named_file


@pytest.mark.parametrize('asked, visible', [(0, '-1'), (-1, '5')])
def test_a_matrix_that_wants_no_gpu_sees_none(asked, visible, arguments, monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
  def set_up():
    raise ConfigError(os.environ['CUDA_VISIBLE_DEVICES'])
  monkeypatch.setattr(devices, 'set_up', set_up)
  config = flags.parse(['main.py', *(argument for argument in arguments if not
                                     argument.startswith(('--tasks', '--query', '--updates'))),
                        '--train=False', f'--num_gpus={asked}'])
  with pytest.raises(ConfigError, match=f'^{visible}$'):
    matrix.run(config, [2], [1], [1])


@pytest.mark.parametrize('changes, shown', [
    (['--tasks=1'], "'1'"), (['--tasks=a'], "'a'"), (['--query_sizes=0'], "'0'"),
    (['--updates='], "''"), (['--datasource=sinusoid', '--num_filters=64'], 'sinusoid'),
    (['--norm=layer_norm'], 'gamma'), (['--legacy_checkpoint=missing/m1'], 'missing/m1'),
    (['--data_dir=missing'], 'missing'), (['--bogus'], '--bogus'),
    (['--query_sizes=1,50'], '50'), (['--num_test_tasks=9'], 'give --tasks'),
    (['--test_query_size=9'], 'give --query_sizes')])
def test_refusals(arguments, changes, shown, capsys):
  try:
    code = matrix.main([*arguments, *changes])
  except SystemExit as caught:
    code = caught.code
  error = capsys.readouterr().err
  assert code == command_line.REFUSED and error.count('\n') == 1 and shown in error


@pytest.mark.parametrize('changes, shown', [
    (['--model=resnet12'], '--model=resnet12 takes the batch statistics of one set alone'),
    (['--method=matching'], '--method=matching has no inner steps'),
    (['--tune_update_lr'], '--tune_update_lr=True does not fit the matrix')])
def test_nets_without_such_conditions_are_refused(changes, shown, arguments, capsys):
  flags = [argument for argument in arguments
           if 'legacy' not in argument and 'num_filters' not in argument]
  assert matrix.main([*flags, *changes]) == command_line.REFUSED
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and shown in error
