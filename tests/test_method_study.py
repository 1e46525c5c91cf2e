"""The study of methods: the same episodes, seconds that end a run, paired intervals."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from test_own_images import draw_classes

from data_scripts import prepare_images
from maml_tf import verify
from maml_tf.config import ConfigError
from maml_tf.errors import NotFiniteError
from maml_tf.files import as_json
from maml_tf.meta_learners import METHODS
from maml_tf.training import history
from maml_tf.training.checkpoint_files import CheckpointFiles
from maml_tf.training.run_folder import experiment_folder
from maml_tf.verification import method_study, plots, study_tables

FEW = {'maml': {}, 'anil': {'method': 'anil'}}
SMALL = dict(num_test_tasks=6, num_validation_tasks=4, update_lr=0.01, test_num_updates=2,
             meta_batch_size=4, xla='off', validation_interval=50, log=False)


def small_study(folder, entries):
  return method_study.configs('sinusoid', logdir=str(folder / 'logs'), entries=entries,
                              **SMALL)


@pytest.fixture
def own_images(tmp_path):
  """A function that prepares a set with that many images of a class; its folder."""
  def prepare(name, images=5):
    draw_classes(tmp_path / f'photos of {name}', images=images)
    folder = tmp_path / 'data' / name
    assert prepare_images.main([f'--source={tmp_path / f"photos of {name}"}',
                                f'--out={folder}', '--size=16', '--shares=3,3,3']) == 0
    return str(folder)
  return prepare


def test_all_methods_are_in_it_on_the_same_episodes():
  settings = method_study.configs('omniglot')
  assert {config.training.method for _, config in settings} == set(METHODS)
  assert settings[0][0] == 'maml'
  same = {(config.task, config.training.meta_batch_size, config.learner.num_filters,
           config.learner.max_pool) for _, config in settings}
  assert len(same) == 1
  assert len({config.experiment_name for _, config in settings}) == len(settings)
  assert {config.training.meta_lr_schedule for _, config in settings} == {'constant'}
  assert not any(config.evaluation.test_set for _, config in settings)


def test_methods_without_an_inner_loop_are_not_for_regressions():
  methods = {config.training.method for _, config in method_study.configs('sinusoid')}
  assert 'reptile' in methods and 'prototypical' not in methods


@pytest.mark.parametrize('datasource', ['sinusoid', 'omniglot', 'miniimagenet'])
def test_seconds_end_a_run_and_never_iterations(datasource):
  a_month, fastest_step = 30 * 24 * 3600, 0.002
  for _, config in method_study.configs(datasource):
    assert config.total_iterations > a_month / fastest_step
    training, inner_loop = config.training, config.inner_loop
    assert training.meta_lr_schedule == 'constant'   # nothing depends on that number
    assert inner_loop.multi_step_iterations == inner_loop.first_order_iterations == 0


@pytest.mark.parametrize('images, queries', [(2, 1), (5, 4), (6, 5), (12, 5)])
def test_tests_of_own_images_ask_for_as_many_as_a_class_has(images, queries, own_images):
  settings = method_study.configs('images', data_dir=own_images('few', images))
  assert {config.training.method for _, config in settings} == set(METHODS)
  assert {config.task.test_query_size for _, config in settings} == {queries}


def test_the_usual_folder_has_its_own_preset(own_images, tmp_path, monkeypatch):
  folder = own_images('images', 12)
  monkeypatch.chdir(tmp_path)
  usual, named = method_study.configs('images'), method_study.configs('images',
                                                                      data_dir=folder)
  assert [config.task.train_query_size for _, config in usual] == [
      config.task.train_query_size for _, config in named]
  assert [config.run.logdir for _, config in usual] == [
      config.run.logdir for _, config in named]


@pytest.mark.parametrize('folder, name', [
    ('data/omniglot', 'images_omniglot'), ('my flowers (2)/', 'images_my_flowers_2_'),
    ('data/images', 'images'), ('/', 'images'), ('n' * 200, 'images_' + 'n' * 50)])
def test_own_sets_are_told_apart_by_their_folders(folder, name, tmp_path):
  [(_, config)] = method_study.configs('images', data_dir=folder, logdir=str(tmp_path),
                                       entries={'maml': {}})
  assert config.problem.name_of_data(config) == name
  assert config.run.logdir == str(tmp_path / f'{name}_methods')


def test_the_result_of_another_set_of_the_same_name_is_not_replaced(own_images, tmp_path):
  settings = method_study.configs('images', data_dir=own_images('flowers'), entries=FEW)
  (tmp_path / 'studies').mkdir()
  path = tmp_path / 'studies' / 'images_flowers_methods.json'
  path.write_text(json.dumps({'name': 'methods', 'datasource': 'images_flowers', 'runs': [],
                              'data': {'train': 'of another'}}))
  with pytest.raises(ConfigError, match='is of other data than those in .*: choose another'):
    method_study.run(settings, 1.0, 'a command', str(tmp_path))


def a_run_is_there(config, seconds, given):
  """A checkpoint and a history, and a note of the seconds unless `given` is None."""
  folder = experiment_folder(config)
  CheckpointFiles(folder, 10).write(tf.train.Checkpoint(value=tf.Variable(1.0)), 100)
  with open(f'{folder}/{history.HISTORY_FILE}', 'w', encoding='utf-8') as file:
    file.write('iteration,iterations,seconds,executions,loss\n'
               f'100,100,{seconds},2,1.0\n200,100,1000,2,1.0\n')
  if given is not None:
    with open(f'{folder}/{method_study.NOTE}', 'w', encoding='utf-8') as file:
      file.write(as_json({'seconds': given}, indent=1))
  return folder


def test_tracing_does_not_count_in_a_run_that_was_stopped(tmp_path):
  """It does not in one that was not, which has its seconds behind the first execution."""
  [(_, config), *_] = small_study(tmp_path, FEW)
  folder = a_run_is_there(config, 40.0, 36.0)
  method_study._note(folder, 36.0, {'iteration': 100, 'seconds': 25.0})
  assert method_study._spent(folder) == 25.0
  # Of another checkpoint, or a file that somebody edited: the history counts.
  method_study._note(folder, 36.0, {'iteration': 90, 'seconds': 25.0})
  assert method_study._spent(folder) == 40.0
  with open(f'{folder}/{method_study.NOTE}', 'w', encoding='utf-8') as file:
    file.write('{"seconds": 36.0, "spent": [1]}')
  assert method_study._spent(folder) == 40.0


def test_what_a_time_limit_has_counted(monkeypatch):
  moments = iter([100.0, 101.5, 107.0, 113.0])
  monkeypatch.setattr(method_study.time, 'monotonic', lambda: next(moments))
  ends = []
  monkeypatch.setattr(method_study.signal, 'raise_signal', ends.append)
  limit, spent = method_study.TimeLimit(10.0), []
  for _ in range(3):
    limit(0, 1)
    spent.append((limit.spent, limit.reached))
  assert spent == [(1.5, False), (7.0, False), (13.0, True)] and len(ends) == 1


@pytest.mark.parametrize('given, message', [
    (None, 'as earlier versions left it'), (36.0, 'give --hours=0.02 or more')])
def test_runs_of_other_seconds_are_refused_before_any_is_trained(given, message, tmp_path):
  settings = small_study(tmp_path, FEW)
  a_run_is_there(settings[1][1], 40.0, given)
  with pytest.raises(ConfigError, match=message):
    method_study.run(settings, 10.0, 'a command', str(tmp_path / 'results'))


def test_seconds_are_counted_up_to_where_a_run_goes_on(tmp_path):
  [(_, config)] = small_study(tmp_path, {'maml': {}})
  assert method_study._spent(a_run_is_there(config, 40.0, 36.0)) == 40.0
  method_study._require_same_seconds([('maml', config)], 36.0)
  method_study._require_same_seconds([('maml', config)], 72.0)


def test_paired_differences_by_hand():
  found = method_study.paired(np.array([0.5, 0.75, 1.0]), np.array([0.5, 0.5, 0.5]))
  assert found['mean'] == pytest.approx(0.25)
  assert found['ci95'] == pytest.approx(1.96 * np.std([0, 0.25, 0.5]) / np.sqrt(3))


@pytest.mark.slow
def test_runs_end_after_their_seconds_and_are_compared(tmp_path):
  settings = small_study(tmp_path, FEW)
  results = str(tmp_path / 'results')
  result = method_study.run(settings, 0.5, 'a command', results)
  assert [run['label'] for run in result['runs']] == list(FEW)
  for run in result['runs']:
    assert run['iterations'] > 0 and run['seconds'] >= 0.5
    assert len(run['query']) == 3 and run['updates'] == 1
  maml, anil = result['runs']
  assert maml['fingerprint'] == anil['fingerprint']
  assert maml['paired'] == {'mean': 0.0, 'ci95': 0.0}
  assert anil['paired']['mean'] == pytest.approx(
      anil['query'][1]['mean'] - maml['query'][1]['mean'], rel=1e-5)
  with open(tmp_path / 'results' / 'studies' / 'sinusoid_methods.json',
            encoding='utf-8') as file:
    assert json.load(file) == json.loads(json.dumps(result))
  lines = study_tables.methods_table(results, 'sinusoid')
  assert len(lines) == 4 and 'less that of maml' in lines[0]
  assert plots.methods(result).startswith(b'\x89PNG')

  # A run that had its seconds is tested, and not trained again.
  again = method_study.run(settings, 0.5, 'a command', results)
  assert [run['iterations'] for run in again['runs']] == [
      run['iterations'] for run in result['runs']]


@pytest.mark.slow
def test_methods_of_own_images_are_compared(own_images, tmp_path):
  few = {'maml': {}, 'prototypical': {'method': 'prototypical'}}
  settings = method_study.configs(
      'images', data_dir=own_images('flowers'), logdir=str(tmp_path / 'logs'), entries=few,
      num_filters=4, meta_batch_size=2, num_test_tasks=6, num_validation_tasks=4, log=False)
  results = str(tmp_path / 'results')
  result = method_study.run(settings, 0.1, 'a command', results)
  assert result['datasource'] == 'images_flowers' and result['split'] == 'val'
  assert [(run['label'], run['updates']) for run in result['runs']] == [
      ('maml', 1), ('prototypical', 0)]
  assert (tmp_path / 'results' / 'studies' / 'images_flowers_methods.json').exists()
  assert len(study_tables.methods_table(results, 'images_flowers')) == 4
  with open(f'{experiment_folder(settings[0][1])}/data.json', encoding='utf-8') as file:
    assert json.load(file) == result['data']


@pytest.mark.slow
def test_a_method_that_diverges_is_recorded_and_the_others_go_on(tmp_path):
  entries = {'large steps': {'meta_lr': 1e30}, 'maml': {}}
  settings, results = small_study(tmp_path, entries), str(tmp_path / 'results')
  for _ in range(2):   # it goes on into the same step
    result = method_study.run(settings, 0.3, 'a command', results)
    [diverged] = result['diverged']
    assert diverged['label'] == 'large steps' and diverged['iteration'] == 2
    assert 'iteration 2 is not finite' in diverged['why']
    [run] = result['runs']
    assert run['label'] == 'maml' and run['paired'] == {'mean': 0.0, 'ci95': 0.0}
  *_, of_maml, last = study_tables.methods_table(results, 'sinusoid')
  assert of_maml.startswith('| maml | ')
  assert last == '| large steps | diverged at 2 |  |  |  |  |'
  assert plots.methods(result).startswith(b'\x89PNG')


@pytest.mark.parametrize('seconds', [3600 / 13, 1800 / 13, 400.0])
def test_the_same_command_may_be_repeated(seconds, tmp_path, monkeypatch):
  """The file has whole seconds, which may be more than there were: 277 of 276.9."""
  monkeypatch.setattr(method_study, '_run', lambda label, config, seconds: (
      {'label': label, 'query': []}, np.ones(3)))
  settings, results = small_study(tmp_path, FEW), str(tmp_path / 'results')
  for _ in range(2):
    assert method_study.run(settings, seconds, 'a command', results)['runs']
  with pytest.raises(ConfigError, match='make it at least as long'):
    method_study.run(settings, seconds - 1, 'a command', results)


def test_where_all_methods_diverge_there_is_no_result(tmp_path, monkeypatch):
  def diverges(label, config, seconds):
    raise NotFiniteError('The parameters w after iteration 7 are not finite (loss nan): lower',
                         iteration=7)
  monkeypatch.setattr(method_study, '_run', diverges)
  with pytest.raises(NotFiniteError, match='maml: The parameters .* anil: The parameters'):
    method_study.run(small_study(tmp_path, FEW), 1.0, 'a command', str(tmp_path / 'results'))
  assert not (tmp_path / 'results').exists()


def test_a_test_that_is_not_finite_has_diverged(tmp_path, monkeypatch):
  [(_, config)] = small_study(tmp_path, {'maml': {}})
  monkeypatch.setattr('maml_tf.experiment.build_model', lambda config: None)
  monkeypatch.setattr('maml_tf.application.test', lambda *_: SimpleNamespace(
      iteration=9, results=SimpleNamespace(query={'loss': np.array([[1.0, np.nan, 1.0]])})))
  with pytest.raises(NotFiniteError) as error:
    method_study._run('maml', config, 0.0)
  assert error.value.iteration == 9


def test_the_length_is_given_in_hours_alone(capsys):
  assert verify.main(['--study=methods', '--datasource=sinusoid', '--iterations=5']) == 2
  error = capsys.readouterr().err
  assert '--iterations=5 does not fit --study=methods' in error and '--hours=H' in error


def test_hours_are_for_this_study_and_the_plan_alone(capsys):
  assert verify.main(['--study=methods', '--hours=0']) == 2
  assert '--hours=0.0 is not allowed' in capsys.readouterr().err
  assert verify.main(['--study=ways', '--hours=1']) == 2
  assert '--hours=1.0 is for --train-all' in capsys.readouterr().err


@pytest.mark.parametrize('datasource', ['point_navigation', 'cheetah_velocity', 'gym'])
def test_a_data_source_of_few_methods_is_refused_by_its_name(datasource, capsys):
  """And not by a --method or an --env that nobody gave."""
  assert verify.main(['--study=methods', f'--datasource={datasource}']) == 2
  error = capsys.readouterr().err
  assert (f'--datasource={datasource}, which is learned by maml or context_vector: allowed '
          'are sinusoid, omniglot, miniimagenet, images.') in error


def test_an_unknown_data_source_is_refused():
  with pytest.raises(ConfigError, match='mnist'):
    method_study.configs('mnist')
