"""One classifier of all training classes: fine-tuned, and asked for the nearest image."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from stopping import stopped_after

from maml_tf import application, experiment
from maml_tf.baselines.classifier import ClassifierTraining
from maml_tf.baselines.fine_tuning import FineTuning
from maml_tf.baselines.nearest_neighbour import NearestNeighbour, nearest_labels
from maml_tf.evaluation import tuning
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.objectives import ScaledCrossEntropy
from maml_tf.training import history
from maml_tf.training.optimizers import build_optimizer
from maml_tf.training.run_folder import experiment_folder

WAYS, TRAINING_CLASSES = 3, 8


def learner_of(kind='conv', norm='batch_norm', filters=3):
  if kind == 'conv':
    return Convolutional((9, 9, 1), filters, TRAINING_CLASSES, norm, max_pool=False,
                         spatial_mean=False)
  return FullyConnected(81, (7, 6), TRAINING_CLASSES, norm)


def model_of(baseline, learner=None, norm='batch_norm', shots=2, **kwargs):
  reference = tf.constant(np.random.RandomState(9).uniform(size=(6, 9, 9, 1)))
  return baseline(learner or learner_of(norm=norm), ScaledCrossEntropy(shots),
                  reference=reference if norm == 'batch_norm' else None,
                  step_size=0.1, num_updates=2, dtype='float64', **kwargs)


def fine_tuned(**kwargs):
  return model_of(FineTuning, num_classes=WAYS, **kwargs)


def features_of(model, images):
  """Of one task's images, each beside the reference images alone, `[images, features]`."""
  parameters = model.meta_parameters.tensors()
  reference, found = model._reference, []
  for image in images:
    if reference is None:
      both, count = image[tf.newaxis, tf.newaxis], None
    else:
      both, count = tf.concat([reference, image[tf.newaxis]], 0)[tf.newaxis], len(reference)
    found.append(model.learner.features(parameters, both, statistics_size=count)[0, -1])
  return np.stack(found)


@pytest.fixture
def episodes(make_classification):
  return make_classification(tasks=4, ways=WAYS, shots=2, image_shape=(9, 9, 1))


# Features


@pytest.mark.parametrize('kind', ['conv', 'dense'])
def test_the_last_layer_on_the_features_is_the_net(kind, generic_values, episodes):
  learner = learner_of(kind)
  values = {name: tf.constant(value) for name, value in generic_values(learner).items()}
  features = learner.features(values, episodes.support.inputs)
  expected = np.matmul(features, values['output/kernel']) + values['output/bias']
  np.testing.assert_allclose(learner(values, episodes.support.inputs), expected, rtol=1e-12)


@pytest.mark.parametrize('norm', ['batch_norm', 'layer_norm', 'None'])
def test_features_of_an_image_do_not_depend_on_the_other_images(norm, episodes,
                                                                generic_values):
  model = fine_tuned(norm=norm)
  model.meta_parameters.assign(generic_values(model.learner))
  found = model.with_features(model.meta_parameters.tensors(), episodes)
  for task in (0, 3):
    np.testing.assert_allclose(found.support.inputs[task],
                               features_of(model, episodes.support.inputs[task]),
                               rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.query.inputs[task],
                               features_of(model, episodes.query.inputs[task]),
                               rtol=1e-9, atol=1e-12)
  np.testing.assert_array_equal(found.query.labels, episodes.query.labels)


# Fine-tuning


def test_fine_tuning_is_softmax_regression_on_the_features(episodes, generic_values):
  """Recomputed by NumPy: gradient descent on a new last layer."""
  model = fine_tuned()
  model.meta_parameters.assign(generic_values(model.learner))
  results = model.task_results(episodes, 3)
  new = model.head.initial_values(0, 'float64')
  for task in range(4):
    support = features_of(model, episodes.support.inputs[task])
    query = features_of(model, episodes.query.inputs[task])
    kernel, bias = new['output/kernel'].copy(), new['output/bias'].copy()
    truth = np.eye(WAYS)[episodes.support.labels[task].numpy()]
    answers = episodes.query.labels[task].numpy()
    for update in range(4):
      logits = query @ kernel + bias
      log_sums = np.log(np.exp(logits).sum(axis=1))
      loss = (log_sums - logits[np.arange(len(answers)), answers]).sum() / 2
      np.testing.assert_allclose(results.query['loss'][task, update], loss, rtol=1e-8)
      np.testing.assert_allclose(results.query['accuracy'][task, update],
                                 np.mean(logits.argmax(axis=1) == answers))
      scores = np.exp(support @ kernel + bias)
      errors = (scores / scores.sum(axis=1, keepdims=True) - truth) / 2
      kernel -= 0.1 * support.T @ errors
      bias -= 0.1 * errors.sum(axis=0)
  assert np.ptp(results.query['loss']) > 1e-3


def test_fine_tuning_changes_the_new_layer_alone(episodes):
  model = fine_tuned()
  before = model.meta_parameters.arrays()
  first = model.task_results(episodes, 4)
  for name, value in model.meta_parameters.arrays().items():
    np.testing.assert_array_equal(value, before[name])
  # The wide layer has no part in it.
  model.meta_parameters.assign({name: value + (name == 'output/kernel')
                                for name, value in before.items()})
  again = model.task_results(episodes, 4)
  tf.nest.map_structure(np.testing.assert_array_equal, again, first)
  # The tasks do not share the new layer either.
  alone = model.task_results(
      tf.nest.map_structure(lambda value: value[2:3], episodes), 4)
  np.testing.assert_allclose(alone.query['loss'][0], first.query['loss'][2], rtol=1e-10)


def test_another_step_size_is_used(episodes):
  model = fine_tuned()
  slow = model.task_results(episodes, 1)
  model.step_size = 0.5
  fast = model.task_results(episodes, 1)
  np.testing.assert_array_equal(slow.query['loss'][:, 0], fast.query['loss'][:, 0])
  assert np.abs(slow.query['loss'][:, 1] - fast.query['loss'][:, 1]).max() > 1e-3


# Nearest neighbour


def test_the_nearest_label_is_that_of_the_largest_cosine():
  random = np.random.RandomState(0)
  support, query = random.normal(size=(5, 6, 4)), random.normal(size=(5, 9, 4))
  support *= random.uniform(0.1, 10, size=(5, 6, 1))   # lengths do not count
  labels = np.stack([random.permutation([0, 0, 1, 1, 2, 2]) for _ in range(5)])
  received = nearest_labels(tf.constant(support), tf.constant(labels, tf.int32),
                            tf.constant(query)).numpy()
  for task in range(5):
    for place in range(9):
      cosines = [np.dot(one, query[task, place]) / np.linalg.norm(one)
                 for one in support[task]]
      assert received[task, place] == labels[task, int(np.argmax(cosines))]


def test_results_of_the_nearest_neighbour(episodes, generic_values):
  # With few features, of which ReLU leaves one or none, many directions are equal.
  model = model_of(NearestNeighbour, learner=learner_of(filters=16))
  model.meta_parameters.assign(generic_values(model.learner))
  results = model.task_results(episodes, 1)
  assert results.query['accuracy'].shape == (4, 2)
  np.testing.assert_allclose(results.query['accuracy'][:, 0], 1 / WAYS)
  np.testing.assert_allclose(results.query['loss'], 1 - results.query['accuracy'])
  for task in range(4):
    support, query = (features_of(model, batch.inputs[task]) for batch in episodes)
    lengths = np.linalg.norm(support, axis=1)
    cosines = (query @ support.T) / np.where(lengths > 0, lengths, 1)
    answers = episodes.support.labels[task].numpy()[cosines.argmax(axis=1)]
    expected = np.mean(answers == episodes.query.labels[task].numpy())
    np.testing.assert_allclose(results.query['accuracy'][task, 1], expected)
  assert np.ptp(results.query['accuracy'][:, 1]) > 0


# Training, and main.py


def test_training_minimises_the_mean_cross_entropy(make_classification, generic_values):
  batch = make_classification(1, TRAINING_CLASSES, 2, (9, 9, 1))
  model = ClassifierTraining(learner_of(), ScaledCrossEntropy(2 * TRAINING_CLASSES),
                             step_size=0.1, num_updates=1, dtype='float64')
  values = generic_values(model.learner)
  model.meta_parameters.assign(values)
  means, gradients = model.meta_gradient(batch)

  def mean_cross_entropy(given):
    logits = model.learner({name: tf.constant(value) for name, value in given.items()},
                           batch.support.inputs)
    return float(tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(
        batch.support.labels, logits, from_logits=True)))
  np.testing.assert_allclose(means['loss'], mean_cross_entropy(values), rtol=1e-12)
  direction = np.random.RandomState(0).normal(size=values['conv2/kernel'].shape)
  ahead, behind = (mean_cross_entropy(
      {**values, 'conv2/kernel': values['conv2/kernel'] + sign * 1e-6 * direction})
                   for sign in (1, -1))
  np.testing.assert_allclose(np.sum(gradients['conv2/kernel'] * direction),
                             (ahead - behind) / 2e-6, rtol=1e-5)
  results = model.task_results(batch, 5)
  assert results.query['loss'].shape == (1, 1)


@pytest.fixture
def classifier_config(small_config):
  def make(baseline='fine_tuning', **given):
    own = {} if baseline == 'fine_tuning' else dict(test_num_updates=1)
    return small_config('omniglot', **{**dict(
        baseline=baseline, meta_batch_size=20, pretrain_iterations=4, meta_lr=0.01,
        validation_interval=2, log=False), **own, **given})
  return make


def test_the_classifier_learns_the_sample_data(classifier_config):
  config = classifier_config(num_filters=8)
  model = experiment.build_model(config)
  training = experiment.build_pretraining(config, model)
  training.compile(build_optimizer('adam', 0.01))
  generator = experiment.training_generator(config)
  before, after = [], []
  for results in (before, after):
    for index in (80, 81, 82):   # batches that are not trained on
      results.append(training.task_results(generator.batch(index), 0))
    if results is before:
      training.fit(generator.dataset(0, 80), verbose=0, shuffle=False)
  losses = [np.mean([float(result.support['loss'][0]) for result in results])
            for results in (before, after)]
  assert losses[1] < 0.5 * losses[0]
  # Five classes in four turns each.
  assert np.mean([float(result.support['accuracy'][0]) for result in after]) > 3 / 20
  assert model.meta_parameters is training.meta_parameters


@pytest.mark.slow
def test_both_baselines_share_one_training(classifier_config, capsys, monkeypatch):
  monkeypatch.setattr(tuning, 'STEP_SIZES', (0.01, 0.1))
  tuned = classifier_config()
  nearest = classifier_config('nearest_neighbour')
  assert experiment_folder(tuned) == experiment_folder(nearest)
  assert application.run(tuned) == 0
  output = capsys.readouterr().out
  assert 'Step size of the fine-tuning: ' in output
  folder = experiment_folder(tuned)
  checkpoint = os.path.join(folder, 'model-4.index')
  written = os.stat(checkpoint).st_mtime_ns
  assert application.run(nearest) == 0
  assert 'Resumed at iteration 4 of 4' in capsys.readouterr().out
  assert os.stat(checkpoint).st_mtime_ns == written
  with open(os.path.join(folder, 'val_ubs1_stepsizetuned.json'), encoding='utf-8') as file:
    by_tuning = json.load(file)
  with open(os.path.join(folder, 'val_ubs1_nearest_neighbour.json'),
            encoding='utf-8') as file:
    by_neighbour = json.load(file)
  assert by_tuning['tuning']['split'] == 'val' and by_neighbour['tuning'] is None
  # Validation tasks of their own, also where the test is on validation classes.
  assert by_tuning['tuning']['fingerprint'] != by_tuning['episodes_fingerprint']
  assert by_tuning['episodes_fingerprint'] == by_neighbour['episodes_fingerprint']
  assert list(by_neighbour['updates']) == ['update0_support', 'update0_query', 'update1']
  with open(os.path.join(folder, 'val_ubs1_nearest_neighbour.csv'),
            encoding='utf-8') as file:
    assert file.readline() == 'update0,update1\n'


@pytest.mark.slow
def test_one_training_serves_all_shots(classifier_config, capsys, tmp_path):
  """Its validation tasks have the shots of the training, whatever is tested."""
  histories = {}
  for shots in (1, 2):
    config = classifier_config('nearest_neighbour', update_batch_size=shots,
                               train_update_batch_size=1, test_query_size=1,
                               logdir=str(tmp_path / str(shots)))
    assert application.run(config) == 0
    columns = history.read(os.path.join(experiment_folder(config), history.HISTORY_FILE))
    histories[shots] = [{name: value for name, value in line.items() if name != 'seconds'}
                        for line in columns]
  assert len(histories[1]) == 2
  assert histories[1] == histories[2]
  capsys.readouterr()
  other = classifier_config('nearest_neighbour', logdir=str(tmp_path / '2'))
  assert application.run(other) == 0
  assert 'Resumed at iteration 4 of 4' in capsys.readouterr().out
  written = set(os.listdir(experiment_folder(other)))
  assert {f'val_ubs{shots}_nearest_neighbour.json' for shots in (1, 2)} <= written


def test_both_choose_the_checkpoint_by_the_nearest_neighbour(classifier_config):
  for baseline in ('fine_tuning', 'nearest_neighbour'):
    config = classifier_config(baseline)
    model = experiment.build_model(config)
    validated = experiment.build_validated(config, model)
    assert isinstance(validated, NearestNeighbour)
    assert validated.meta_parameters is model.meta_parameters


@pytest.mark.slow
def test_a_resumed_classifier_ends_as_the_uninterrupted_one(classifier_config, tmp_path,
                                                            monkeypatch):
  from maml_tf.training import trainer
  from maml_tf.training.run_folder import prepare_folder
  paths = []
  for name in ('whole', 'stopped'):
    config = classifier_config(logdir=str(tmp_path / name))
    if name == 'stopped':
      with stopped_after(2, monkeypatch):
        folder = prepare_folder(config)
        assert trainer.train(config, experiment.build_model(config), folder).iteration == 2
    paths.append(trainer.train(config, experiment.build_model(config),
                               prepare_folder(config)).checkpoint)
  whole, stopped = map(tf.train.load_checkpoint, paths)
  for key in whole.get_variable_to_shape_map():
    if 'save_counter' not in key and 'OBJECT_GRAPH' not in key:
      np.testing.assert_array_equal(whole.get_tensor(key), stopped.get_tensor(key), key)


def test_the_matrix_is_refused(classifier_config, capsys):
  from maml_tf import matrix
  config = classifier_config()
  code = matrix.main([f'--data_dir={config.task.data_dir}', f'--logdir={config.run.logdir}',
                      '--datasource=omniglot', '--num_classes=3', '--baseline=fine_tuning',
                      '--tasks=2', '--query_sizes=1'])
  assert code == 2
  assert '--baseline=fine_tuning has fixed batch statistics' in capsys.readouterr().err
