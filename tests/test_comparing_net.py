"""Predicting and exporting for methods that compare with the support set."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maml_tf import MeanCrossEntropy, application, experiment, export, predict, retest
from maml_tf.config import ConfigError, resolve
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.meta_learners.without_inner_loop import Embedded, WithoutInnerLoop
from maml_tf.prediction import expectation, files, task_net
from maml_tf.training.run_folder import experiment_folder

WAYS, SHOTS = 3, 2
METHODS = [*((name, {}) for name in WITHOUT_INNER_LOOP), ('matching', dict(full_context=True)),
           ('matching', dict(cosine_scale=7.0)), ('prototypical', dict(distance_scale=0.1))]
EQUAL, UNEQUAL = (2, 2, 2), (1, 3, 2)


def net_of(name, given, **more):
  """(model, net), with features of all sizes that a comparison meets."""
  config = resolve(dict(datasource='omniglot', num_classes=WAYS, update_batch_size=SHOTS,
                        num_filters=4, dtype='float64', method=name, **given, **more))
  model = experiment.build_model(config)
  random = np.random.RandomState(3)
  model.meta_parameters.assign({
      key: value + random.normal(size=value.shape) * 0.3
      for key, value in model.meta_parameters.arrays().items()})
  return model, task_net.task_net(model, WAYS, 0)


def task(counts=EQUAL, seed=0, shape=(28, 28, 1)):
  """(support images, labels, query images), the support set in an order of its own."""
  random = np.random.RandomState(seed)
  labels = random.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
  def images(number):
    return tf.constant(random.uniform(size=(number, *shape)))
  return images(len(labels)), labels, images(5)


@pytest.mark.parametrize('name, given', METHODS, ids=str)
def test_with_statistics_of_all_together_it_is_what_the_run_s_test_gives(name, given):
  model, net = net_of(name, given)
  assert files.tolerance_of(net) == files.TOLERANCE
  images, labels, query = task()
  batch = (images[tf.newaxis], labels[tf.newaxis])
  expected = model.adapted_outputs((batch, (query[tf.newaxis], np.zeros([1, 5], np.int32))))
  values = net.adapt_in_graph(images, labels)
  np.testing.assert_allclose(
      tf.nn.softmax(net.together_in_graph(values, images, labels, query)),
      tf.nn.softmax(expected)[0, 0], rtol=1e-9)


@pytest.mark.parametrize('name, given', METHODS[:4], ids=str)
def test_features_of_bfloat16_are_compared_in_float32(name, given):
  """As in the run's test, and as the Keras model of the task does."""
  layers, policy = tf.keras.layers, tf.keras.mixed_precision.Policy('mixed_bfloat16')
  body = tf.keras.Sequential([
      layers.Input((6, 6, 1)), layers.Conv2D(4, 3, dtype=policy),
      layers.BatchNormalization(dtype=policy), layers.Flatten(dtype=policy)])
  model = meta_learner_class(name)(KerasLearner(body), MeanCrossEntropy(), shots=SHOTS,
                                   **given)
  net = task_net.task_net(model, WAYS, 0)
  images, labels, query = (tf.cast(value, tf.float32) if value.dtype == tf.float64 else value
                           for value in task(shape=(6, 6, 1)))
  expected = model.adapted_outputs(((images[tf.newaxis], labels[tf.newaxis]),
                                    (query[tf.newaxis], np.zeros([1, 5], np.int32))))[0, 0]
  values = net.adapt_in_graph(images, labels)
  np.testing.assert_allclose(
      tf.nn.softmax(net.together_in_graph(values, images, labels, query)),
      tf.nn.softmax(expected), rtol=1e-4)
  found = net.logits_in_graph(values, query)
  assert found.dtype == tf.float32 and files.tolerance_of(net) > files.TOLERANCE
  np.testing.assert_allclose(net.as_model(values, images)(query), tf.nn.softmax(found),
                             atol=1e-4)


@pytest.mark.parametrize('counts', [EQUAL, UNEQUAL])
@pytest.mark.parametrize('name, given', METHODS, ids=str)
def test_what_is_kept_stands_for_the_support_set(name, given, counts):
  """Its statistics, too: an image alone gets what it gets beside others."""
  model, net = net_of(name, given)
  images, labels, query = task(counts)
  values = net.adapt_in_graph(images, labels)
  found = net.logits_in_graph(values, query)
  start = model.meta_parameters.tensors()
  both = tf.concat([images, query], axis=0)[tf.newaxis]
  features = model.learner.features(start, both, statistics_size=len(labels))
  support, rest = features[:, :len(labels)], features[:, len(labels):]
  shares = tf.one_hot(labels, WAYS, dtype='float64') / np.array(counts, float)
  expected = model.logits(start, Embedded(support, shares[tf.newaxis], rest))[0]
  np.testing.assert_allclose(tf.nn.softmax(found), tf.nn.softmax(expected), rtol=1e-8)
  np.testing.assert_allclose(net.logits_in_graph(values, query[:1]), found[:1], rtol=1e-8,
                             atol=1e-12)


@pytest.mark.parametrize('name, given', [METHODS[0], METHODS[1]], ids=str)
def test_a_class_of_many_photos_counts_as_one_of_few(name, given):
  """A photo three times over leaves its class what it was."""
  _, net = net_of(name, given, norm='layer_norm')
  images, _, query = task((1, 1, 1))
  few, many = (tf.nn.softmax(net.logits_in_graph(net.adapt_in_graph(
      tf.gather(images, order), np.array(order, np.int32)), query))
               for order in ([0, 1, 2], [0, 1, 2, 1, 1]))
  np.testing.assert_allclose(few, many, rtol=1e-8)


@pytest.mark.parametrize('counts', [EQUAL, UNEQUAL])
@pytest.mark.parametrize('name, given', METHODS, ids=str)
def test_a_keras_model_of_the_task_gives_the_same(name, given, counts):
  _, net = net_of(name, given)
  images, labels, query = task(counts)
  values = net.adapt_in_graph(images, labels)
  model = net.as_model(values, images)
  np.testing.assert_allclose(model(query), tf.nn.softmax(net.logits_in_graph(values, query)),
                             rtol=1e-6, atol=1e-10)
  assert {type(layer).__module__.split('.')[0] for layer in model.layers} <= {'keras'}


@pytest.mark.parametrize('name, given', [METHODS[3]] + [
    pytest.param(*method, marks=pytest.mark.slow) for method in METHODS[:3]], ids=str)
def test_a_file_takes_any_number_of_support_images(name, given, tmp_path):
  _, net = net_of(name, given)
  path = files.write_adaptation(str(tmp_path), files.Served(net, (28, 28, 1), None))
  signatures = tf.saved_model.load(path).signatures
  for counts in (EQUAL, (4, 1, 2)):
    images, labels, query = task(counts)
    adapted = signatures['adapt'](images=images, labels=tf.constant(labels))
    found = signatures['predict'](images=query, **adapted)['probabilities']
    expected = tf.nn.softmax(net.logits(net.adapt(images, labels), query))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize('labels', [[0, 0, 1], [0, 1, 2, 3], [-1, 0, 1, 2]])
def test_a_class_without_an_image_is_an_error(labels):
  _, net = net_of('prototypical', {})
  images = tf.zeros([len(labels), 28, 28, 1])
  with pytest.raises(tf.errors.InvalidArgumentError, match='with an image of each class'):
    net.adapt_in_graph(images, tf.constant(labels))


@pytest.mark.parametrize('name', WITHOUT_INNER_LOOP)
def test_a_keras_model_as_the_net(name):
  layers = tf.keras.layers
  body = tf.keras.Sequential([tf.keras.Input((6, 6, 1)), layers.Conv2D(2, 3),
                              layers.BatchNormalization()])
  model = meta_learner_class(name)(body, MeanCrossEntropy(), shots=SHOTS)
  net = task_net.task_net(model, WAYS, 0)
  images, labels, query = (tf.cast(value, 'float32') if index != 1 else value for index, value
                           in enumerate(task(UNEQUAL, shape=(6, 6, 1))))
  values = net.adapt_in_graph(images, labels)
  found = tf.nn.softmax(net.logits_in_graph(values, query))
  mean = np.mean(body.layers[0](images), axis=(0, 1, 2))
  variance = np.var(body.layers[0](images), axis=(0, 1, 2))
  features = (body.layers[0](query) - mean) / np.sqrt(variance + 1e-3)
  np.testing.assert_allclose(net.as_model(values, images)(query), found, atol=1e-5)
  if name == 'prototypical':
    support = np.reshape((body.layers[0](images) - mean) / np.sqrt(variance + 1e-3), [6, -1])
    prototypes = np.stack([support[labels == label].mean(axis=0) for label in range(WAYS)])
    distances = np.sum((np.reshape(features, [5, 1, -1]) - prototypes) ** 2, axis=-1)
    np.testing.assert_allclose(found, tf.nn.softmax(-distances), atol=1e-4)


def test_a_method_of_one_s_own_has_no_layers_unless_it_says_so():
  class Dots(WithoutInnerLoop):
    def logits(self, parameters, tasks):
      return tf.matmul(tf.matmul(tasks.query, tasks.support, transpose_b=True),
                       tasks.is_of_class)
  body = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
  net = task_net.task_net(Dots(body, MeanCrossEntropy(), shots=1), 2, 0)
  images, labels, query = task((1, 2), shape=(4,))
  values = net.adapt_in_graph(images, labels)
  assert net.logits_in_graph(values, query).shape == (5, 2)
  with pytest.raises(ConfigError, match='Dots has no form in layers of Keras'):
    net.as_model(values, tf.cast(images, 'float32'))


# --- the commands

def draw(folder, classes, images=1):
  random = np.random.RandomState(len(classes))
  for number, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for index in range(images + number % 2):
      pixels = random.randint(0, 256, (20, 20, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(folder / name / f'{index}.png')
  return folder


@pytest.fixture(scope='module')
def run_of(tmp_path_factory, sample_data):
  """A function that gives the folder of a short run of a method, 3-way 1-shot, tested."""
  def run(method, **given):
    config = resolve(dict(
        datasource='omniglot', data_dir=sample_data('omniglot'), method=method, **given,
        num_classes=WAYS, train_num_classes=4, train_query_size=1, test_query_size=1,
        num_filters=4, meta_batch_size=2, metatrain_iterations=1,
        num_validation_tasks=2, num_test_tasks=4, test_set=True, log=False,
        logdir=str(tmp_path_factory.mktemp(method))))
    assert application.run(config) == 0
    return experiment_folder(config)
  return run


@pytest.mark.slow
@pytest.mark.parametrize('name, given', [METHODS[0], METHODS[2], METHODS[3]], ids=str)
def test_a_run_predicts_exports_and_is_tested_again(name, given, run_of, sample_data, tmp_path,
                                                    capfd):
  run = run_of(name, **given)
  # More than the set has for testing.
  support = draw(tmp_path / 'support', ['ant', 'bee', 'cat', 'dog', 'emu'])
  query = draw(tmp_path / 'query', ['some', 'more'])
  capfd.readouterr()
  arguments = [f'--run={run}', f'--support={support}', f'--query={query}']
  assert predict.main(arguments) == 0
  printed = capfd.readouterr().out
  assert 'comparing with 7 photos of 5 classes\n' in printed
  assert '5 ways with 1 to 2 shots are classified right is not known' in printed
  assert predict.main([*arguments, '--statistics=query']) == 0
  capfd.readouterr()
  assert predict.main([*arguments, '--updates=3']) == 2
  assert f'--updates=3 does not fit --method={name}' in capfd.readouterr().err

  assert export.main([f'--run={run}', f'--support={support}',
                      f'--out={tmp_path / "exported"}']) == 0
  last = capfd.readouterr().out.splitlines()[-1]
  for file in ('adaptation', 'adapted.keras', 'adapted_saved_model'):
    assert f'{file} ' in last
  assert json.loads((tmp_path / 'exported' / 'export.json').read_text())['ways'] == 5

  assert retest.main([f'--run={run}', '--ways=4', '--shots=2', '--tasks=3',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  assert '4 ways, 2 shots' in capfd.readouterr().out
  found = expectation.expected(expectation.of_run(run), [2] * 4, 0)
  with open(f'{run}/test_on_omniglot_4ways_ubs2.json', encoding='utf-8') as file:
    assert found.mean == json.load(file)['updates']['update0_query']['accuracy']['mean']
  assert '4 ways and 2 shots: ' in expectation.sentence([found], [2] * 4, 0)
