"""The learning curve on disk: its lines, and that it outlives interruptions."""

from __future__ import annotations

import os

import numpy as np
import pytest

from maml_tf import experiment
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.training import history, trainer
from maml_tf.training.checkpoints import prepare_folder
from maml_tf.training.history import HISTORY_FILE, History


def lines_of(folder):
  return history.read(os.path.join(folder, HISTORY_FILE))


def start(config, until=None):
  """Trains as `main.py` does. (model, folder)."""
  model, folder = experiment.build_model(config), prepare_folder(config)
  trainer.train(config, model, folder, until)
  return model, folder


def test_a_line_for_every_validation(small_config):
  config = small_config(metatrain_iterations=300, validation_interval=150, log=False)
  model, folder = start(config)
  lines = lines_of(folder)
  assert [line['iteration'] for line in lines] == [150, 300]
  assert [line['iterations'] for line in lines] == [150, 150]
  assert [line['executions'] for line in lines] == [3, 3]   # of 50 steps each
  assert all(line['seconds'] > 0 and line['accuracy'] is None for line in lines)
  # The last line is about the parameters that the run ended with.
  generator = experiment.evaluation_generator(config, 'val', 4)
  results = Evaluator(model, generator, 4, 1)()
  assert lines[-1]['val_support_loss'] == pytest.approx(results.support_loss.mean(), rel=1e-5)
  for update in (0, 1):
    assert lines[-1][f'val_loss_{update}'] == pytest.approx(
        results.query_losses[:, update].mean(), rel=1e-5)
  assert not any(name.startswith('val_accuracy') for name in lines[-1])


def test_a_resumed_run_has_the_lines_of_an_uninterrupted_one(small_config, tmp_path):
  """It is stopped between two validations."""
  def config(name):
    return small_config('omniglot', conv=False, metatrain_iterations=5, num_updates=2,
                        validation_interval=2, log=False, logdir=str(tmp_path / name))
  start(config('stopped'), until=3)
  _, stopped = start(config('stopped'))
  _, whole = start(config('whole'))
  expected, lines = lines_of(whole), lines_of(stopped)
  assert [line['iteration'] for line in expected] == [2, 4, 5]
  assert [line['iteration'] for line in lines] == [2, 4, 5]
  for line, other in zip(lines, expected):
    assert line.keys() == other.keys()
    for name in set(line) - {'seconds'}:
      assert line[name] == pytest.approx(other[name], rel=1e-6), name
  assert lines[1]['val_accuracy_2'] is not None and lines[1]['executions'] == 2
  assert lines[2]['val_support_loss'] is None and lines[2]['iterations'] == 1


def test_until_ends_a_run_that_can_go_on(small_config):
  config = small_config(pretrain_iterations=100, metatrain_iterations=100, log=False)
  for until, expected in ((50, 50), (150, 150), (None, 200), (120, 200)):
    model, folder = experiment.build_model(config), prepare_folder(config)
    result = trainer.train(config, model, folder, until)
    assert (result.iteration, result.interrupted_by) == (expected, None)


# Without training.

class Validated:
  """Results of a validation, without TensorFlow."""

  def __init__(self, loss):
    self.support_loss, self.support_accuracy = np.array([loss, loss]), None
    self.query_losses, self.query_accuracies = np.array([[loss, loss / 2]] * 2), None


def record(folder, iteration, steps, loss, validated=True):
  """A process that goes on at `iteration`, makes steps, and writes a line."""
  kept = History(folder, iteration)
  kept.start_clock()
  for _ in range(steps):
    kept.add(1, {'loss': loss})
  if validated:
    kept.write(iteration + steps, Validated(loss), has_accuracy=False)
  else:
    kept.close(iteration + steps, has_accuracy=False)


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


def test_a_run_that_was_stopped_before_its_first_validation(tmp_path):
  record(str(tmp_path), 0, 4, 3.0, validated=False)
  record(str(tmp_path), 4, 6, 2.0)
  [line] = lines_of(tmp_path)
  assert line['iterations'] == 10 and line['val_support_loss'] == 2.0


@pytest.mark.parametrize('damage', ['20,10', '20,x,1,1,1,,1,1,1', '20,10,1,1,1,,1,1,1,5,6,7'])
def test_a_line_that_was_not_finished_is_left_out(damage, tmp_path):
  record(str(tmp_path), 0, 10, 4.0)
  with open(tmp_path / HISTORY_FILE, 'a', encoding='utf-8') as file:
    file.write(damage)
  assert [line['iteration'] for line in lines_of(tmp_path)] == [10]
  record(str(tmp_path), 10, 10, 2.0)
  assert [line['iteration'] for line in lines_of(tmp_path)] == [10, 20]


def test_without_a_file_there_are_no_lines(tmp_path):
  assert history.read(str(tmp_path / 'none.csv')) == []
