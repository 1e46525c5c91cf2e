"""What a run says of its progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import bars, experiment
from maml_tf.config import resolve
from maml_tf.config.summary import summary
from maml_tf.measures import ACCURACY, MEAN_SQUARED_ERROR, RETURN
from maml_tf.task_results import TaskResults
from maml_tf.training import progress, trainer
from maml_tf.training.run_folder import prepare_folder


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def on_a_terminal(monkeypatch):
  """A function, since pytest sets standard error anew between set-up and test."""
  def make():
    monkeypatch.setattr(sys, 'stderr', Terminal())
    return sys.stderr
  return make


class _Validated:
  """Stands for a validation callback."""

  latest = None


def fit(config, first, count, *more):
  shown = progress.Progress(first, first + count, _Validated(), 50, config.problem.measure)
  model = experiment.build_model(config)
  model.compile('sgd', steps_per_execution=100)
  model.fit(experiment.training_generator(config).dataset(first, count), verbose=0,
            callbacks=[shown, *more], shuffle=False)
  shown.close()


# The bar: the same under both Keras.

def test_the_bar_counts_every_iteration_of_the_run(small_config, on_a_terminal):
  terminal = on_a_terminal()
  fit(small_config(), 300, 250)
  text = terminal.getvalue()
  assert '300/550' in text and '400/550' in text and 'loss ' in text
  assert 'Compiling the step' in text


def test_a_run_that_was_stopped_says_where(small_config, on_a_terminal):
  terminal = on_a_terminal()

  class Stop(tf.keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      self.model.stop_training = True
  fit(small_config(), 0, 250, Stop())
  assert '100/250' in terminal.getvalue() and '250/250' not in terminal.getvalue()


def test_what_was_never_shown_is_closed(small_config):
  progress.Progress(0, 100, _Validated(), 50, MEAN_SQUARED_ERROR).close()


# Lines.

def test_training_says_a_line_after_each_validation(small_config, capsys):
  """Without a terminal: no bar, no carriage return, no colour."""
  config = small_config(pretrain_iterations=2, metatrain_iterations=5, validation_interval=2,
                        num_updates=3, log=False, xla='off')
  trainer.train(config, experiment.build_model(config), prepare_folder(config))
  output = capsys.readouterr()
  assert output.out == ''   # Keras's own bar would be there
  assert '\r' not in output.err and '\x1b' not in output.err
  lines = output.err.splitlines()
  assert [line.split('  ')[0] for line in lines] == ['2/7', '4/7', '6/7', '7/7']
  assert 'validation: mean squared error ' in lines[0]
  assert lines[1].endswith(' after 3 updates') and ' before, ' in lines[1]
  assert 'validation' not in lines[3] and 'iterations in' in lines[3]


def test_its_means_are_those_of_the_history(small_config, capsys):
  """Each line is about the steps since the one before, not since the start."""
  from maml_tf.training import history
  config = small_config(metatrain_iterations=6, validation_interval=3, log=False, xla='off')
  folder = prepare_folder(config)
  trainer.train(config, experiment.build_model(config), folder)
  lines = [line for line in capsys.readouterr().err.splitlines() if 'validation' in line]
  recorded = history.read(f'{folder}/{history.HISTORY_FILE}')
  assert len(lines) == len(recorded) == 2
  for line, of_history in zip(lines, recorded):
    assert f'loss {of_history["loss"]:.4g}' in line
    assert f'{of_history["val_loss_1"]:.4f} after 1 update' in line


@pytest.mark.slow
def test_a_summed_cross_entropy_is_shown_as_a_mean(small_config, capsys):
  """The logged loss of 3 classes and 2 query examples each is a sum of 6."""
  from maml_tf.training import history
  config = small_config('omniglot', metatrain_iterations=1, validation_interval=1, log=False,
                        conv=False)
  folder = prepare_folder(config)
  trainer.train(config, experiment.build_model(config), folder)
  [line] = [line for line in capsys.readouterr().err.splitlines() if 'validation' in line]
  [recorded] = history.read(f'{folder}/{history.HISTORY_FILE}')
  assert f'loss {recorded["loss"] / 6:.4g}, ' in line
  assert f'accuracy {100 * recorded["accuracy"]:.2f} %' in line
  assert 'validation: accuracy ' in line and line.count(' %') == 3


def test_a_line_a_minute_says_how_long_it_will_take(capsys, monkeypatch):
  clock = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: clock[0])
  shown = progress.Progress(100, 1000, _Validated(), 10**6, ACCURACY)
  shown.set_params({'steps': 500})   # of the first phase
  shown.on_train_begin()
  for now in range(200, 700, 100):
    clock[0] += 25.0
    shown.after_iterations(now - 100, now, {'loss': now / 100, 'accuracy': 0.5})
  shown.iteration = 600
  assert capsys.readouterr().err == (
      '400/1,000  loss 3, accuracy 50.00 %  4 iterations/s, about 2 min to go\n')
  shown.close()
  assert capsys.readouterr().err == (
      '600/1,000  loss 4, accuracy 50.00 %  500 iterations in 2 min\n')


def test_one_of_a_kind_is_no_plural(capsys):
  shown = progress.Progress(0, 10, _Validated(), 10**6, ACCURACY)
  shown.on_train_begin()
  shown.iteration = 1
  shown.after_iterations(0, 1, {'loss': 2.0, 'accuracy': 0.5})
  shown.close()
  assert capsys.readouterr().err.endswith('1 iteration in 0 s\n')
  config = resolve(dict(meta_batch_size=1, metatrain_iterations=1))
  assert summary(config).endswith(', 1 task a step, 1 iteration, seed 0')
  policy = resolve(dict(datasource='point_navigation', update_batch_size=1))
  assert ': 1 rollout an update, ' in summary(policy)


def test_no_loss_beside_a_return():
  means = progress.Means(RETURN)
  means.add({'loss': 3.0, 'return': -4.0, 'return_0': 1.0})
  means.add({'loss': 3.0, 'return': -5.0, 'return_0': 1.0})
  assert means.text() == 'return -4.5'


def test_what_has_no_inner_loop_is_validated_once():
  results = TaskResults({}, {'loss': np.ones((4, 1)), 'accuracy': np.full((4, 1), 0.25)})
  assert progress.validation_text(results, ACCURACY) == 'validation: accuracy 25.00 %'


# Tests.

def test_a_test_has_a_bar_on_a_terminal_alone(on_a_terminal, monkeypatch):
  terminal = on_a_terminal()
  assert list(bars.of_a_test([1, 2, 3])) == [1, 2, 3]
  assert 'Compiling the test: ' in terminal.getvalue()
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  assert list(bars.of_a_test([1, 2, 3])) == [1, 2, 3]
  assert sys.stderr.getvalue() == ''


def test_a_process_that_does_not_write_has_no_bar(on_a_terminal):
  terminal = on_a_terminal()
  assert list(bars.of_a_test(iter([1, 2]), shown=False)) == [1, 2]
  assert terminal.getvalue() == ''
