"""The outer loop: resumed runs equal uninterrupted ones, and runs that fail say where."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from stopping import checkpoint_values

from maml_tf import experiment
from maml_tf.config import ADDONS_OPTIMIZERS, KERAS_OPTIMIZERS, ConfigError
from maml_tf.evaluation import protocol
from maml_tf.files import WriteError
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError
from maml_tf.training import callbacks, history, optimizers, phases, scoring, trainer
from maml_tf.training.callbacks import NotFiniteError
from maml_tf.training.checkpoint_files import iteration_of
from maml_tf.training.checkpoint_for_test import restore_for_test
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.optional_addons import tensorflow_addons
from maml_tf.training.run_folder import prepare_folder
from maml_tf.verification import runs

needs_addons = pytest.mark.skipif(tensorflow_addons() is None,
                                  reason='TensorFlow Addons needs Keras 2')


def start(config):
  """Trains as `main.py` does. (result, model, folder)."""
  model = experiment.build_model(config)
  folder = prepare_folder(config)
  return trainer.train(config, model, folder), model, folder


def assert_same_checkpoints(one, other):
  values, others = checkpoint_values(one), checkpoint_values(other)
  assert values.keys() == others.keys()
  for name, value in values.items():
    np.testing.assert_array_equal(value, others[name], err_msg=name)


def interrupt(monkeypatch, iteration, action):
  """Calls `action` when `iteration` is complete, once."""
  original = callbacks.StopOnSignal.after_iterations
  fired = []

  def after_iterations(self, before, now, logs):
    if before < iteration <= now and not fired:
      fired.append(now)
      action()
    original(self, before, now, logs)
  monkeypatch.setattr(callbacks.StopOnSignal, 'after_iterations', after_iterations)


def small_intervals(monkeypatch, interval):
  monkeypatch.setattr(callbacks, 'SUMMARY_INTERVAL', interval)
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', interval)


class Crash(Exception):
  """Like a power cut: nothing is saved."""


def crash():
  raise Crash


RUNS = {
    # 130 and 310 are not multiples of the 50 steps of an execution.
    'sinusoid': dict(pretrain_iterations=130, metatrain_iterations=180,
                     validation_interval=50),
    # As mini-ImageNet's: max-pooling, and one task at a time.
    'omniglot': dict(metatrain_iterations=7, validation_interval=2, max_pool=True,
                     tasks_at_once=1),
}
# Sinusoid: in the pre-training phase and in the meta-training phase.
INTERRUPTIONS = {'sinusoid': (50, 200), 'omniglot': (3,)}


@pytest.mark.parametrize('datasource', [
    'sinusoid', pytest.param('omniglot', marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_the_uninterrupted_one(
    datasource, small_config, tmp_path, monkeypatch, read_events):
  if datasource != 'sinusoid':
    small_intervals(monkeypatch, 2)
  whole = small_config(datasource, logdir=str(tmp_path / 'whole'), **RUNS[datasource])
  expected, _, expected_folder = start(whole)

  config = small_config(datasource, **RUNS[datasource])
  for iteration, number in zip(INTERRUPTIONS[datasource], (signal.SIGTERM, signal.SIGINT)):
    with monkeypatch.context() as patch:
      interrupt(patch, iteration, lambda number=number: signal.raise_signal(number))
      stopped, _, folder = start(config)
    assert stopped.iteration == iteration
    assert stopped.interrupted_by == signal.Signals(number).name
    assert stopped.checkpoint == os.path.join(folder, f'model-{iteration}')
  result, _, _ = start(config)

  assert (result.iteration, result.interrupted_by) == (config.total_iterations, None)
  assert expected.iteration == config.total_iterations
  assert_same_checkpoints(result.checkpoint, expected.checkpoint)
  best, expected_best = (tf.train.latest_checkpoint(os.path.join(path, 'best'))
                         for path in (folder, expected_folder))
  assert os.path.basename(best) == os.path.basename(expected_best)
  assert_same_checkpoints(best, expected_best)
  events, expected_events = read_events(folder), read_events(expected_folder)
  assert events.keys() == expected_events.keys()
  for tag, values in expected_events.items():
    np.testing.assert_equal(events[tag], values, err_msg=tag)   # none twice, none missing


@pytest.mark.slow
def test_the_checkpoint_holds_parameters_both_optimizers_and_the_best_score(small_config):
  config = small_config(pretrain_iterations=100, metatrain_iterations=200,
                        validation_interval=100)
  result, model, _ = start(config)
  values = checkpoint_values(result.checkpoint)
  parameters = sum(array.size for array in model.meta_parameters.arrays().values())
  for name in ('pretrain_optimizer', 'meta_optimizer'):
    floats = [value for key, value in values.items()
              if key.startswith(name) and value.ndim > 0]
    # Adam's two moments.
    assert sum(value.size for value in floats) == 2 * parameters
    assert all(np.abs(value).max() > 0 for value in floats)
  steps = {key.split('/')[0]: int(value) for key, value in values.items()
           if 'optimizer/' in key and value.dtype == np.int64}
  assert steps == {'pretrain_optimizer': 100, 'meta_optimizer': 200}
  scores = [value for key, value in values.items() if key.startswith('best_score')]
  assert len(scores) == 1 and -np.inf < scores[0] < 0


def test_a_run_without_pre_training_saves_one_optimizer(small_config):
  config = small_config(metatrain_iterations=20)
  result, model, _ = start(config)
  values = checkpoint_values(result.checkpoint)
  parameters = sum(array.size for array in model.meta_parameters.arrays().values())
  floats = sum(value.size for value in map(np.asarray, values.values())
               if value.dtype == np.float32)
  assert 3 * parameters <= floats < 3 * parameters + 5   # and step sizes of the optimizer
  assert {key.partition('/')[0] for key in values} == {
      'parameters', 'meta_optimizer', 'best_score', 'best_tasks'}


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_gone_on_with(small_config, tmp_path):
  """Its checkpoints have the optimizer of a pre-training, too, and no fingerprint."""
  values = dict(validation_interval=100, log=False)
  whole, _, _ = start(small_config(metatrain_iterations=300, logdir=str(tmp_path / 'whole'),
                                   **values))
  half, model, folder = start(small_config(metatrain_iterations=200, **values))
  config = small_config(metatrain_iterations=300, **values)
  pretraining = phases.compile_model(config, experiment.build_pretraining(config, model))
  reader = tf.train.load_checkpoint(half.checkpoint)
  best = tf.Variable(reader.get_tensor('best_score/.ATTRIBUTES/VARIABLE_VALUE'))
  earlier = tf.train.Checkpoint(
      best_score=best, parameters=model.meta_parameters, meta_optimizer=model.optimizer,
      pretrain_optimizer=pretraining.optimizer)
  earlier.save_counter.assign(0)
  earlier.write(half.checkpoint)
  result, _, _ = start(config)
  assert_same_checkpoints(result.checkpoint, whole.checkpoint)


@pytest.mark.parametrize('changed', [
    dict(num_validation_tasks=6), dict(test_query_size=3), dict(test_num_updates=4),
    dict(test_inner_batch_size=2)])
def test_what_a_score_depends_on_tells_it_from_others(changed, small_config):
  given = dict(method='reptile', test_num_updates=5)   # whose validation is like its test
  configs = [small_config(**given), small_config(**given),
             small_config(**{**given, **changed})]
  tasks = [scoring.validation_tasks(config, experiment.build_model(config))[1]()
           for config in configs]
  assert tasks[0] == tasks[1] != tasks[2]
  assert list(map(runs.validated_on, configs)) == tasks   # of `verify`'s runs, too


@pytest.mark.slow
def test_a_best_score_of_other_validation_tasks_is_measured_again(
    small_config, tmp_path, capsys):
  values = dict(validation_interval=50, log=False)
  _, _, folder = start(small_config(metatrain_iterations=100, **values))
  best = os.path.join(folder, 'best')
  shutil.copytree(best, tmp_path / 'best')
  capsys.readouterr()
  config = small_config(metatrain_iterations=150, num_validation_tasks=6, **values)
  result, model, _ = start(config)
  assert 'is scored again: its score is of other validation' in capsys.readouterr().out
  assert int(model.optimizer.iterations.numpy()) == 150
  evaluator, _ = scoring.validation_tasks(config, model)
  earlier, last = (scoring.score_of(model, evaluator, path) for path in (
      tf.train.latest_checkpoint(str(tmp_path / 'best')), result.checkpoint))
  scores = [tf.train.load_checkpoint(path).get_tensor('best_score/.ATTRIBUTES/VARIABLE_VALUE')
            for path in (result.checkpoint, str(tmp_path / 'best'))]
  assert scores[0] == max(earlier, last) and scores[1] != earlier
  assert (iteration_of(tf.train.latest_checkpoint(best)) == 150) == (last > earlier)


@pytest.mark.slow
@pytest.mark.parametrize('given', [
    dict(), dict(method='reptile', inner_optimizer='adam')])   # which keeps moments, too
def test_scoring_a_checkpoint_leaves_the_state(given, small_config):
  config = small_config(metatrain_iterations=20, log=False, **given)
  result, trained, _ = start(config)
  model = experiment.build_model(config)
  before = model.state()
  evaluator, _ = scoring.validation_tasks(config, model)
  measure = evaluator.measure
  trained_score = scoring.score(scoring.validation_tasks(config, trained)[0](), measure)
  assert scoring.score_of(model, evaluator, result.checkpoint) == trained_score
  np.testing.assert_equal(model.state(), before)
  assert scoring.score(evaluator(), measure) != trained_score


@pytest.mark.slow
def test_a_run_that_is_prolonged_and_crashes_equals_one_that_was_long_from_the_start(
    small_config, tmp_path, monkeypatch, read_events):
  """Without a signal nothing is saved: it goes on from the last checkpoint."""
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', 100)
  values = dict(validation_interval=50)
  expected, _, expected_folder = start(small_config(
      metatrain_iterations=320, logdir=str(tmp_path / 'whole'), **values))
  start(small_config(metatrain_iterations=130, **values))   # ends within an execution
  config = small_config(metatrain_iterations=320, **values)
  with monkeypatch.context() as patch:
    interrupt(patch, 250, crash)
    with pytest.raises(Crash):
      start(config)
  result, _, folder = start(config)
  assert_same_checkpoints(result.checkpoint, expected.checkpoint)
  assert_same_checkpoints(os.path.join(folder, 'model-300'),
                          os.path.join(expected_folder, 'model-300'))
  events, expected_events = read_events(folder), read_events(expected_folder)
  assert events.keys() == expected_events.keys()
  for tag, values in expected_events.items():
    # What was written between the last checkpoint and the crash is there once.
    np.testing.assert_equal(events[tag], values, err_msg=tag)


@pytest.mark.slow
@pytest.mark.parametrize('iterations', [300, 200])   # at its end, too
def test_a_validation_that_a_signal_ends_is_done_when_the_run_goes_on(
    iterations, small_config, tmp_path, monkeypatch, read_events):
  """It is left before its next batch: batch systems give seconds."""
  values = dict(metatrain_iterations=iterations, validation_interval=100,
                num_validation_tasks=12)
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', 100)
  monkeypatch.setattr(type(small_config().baseline), 'most_tasks_evaluated_at_once',
                      lambda *_: 4)
  expected, _, expected_folder = start(small_config(logdir=str(tmp_path / 'whole'), **values))
  config, original, seen = small_config(**values), protocol.Evaluator.__call__, []

  def call(self, progress=None):
    """Of three batches, in the second validation; twice, since a run may be stopped there
    again."""
    def counted(batches):
      for batch in progress(batches):
        seen.append(batch)
        if len(seen) in (4, 5):
          signal.raise_signal(signal.SIGTERM)
        yield batch
    return original(self, counted)
  monkeypatch.setattr(protocol.Evaluator, '__call__', call)
  for stop in (4, 5):
    result, _, folder = start(config)
    assert (result.iteration, result.interrupted_by) == (200, 'SIGTERM')
    assert len(seen) == stop
  result, _, _ = start(config)
  assert (result.iteration, result.interrupted_by) == (iterations, None)
  assert_same_checkpoints(result.checkpoint, expected.checkpoint)
  assert_same_checkpoints(*(os.path.join(one, 'model-200')
                            for one in (folder, expected_folder)))
  bests = [tf.train.latest_checkpoint(os.path.join(one, 'best'))
           for one in (folder, expected_folder)]
  assert_same_checkpoints(*bests)
  lines = [[{**line, 'seconds': 0} for line in history.read(os.path.join(one, 'history.csv'))]
           for one in (folder, expected_folder)]
  assert lines[0] == lines[1] and len(lines[0]) == iterations // 100
  events, expected_events = read_events(folder), read_events(expected_folder)
  for tag, written in expected_events.items():
    np.testing.assert_equal(events[tag], written, err_msg=tag)


def test_a_complete_run_is_not_trained_again(small_config):
  config = small_config(metatrain_iterations=100)
  first, trained, _ = start(config)
  before = checkpoint_values(first.checkpoint)
  again, model, _ = start(config)
  assert again == first
  np.testing.assert_equal(checkpoint_values(again.checkpoint), before)
  np.testing.assert_equal(model.meta_parameters.arrays(), trained.meta_parameters.arrays())


def test_fewer_iterations_than_were_done_are_refused(small_config):
  start(small_config(metatrain_iterations=200))
  with pytest.raises(ConfigError, match=r'metatrain_iterations=100 is below .* \(200 iter'):
    start(small_config(metatrain_iterations=100))


def test_without_iterations_the_untrained_net_is_kept(small_config):
  result, model, folder = start(small_config(metatrain_iterations=0))
  assert (result.iteration, result.checkpoint) == (0, os.path.join(folder, 'model-0'))
  initial = model.learner.initial_values(0)
  np.testing.assert_equal(model.meta_parameters.arrays(), initial)


@pytest.mark.parametrize('interval, steps', [(2500, 100), (50, 50), (150, 50), (30, 10),
                                             (7, 1)])
def test_executions_end_where_a_validation_is_due(small_config, interval, steps):
  config = small_config(validation_interval=interval)
  assert phases.steps_per_execution(config) == steps


def test_image_nets_execute_one_step_at_a_time(small_config):
  assert phases.steps_per_execution(small_config('omniglot')) == 1


def test_validation_and_checkpoints_come_at_their_intervals(
    small_config, monkeypatch, read_events):
  """Also where they do not divide the steps that are executed together."""
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', 60)
  config = small_config(metatrain_iterations=130, validation_interval=40)
  _, _, folder = start(config)
  saved = {os.path.basename(path) for path in glob.glob(f'{folder}/model-*.index')}
  assert saved == {'model-60.index', 'model-120.index', 'model-130.index'}
  steps = [step for step, _ in read_events(folder)['metaval_Post-update_loss__step_1']]
  assert steps == [40, 80, 120]


@pytest.mark.slow
def test_without_log_no_events_are_written(small_config):
  _, _, folder = start(small_config('omniglot', metatrain_iterations=1, log=False))
  assert sorted(os.listdir(folder)) == ['checkpoint', 'config.json', 'data.json',
                                        'history.csv', 'model-1.data-00000-of-00001',
                                        'model-1.index']


@pytest.mark.slow
def test_training_does_not_read_the_test_split(small_config, tmp_path, sample_data):
  """Not to select a checkpoint either, as a reimplementation does."""
  data = tmp_path / 'data'
  data.mkdir()
  for name in ('manifest.json', 'train.npy', 'val.npy'):
    (data / name).symlink_to(os.path.join(sample_data('omniglot'), name))
  config = small_config('omniglot', data_dir=str(data), metatrain_iterations=2,
                        validation_interval=1, conv=False)
  result, _, folder = start(config)
  assert result.iteration == 2
  assert tf.train.latest_checkpoint(os.path.join(folder, 'best')) is not None


# A full disk.

@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_a_second_start_loses_nothing(
    small_config, tmp_path, monkeypatch, disk_limit, read_events):
  small_intervals(monkeypatch, 50)
  values = dict(metatrain_iterations=200, validation_interval=100)
  expected, _, expected_folder = start(small_config(logdir=str(tmp_path / 'whole'), **values))
  config = small_config(**values)
  with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
    # Checkpoints have 25 kB, the events of 50 iterations some hundred bytes.
    interrupt(patch, 100, lambda: stack.enter_context(disk_limit(1000)))
    with pytest.raises(WriteError, match='cannot be written.*Free some space'):
      start(config)
  folder = prepare_folder(config)
  assert tf.train.latest_checkpoint(folder) == os.path.join(folder, 'model-100')
  result, _, _ = start(config)
  assert_same_checkpoints(result.checkpoint, expected.checkpoint)
  events = read_events(folder)
  for tag, written in read_events(expected_folder).items():
    np.testing.assert_equal(events[tag], written, err_msg=tag)
  assert not [path for path in glob.glob(f'{folder}/**', recursive=True)
              if path.endswith(('.tmp', 'unfinished', '_temp'))]


# Losses that are not finite.

class Poisoned:
  """Training episodes, of which one meta-batch is not a number."""

  def __init__(self, generator, iteration):
    self._generator = generator
    self._poisoned = iteration - 1
    self.batch = generator.batch

  def dataset(self, first, count):
    def poison(index, episodes):
      factor = tf.where(index == self._poisoned, np.nan, 1.0)
      return episodes.replaced(
          support_inputs=episodes.support.inputs * tf.cast(factor, tf.float32))
    return self._generator.dataset(first, count).enumerate(first).map(
        poison)


def poison(monkeypatch, iteration):
  original = experiment.training_generator
  monkeypatch.setattr(experiment, 'training_generator',
                      lambda config: Poisoned(original(config), iteration))


@pytest.mark.parametrize('iteration', [130, pytest.param(251, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_iteration(
    iteration, small_config, monkeypatch):
  """130 is the last iteration of the first phase; 100 steps are executed together."""
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', 100)
  config = small_config(pretrain_iterations=130, metatrain_iterations=170)
  poison(monkeypatch, iteration)
  with pytest.raises(NotFiniteError, match=rf'iteration {iteration} is not finite \(loss nan'):
    start(config)


@pytest.mark.slow
def test_the_iteration_is_right_in_a_resumed_run(small_config, monkeypatch):
  """Although the optimizer has counted steps before the resume."""
  config = small_config(pretrain_iterations=100, metatrain_iterations=200)
  with monkeypatch.context() as patch:
    interrupt(patch, 200, lambda: signal.raise_signal(signal.SIGTERM))
    start(config)
  poison(monkeypatch, 251)
  with pytest.raises(NotFiniteError, match='iteration 251 is not'):
    start(config)


@pytest.mark.parametrize('datasource, iteration, last_good',
                         [
                             ('sinusoid', 251, 200),
                             pytest.param('omniglot', 4, 2, marks=pytest.mark.slow)])
def test_the_last_good_checkpoint_remains(datasource, iteration, last_good, small_config,
                                          tmp_path, monkeypatch):
  small_intervals(monkeypatch, 100 if datasource == 'sinusoid' else 2)
  values = dict(metatrain_iterations=iteration + 20, log=False)
  if datasource == 'omniglot':
    values['conv'] = False
  expected, _, _ = start(small_config(datasource, logdir=str(tmp_path / 'good'),
                                      **{**values, 'metatrain_iterations': last_good}))
  config = small_config(datasource, **values)
  poison(monkeypatch, iteration)
  with pytest.raises(NotFiniteError, match=f'iteration {iteration} is not finite'):
    start(config)
  model = experiment.build_model(config)
  folder = prepare_folder(config)
  assert tf.train.latest_checkpoint(folder) == os.path.join(folder, f'model-{last_good}')
  assert_same_checkpoints(os.path.join(folder, f'model-{last_good}'), expected.checkpoint)
  restore_for_test(folder, config, parameters=model.meta_parameters)
  assert all(np.isfinite(array).all() for array in model.meta_parameters.arrays().values())


def test_the_step_that_is_not_finite_changes_nothing(small_config, monkeypatch):
  """Neither it nor those after it in the same execution."""
  config = small_config(metatrain_iterations=100, log=False)
  model, good = experiment.build_model(config), experiment.build_model(config)
  poison(monkeypatch, 41)
  with pytest.raises(NotFiniteError):
    trainer.train(config, model, prepare_folder(config))
  monkeypatch.undo()
  config = small_config(metatrain_iterations=40, log=False, resume=False)
  trainer.train(config, good, prepare_folder(config))
  np.testing.assert_equal(model.meta_parameters.arrays(), good.meta_parameters.arrays())


@pytest.mark.parametrize('given', [dict(meta_lr=1e30), dict(update_lr=1e25)])
def test_step_sizes_that_are_too_large_end_the_run(given, small_config):
  with pytest.raises(NotFiniteError, match='lower --meta_lr or --update_lr'):
    start(small_config(metatrain_iterations=100, **given))


@pytest.mark.parametrize('largest', [float('inf'), float('nan'), -7e30])
def test_the_message_names_the_largest_parameter(largest, small_config):
  model = experiment.build_model(small_config())
  arrays = model.meta_parameters.arrays()
  name = sorted(arrays)[2]
  arrays[name] = np.full_like(arrays[name], 2.0)
  arrays[name].flat[0] = largest
  model.meta_parameters.assign(arrays)
  model.latest_loss.assign(0.5)
  model.diverged.assign(True)
  model.compile('sgd')
  stop = callbacks.StopWhenNotFinite(0)
  stop.set_model(model)
  stop.on_train_begin()
  expected = rf'\(loss 0.5; the largest parameter is {abs(largest):.3g} in {name}\)'
  expected = expected.replace('+', r'\+')
  with pytest.raises(NotFiniteError, match=f'iteration 1 is not finite {expected}'):
    stop.after_iterations(0, 1, {})
  if not np.isfinite(largest):
    with pytest.raises(NotFiniteError, match=f'iteration 9 are not finite {expected}'):
      callbacks.require_finite(model, 9)


def test_parameters_that_overflowed_are_not_kept(small_config):
  """The loss before the update was finite: no later step would tell."""
  config = small_config(metatrain_iterations=1, meta_optimizer='sgd', meta_lr=1e39)
  with pytest.raises(NotFiniteError, match='after iteration 1 are not finite'):
    start(config)
  assert glob.glob(f'{prepare_folder(config)}/model-*') == []


# Optimizers.

@pytest.mark.parametrize('name', [
    *KERAS_OPTIMIZERS,
    *(pytest.param(name, marks=needs_addons) for name in ADDONS_OPTIMIZERS)])
def test_every_optimizer_goes_on_where_it_stopped(name, tmp_path):
  """The model gives it its state when it is compiled: a checkpoint finds all of it."""
  def parts():
    model = MAML(FullyConnected(1, (3,), 1, norm='None'), MeanSquaredError(),
                 step_size=0.1, num_updates=1)
    model.compile(optimizers.build_optimizer(name, 0.01))
    return model, Checkpoints(str(tmp_path), parameters=model.meta_parameters,
                              optimizer=model.optimizer)

  def step(model, seed):
    random = np.random.RandomState(seed)
    model.optimizer.apply_gradients([
        (tf.constant(random.normal(size=variable.shape), tf.float32), variable)
        for variable in model.trainable_variables])

  model, saved = parts()
  for seed in range(3):
    step(model, seed)
  saved.save(3)
  step(model, 3)
  resumed, saved = parts()
  assert saved.restore_latest() == 3
  step(resumed, 3)
  np.testing.assert_equal(resumed.meta_parameters.arrays(), model.meta_parameters.arrays())
  assert int(resumed.optimizer.iterations.numpy()) == 4
