"""What happens around the meta-steps: counting, summaries, validation, the bar."""

from __future__ import annotations

import io
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maml_tf import experiment
from maml_tf.measures import MEAN_SQUARED_ERROR
from maml_tf.task_results import named_means
from maml_tf.training import callbacks, history, optional_addons, summaries, trainer
from maml_tf.training.run_folder import prepare_folder


@given(st.integers(1, 50), st.integers(0, 200), st.integers(0, 200))
def test_passed_is_true_where_a_multiple_was_reached(interval, before, more):
  expected = any(step % interval == 0 for step in range(before + 1, before + more + 1))
  assert callbacks.passed(interval, before, before + more) == expected


class Recorder(callbacks.IterationCallback):

  def __init__(self, first_iteration):
    super().__init__(first_iteration)
    self.calls = []

  def after_iterations(self, before, now, logs):
    self.calls.append((before, now))
    assert np.isfinite(float(logs['loss']))


@pytest.mark.parametrize('steps, count, first, expected', [
    (100, 250, 0, [(0, 100), (100, 200), (200, 250)]),
    (100, 200, 300, [(300, 400), (400, 500)]),
    (100, 30, 70, [(70, 100)]),
    (1, 2, 5, [(5, 6), (6, 7)])])
def test_iterations_are_counted_over_executions_of_several_steps(
    steps, count, first, expected, small_config):
  """Keras 3 gives the last, smaller execution the number of a full one."""
  config = small_config()
  model = experiment.build_model(config)
  model.compile('sgd', steps_per_execution=steps)
  recorder = Recorder(first)
  model.fit(experiment.training_generator(config).dataset(first, count),
            callbacks=[recorder], verbose=0, shuffle=False)
  assert recorder.calls == expected
  assert recorder.iteration == first + count
  assert int(model.optimizer.iterations.numpy()) == count


def test_a_signal_before_the_first_step_stops_after_it(small_config, monkeypatch):
  """It arrives while the graph is still being made."""
  original = callbacks.IterationCallback.on_train_begin

  def on_train_begin(self, logs=None):
    original(self, logs)
    if isinstance(self, callbacks.SaveCheckpoints):
      signal.raise_signal(signal.SIGTERM)
  monkeypatch.setattr(callbacks.SaveCheckpoints, 'on_train_begin', on_train_begin)
  config = small_config(metatrain_iterations=300, log=False)
  result = trainer.train(config, experiment.build_model(config), prepare_folder(config))
  assert (result.iteration, result.interrupted_by) == (100, 'SIGTERM')


@pytest.mark.slow
def test_a_signal_at_the_end_of_pre_training_is_not_lost(small_config, monkeypatch):
  original = trainer.experiment.training_generator
  config = small_config('sinusoid', pretrain_iterations=100, metatrain_iterations=100,
                        log=False)

  class Generator:
    """The second phase asks for its data after the first one has ended."""

    def __init__(self, generator):
      self._generator = generator
      self.batch = generator.batch

    def dataset(self, first, count):
      if first == 100:
        signal.raise_signal(signal.SIGTERM)
      return self._generator.dataset(first, count)
  monkeypatch.setattr(trainer.experiment, 'training_generator',
                      lambda config: Generator(original(config)))
  result = trainer.train(config, experiment.build_model(config), prepare_folder(config))
  assert result.interrupted_by == 'SIGTERM'
  assert result.iteration == 200   # one execution of 100 steps was begun


# Summaries.

KINDS = {'sinusoid': ['loss'], 'omniglot': ['loss', 'accuracy']}


def legacy_names(kinds, updates):
  """As the TF1 code writes them."""
  names = [f'Pre-update {kind}' for kind in kinds]
  return names + [f'Post-update {kind}, step {step}' for kind in kinds
                  for step in range(1, updates + 1)]


def legacy_tags(prefix, kinds, updates):
  """What TensorFlow 1 makes of those names."""
  tags = set()
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    for name in legacy_names(kinds, updates):
      summary = tf.compat.v1.summary.scalar(prefix + name, tf.constant(1.0))
      message = tf.compat.v1.Summary.FromString(session.run(summary))
      tags.add(message.value[0].tag)
  return tags


@pytest.mark.parametrize('datasource', [
    pytest.param(kind, marks=[] if kind == 'sinusoid' else [pytest.mark.slow])
    for kind in KINDS])
def test_the_events_are_those_of_the_tf1_code(datasource, small_config, read_events,
                                              monkeypatch):
  """And for images there is a picture of sample tasks."""
  monkeypatch.setattr(callbacks, 'SUMMARY_INTERVAL', 2)
  config = small_config(datasource, num_updates=2, metatrain_iterations=5,
                        validation_interval=4, conv=False)
  model, folder = experiment.build_model(config), prepare_folder(config)
  trainer.train(config, model, folder)
  events = read_events(folder, text=True)
  for prefix, steps in (('metatrain_', [0, 2, 4]), ('metaval_', [4])):
    tags = legacy_tags(prefix, KINDS[datasource], updates=2)
    assert f'{prefix}Post-update_loss__step_1' in tags
    tags |= {f'{prefix}Query_{kind}_before_update' for kind in KINDS[datasource]}
    assert {tag for tag in events if tag.startswith(prefix)} == tags
    for tag in tags:
      assert [step for step, _ in events[tag]] == steps, tag
      assert all(np.isfinite(value) for _, value in events[tag])
  once = {tag for tag in events if not tag.startswith(('meta', 'train', 'validation'))}
  assert once == {'configuration'} | ({'sample_tasks'} if datasource == 'omniglot' else set())
  [(step, text)] = events['configuration']
  assert step == 0 and text.item().decode().startswith(f'{datasource}, maml: ')
  if 'sample_tasks' in events:
    check_sample_tasks(events['sample_tasks'], folder)


def test_the_same_numbers_are_there_grouped_with_validation_in_the_chart_of_training(
    small_config, read_events, monkeypatch):
  """Equal tags in two folders; TensorBoard groups by what is before the slash."""
  monkeypatch.setattr(callbacks, 'SUMMARY_INTERVAL', 2)
  config = small_config(num_updates=2, metatrain_iterations=4, validation_interval=4)
  model, folder = experiment.build_model(config), prepare_folder(config)
  trainer.train(config, model, folder)
  events = read_events(folder)
  for part, prefix in (('train', 'metatrain_'), ('validation', 'metaval_')):
    grouped = {tag: written for tag, written in events.items() if tag.startswith(part)}
    assert set(grouped) == {f'{part}: loss/{name}' for name in (
        'support_before', 'after_0', 'after_1', 'after_2')}
    assert grouped[f'{part}: loss/after_2'] == events[f'{prefix}Post-update_loss__step_2']
    assert grouped[f'{part}: loss/after_0'] == events[f'{prefix}Query_loss_before_update']
    assert grouped[f'{part}: loss/support_before'] == events[f'{prefix}Pre-update_loss']


def check_sample_tasks(written, folder):
  [(step, value)] = written
  width, height, png = value
  picture = Image.open(io.BytesIO(png))
  picture.load()
  assert step == 0
  assert picture.size == (int(width), int(height))
  with open(f'{folder}/sample_tasks.png', 'rb') as file:
    assert file.read() == png


def test_the_scalars_are_written_as_tensorflow_does(tmp_path, read_events):
  """Its own function needs TensorBoard, and so does this comparison."""
  pytest.importorskip('tensorboard')
  ours, theirs = tmp_path / 'ours', tmp_path / 'theirs'
  writer = tf.summary.create_file_writer(str(ours))
  summaries.write_scalars(writer, 7, {'metatrain_a_b': tf.constant(0.25, tf.float64)})
  writer.close()
  with tf.summary.create_file_writer(str(theirs)).as_default(step=7):
    tf.summary.scalar('metatrain_a_b', 0.25)
    tf.summary.flush()
  def written(folder):
    [path] = folder.iterdir()
    records = list(tf.data.TFRecordDataset(str(path)))
    return tf.compat.v1.Event.FromString(records[1].numpy())
  one, other = written(ours), written(theirs)
  assert one.summary == other.summary
  assert one.step == other.step == 7
  assert read_events(ours) == {'metatrain_a_b': [(7, 0.25)]}


def test_the_training_summaries_measure_the_batch_that_is_next(
    small_config, read_events, monkeypatch):
  """With the parameters of then: those of the checkpoint of that iteration."""
  monkeypatch.setattr(callbacks, 'SUMMARY_INTERVAL', 50)
  monkeypatch.setattr(callbacks, 'SAVE_INTERVAL', 50)
  config = small_config(num_updates=2, metatrain_iterations=100)
  model, folder = experiment.build_model(config), prepare_folder(config)
  trainer.train(config, model, folder)
  events, generator = read_events(folder), experiment.training_generator(config)
  for iteration in (50, 100):
    tf.train.Checkpoint(parameters=model.meta_parameters).restore(
        f'{folder}/model-{iteration}').expect_partial()
    expected = named_means(model.task_results(generator.batch(iteration), 2))
    for name, value in expected.items():
      written = dict(events[f'metatrain_{name}'])[iteration]
      np.testing.assert_allclose(written, value, rtol=1e-5, err_msg=name)


# Validation.

class Recorded:
  """An evaluator and the checkpoints in one: it knows the scores, and notes the offers."""

  measure = MEAN_SQUARED_ERROR

  def __init__(self, losses):
    self._losses = iter(losses)
    self.offers = []

  def __call__(self):
    from maml_tf.task_results import TaskResults
    loss = np.full([2, 2], next(self._losses))
    return TaskResults({'loss': loss[:, 0]}, {'loss': loss})

  def offer_best(self, iteration, score):
    self.offers.append((iteration, score))


def test_validation_comes_at_multiples_of_its_interval(small_config):
  model = experiment.build_model(small_config())
  recorded = Recorded([3.0, 2.0, 5.0])
  validation = callbacks.Validation(20, 25, recorded, recorded)
  validation.set_model(model)
  for before, now in ((20, 24), (24, 25), (25, 49), (49, 80), (80, 99), (99, 101)):
    validation.after_iterations(before, now, {})
  assert recorded.offers == [(25, -3.0), (80, -2.0), (101, -5.0)]


# What is told of each execution.

def test_a_watch_is_told_of_each_execution_in_place_of_a_bar(small_config, capsys):
  config = small_config(pretrain_iterations=2, metatrain_iterations=4, validation_interval=2,
                        log=False, xla='off')
  folder = prepare_folder(config)
  told = []

  def watch(before, now):
    # What the steps leave in the folder is there, and a signal ends the run here.
    told.append((before, now, [line['iteration'] for line in
                               history.read(f'{folder}/{history.HISTORY_FILE}')]))
    if now == 4:
      signal.raise_signal(signal.SIGTERM)
  result = trainer.train(config, experiment.build_model(config), folder, watch=watch)
  assert told == [(0, 2, [2]), (2, 4, [2, 4])]
  assert (result.iteration, result.interrupted_by) == (4, 'SIGTERM')
  output = capsys.readouterr()
  assert output.out == '' and output.err == '\nSIGTERM: stopping after this step\n'


def test_addons_that_cannot_be_imported_are_none(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_addons', None)   # makes `import` fail
  optional_addons.tensorflow_addons.cache_clear()
  try:
    assert optional_addons.tensorflow_addons() is None
  finally:
    optional_addons.tensorflow_addons.cache_clear()


# Which batch Keras names.

@pytest.mark.parametrize('named', ['first', 'last'])
def test_iterations_are_counted_whichever_batch_of_an_execution_keras_names(named):
  """Keras 3.0 to 3.10 name the first: 200 iterations were 5,150, which said 200."""
  recorder = Recorder(7)
  recorder.set_params({'steps': 25})
  recorder.set_model(SimpleNamespace(steps_of_an_execution=10))
  for first in (0, 10, 20):
    recorder.on_train_batch_end(first if named == 'first' else min(first + 9, 24),
                                {'loss': 0.0})
  assert recorder.calls == [(7, 17), (17, 27), (27, 32)]
