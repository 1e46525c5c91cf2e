"""The learning curve on disk: its lines, and that it outlives interruptions."""

from __future__ import annotations

import os

import numpy as np
import pytest

from maml_tf import experiment
from maml_tf.errors import ConfigError
from maml_tf.evaluation.protocol import Evaluator, score
from maml_tf.measures import ACCURACY
from maml_tf.training import history, trainer
from maml_tf.training.history import HISTORY_FILE, History
from maml_tf.training.run_folder import prepare_folder


def lines_of(folder):
  return history.read(os.path.join(folder, HISTORY_FILE))


def start(config):
  """Trains as `main.py` does. (model, folder)."""
  model, folder = experiment.build_model(config), prepare_folder(config)
  trainer.train(config, model, folder)
  return model, folder


def test_a_line_for_every_validation(small_config):
  config = small_config(metatrain_iterations=300, validation_interval=150, log=False)
  model, folder = start(config)
  lines = lines_of(folder)
  assert [line['iteration'] for line in lines] == [150, 300]
  assert [line['iterations'] for line in lines] == [150, 150]
  assert [line['executions'] for line in lines] == [3, 3]   # of 50 steps each
  assert all(line['seconds'] > 0 and 'accuracy' not in line for line in lines)
  # The last line is about the parameters that the run ended with.
  generator = experiment.evaluation_generator(config, 'val', 4)
  results = Evaluator(model, generator, 4, 1)()
  assert lines[-1]['val_support_loss'] == pytest.approx(
      results.support['loss'].mean(), rel=1e-5)
  for update in (0, 1):
    assert lines[-1][f'val_loss_{update}'] == pytest.approx(
        results.query['loss'][:, update].mean(), rel=1e-5)
  assert not any(name.startswith('val_accuracy') for name in lines[-1])


@pytest.mark.slow
def test_a_run_that_stops_early_goes_on_with_its_lines(small_config):
  """`until` lies between two validations, and in pre-training."""
  config = small_config(pretrain_iterations=100, metatrain_iterations=50, log=False,
                        validation_interval=100)
  for until, reached, lines in ((50, 50, [50]), (None, 150, [100, 150])):
    model, folder = experiment.build_model(config), prepare_folder(config)
    result = trainer.train(config, model, folder, until)
    assert (result.iteration, result.interrupted_by) == (reached, None)
    assert [line['iteration'] for line in lines_of(folder)] == lines
  first, rest = lines_of(folder)
  assert (first['iterations'], first['executions']) == (100, 2)
  assert first['val_loss_1'] > 0 and rest['val_loss_1'] is None and rest['iterations'] == 50


# Without training.

class Validated:
  """Results of a validation, without TensorFlow."""

  def __init__(self, loss):
    self.support = {'loss': np.array([loss, loss])}
    self.query = {'loss': np.array([[loss, loss / 2]] * 2)}


def test_of_images_there_are_accuracies(tmp_path):
  kept = History(str(tmp_path), 0)
  for accuracy in (0.25, 0.75):
    kept.add(1, {'loss': 1.0, 'accuracy': accuracy})
  results = Validated(4.0)
  results.support['accuracy'] = np.array([0.1, 0.3])
  results.query['accuracy'] = np.array([[0.2, 0.4], [0.2, 0.8]])
  kept.write(2, results)
  [line] = lines_of(tmp_path)
  assert (line['accuracy'], line['val_support_accuracy']) == pytest.approx((0.5, 0.2))
  assert (line['val_accuracy_0'], line['val_accuracy_1']) == pytest.approx((0.2, 0.6))


def test_what_pre_training_does_not_log_is_a_mean_of_what_follows_it(tmp_path):
  """With both in one line the return after an update was divided by the steps of both."""
  kept = History(str(tmp_path), 0)
  for logs in ({'loss': 1.0}, {'loss': 2.0}, {'loss': 6.0, 'return_1': -4.0}):
    kept.add(1, logs)
  kept.write(3, Validated(4.0))
  [line] = lines_of(tmp_path)
  assert (line['loss'], line['return_1'], line['executions']) == (3.0, -4.0, 3)


def test_the_score_is_that_which_the_checkpoint_is_chosen_by(tmp_path):
  values = np.random.default_rng(0).random((600, 6)).astype(np.float32)
  assert any(values.mean(axis=0) != [values[:, update].mean() for update in range(6)])
  kept, results = History(str(tmp_path), 0), Validated(4.0)
  results.query = {'accuracy': values}
  kept.write(1, results)
  [line] = lines_of(tmp_path)
  assert line['val_accuracy_5'] == score(results, ACCURACY)


def record(folder, iteration, steps, loss, validated=True):
  """A process that goes on at `iteration`, makes steps, and writes a line."""
  kept = History(folder, iteration)
  kept.start_clock()
  for _ in range(steps):
    kept.add(1, {'loss': loss})
  if validated:
    kept.write(iteration + steps, Validated(loss))
  else:
    kept.close(iteration + steps)


def test_lines_after_the_checkpoint_that_is_gone_on_with_are_taken_out(tmp_path):
  for iteration, loss in ((0, 4.0), (10, 3.0), (20, 2.0)):
    record(str(tmp_path), iteration, 10, loss)
  record(str(tmp_path), 10, 10, 7.0)   # after a crash: the newest checkpoint is of 10
  lines = lines_of(tmp_path)
  assert [(line['iteration'], line['loss']) for line in lines] == [(10, 4.0), (20, 7.0)]
  assert [line['val_loss_1'] for line in lines] == [2.0, 3.5]


def test_the_rest_of_a_stopped_run_goes_into_the_next_line(tmp_path):
  record(str(tmp_path), 0, 10, 4.0)
  record(str(tmp_path), 10, 4, 3.0, validated=False)
  assert [line['val_loss_1'] for line in lines_of(tmp_path)] == [2.0, None]
  record(str(tmp_path), 14, 6, 2.0)
  lines = lines_of(tmp_path)
  assert [(line['iteration'], line['iterations']) for line in lines] == [(10, 10), (20, 10)]
  assert lines[1]['loss'] == pytest.approx((4 * 3.0 + 6 * 2.0) / 10)


def test_the_rest_outlives_a_start_that_is_killed_before_its_next_line(tmp_path):
  record(str(tmp_path), 0, 4, 3.0, validated=False)
  History(str(tmp_path), 4).add(2, {'loss': 9.0})
  [rest] = lines_of(tmp_path)
  assert (rest['iteration'], rest['iterations'], rest['loss']) == (4, 4, 3.0)
  assert History(str(tmp_path), 4).lacks_validation(4)
  record(str(tmp_path), 4, 6, 2.0)
  [line] = lines_of(tmp_path)
  assert (line['iteration'], line['iterations']) == (10, 10)


def test_a_run_that_was_stopped_before_its_first_validation(tmp_path):
  record(str(tmp_path), 0, 4, 3.0, validated=False)
  record(str(tmp_path), 4, 6, 2.0)
  [line] = lines_of(tmp_path)
  assert line['iterations'] == 10 and line['val_support_loss'] == 2.0


@pytest.mark.parametrize('damage', ['20,10', '20,x,1,1,1,,1,1,1', '20,10,1,1,1,,1,1,1,5,6,7',
                                    '20,10,0.5,10,2.5,2.5,2.5,1.'])
def test_a_line_that_was_not_finished_is_left_out(damage, tmp_path):
  record(str(tmp_path), 0, 10, 4.0)
  with open(tmp_path / HISTORY_FILE, 'a', encoding='utf-8') as file:
    file.write(damage)
  assert [line['iteration'] for line in lines_of(tmp_path)] == [10]
  record(str(tmp_path), 10, 10, 2.0)
  assert [line['iteration'] for line in lines_of(tmp_path)] == [10, 20]


@pytest.mark.parametrize('before, after, left, said', [
    ('\n20,', '\nx20,', [10, 30], 'has 1 line that cannot be read'),   # in the middle
    ('iteration,', '\ufeffiteration,', [10, 20, 30], ''),   # as some programs save tables
    (',', ';', [], 'has 3 lines that cannot be read')])     # as these do in other countries
def test_damaged_lines_are_left_out_alone_and_the_file_is_kept(
    before, after, left, said, tmp_path, capsys):
  for iteration in (0, 10, 20):
    record(str(tmp_path), iteration, 10, 4.0)
  path = tmp_path / HISTORY_FILE
  text = path.read_text(encoding='utf-8').replace(before, after)
  path.write_text(text, encoding='utf-8')
  assert [line['iteration'] for line in lines_of(tmp_path)] == left
  record(str(tmp_path), 30, 10, 2.0)
  assert [line['iteration'] for line in lines_of(tmp_path)] == [*left, 40]
  kept, err = tmp_path / f'{HISTORY_FILE}.damaged', capsys.readouterr().err
  assert said in err and bool(err) == kept.exists() == bool(said)
  assert not said or kept.read_text(encoding='utf-8') == text


def test_further_updates_get_columns_of_their_own(tmp_path):
  """Where a run goes on with more of them in its validations."""
  record(str(tmp_path), 0, 10, 4.0)
  kept, results = History(str(tmp_path), 10), Validated(2.0)
  query = np.array([[1.0, 0.5, 0.25], [3.0, 1.5, 0.75]])
  for iteration, updates in ((20, 2), (30, 1)):
    kept.add(10, {'loss': 2.0})
    results.query = {'loss': query[:, :updates + 1]}
    kept.write(iteration, results)
  lines = lines_of(tmp_path)
  assert [line['iteration'] for line in lines] == [10, 20, 30]
  assert [line['val_loss_2'] for line in lines] == [None, 0.5, None]
  assert [line['val_loss_1'] for line in lines] == [2.0, 1.0, 1.0]


@pytest.mark.parametrize('name', ['iteration', 'iterations', 'seconds', 'executions'])
def test_a_measure_is_not_called_as_a_column_of_its_own(name, tmp_path):
  """It would stand in that column, by which a run goes on."""
  with pytest.raises(ConfigError, match=f'must not be called {name},'):
    History(str(tmp_path), 0).add(1, {'loss': 1.0, name: 1.0})


def test_without_a_file_there_are_no_lines(tmp_path):
  assert history.read(str(tmp_path / 'none.csv')) == []


def test_a_mean_is_one_over_executions_whatever_steps_each_has(tmp_path):
  """An execution of several steps logs its last one: a line has their mean, not a part."""
  log = History(str(tmp_path), 0)
  for loss in (2.0, 4.0):
    log.add(10, {'loss': loss})
  log.write(20, None)
  [line] = history.read(str(tmp_path / HISTORY_FILE))
  assert (line['iterations'], line['executions'], line['loss']) == (20, 2, 3.0)
