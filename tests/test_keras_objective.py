"""A Keras loss and Keras metrics of tasks: what Keras itself gives, task by task."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import (
  IMAML,
  MAML,
  FullyConnected,
  KerasObjective,
  MeanCrossEntropy,
  MeanSquaredError,
)
from maml_tf.errors import ConfigError
from maml_tf.keras_models.learner import ModelOutputs
from maml_tf.objectives import Objective

losses = tf.keras.losses
METRICS = tf.keras.metrics
TASKS, EXAMPLES = 2, 4


def called(one):
  """What a loss or a metric is called in the name of a test."""
  return one if isinstance(one, str) else getattr(one, '__name__', type(one).__name__)


def values(*shape, seed=0):
  return tf.constant(np.random.RandomState(seed).uniform(0.1, 0.9, shape), tf.float32)


def expected(loss, labels, outputs):
  """Of Keras: `[tasks]`."""
  return np.stack([loss(labels[task], outputs[task]) for task in range(TASKS)])


def own(labels, outputs):
  return tf.reduce_mean(tf.square(labels - outputs), axis=-1)


@pytest.mark.parametrize('loss, of_keras', [
    ('mse', losses.MeanSquaredError()), ('mae', losses.MeanAbsoluteError()),
    ('huber', losses.Huber()), ('poisson', losses.Poisson()),
    ('binary_crossentropy', losses.BinaryCrossentropy()), (own, losses.MeanSquaredError()),
    (MeanSquaredError(), losses.MeanSquaredError()),
    (losses.MeanSquaredError(), losses.MeanSquaredError())],
    ids=called)
@pytest.mark.parametrize('without_axis', ['labels', 'outputs'])
def test_labels_and_outputs_are_not_broadcast_against_each_other(loss, of_keras, without_axis):
  with_axis = values(TASKS, EXAMPLES, 1), values(TASKS, EXAMPLES, 1, seed=1)
  labels, outputs = with_axis
  if without_axis == 'labels':
    labels = labels[..., 0]
  else:
    outputs = outputs[..., 0]
  found = KerasObjective(loss, metrics=['mae', own]).measured(outputs, labels)
  np.testing.assert_allclose(found['loss'], expected(of_keras, *with_axis), rtol=1e-5)
  np.testing.assert_allclose(found['mae'],
                             expected(losses.MeanAbsoluteError(), *with_axis), rtol=1e-5)
  np.testing.assert_allclose(found['own'],
                             expected(losses.MeanSquaredError(), *with_axis), rtol=1e-5)


def test_a_loss_alone_is_that_of_each_output():
  labels = {'a': values(TASKS, EXAMPLES, 1), 'b': values(TASKS, EXAMPLES, 3)}
  outputs = {'a': values(TASKS, EXAMPLES, 1, seed=1), 'b': values(TASKS, EXAMPLES, 3, seed=2)}
  found = KerasObjective('mse').loss(outputs, labels)
  np.testing.assert_allclose(found, sum(
      expected(losses.MeanSquaredError(), labels[name], outputs[name]) for name in 'ab'),
      rtol=1e-5)
  both = KerasObjective(lambda labels, outputs: own(labels['a'], outputs['a'])).loss(
      outputs, labels)
  np.testing.assert_allclose(
      both, expected(losses.MeanSquaredError(), labels['a'], outputs['a']), rtol=1e-5)


@pytest.mark.parametrize('several', [{'z': 'mse', 'a': 'mae'}, ['mse', 'mae', 'mae']],
                         ids=['names', 'number'])
def test_losses_are_not_paired_with_outputs_of_another_structure(several):
  outputs = [values(TASKS, EXAMPLES, 1), values(TASKS, EXAMPLES, 1)]
  with pytest.raises(ConfigError, match='of the same structure'):
    KerasObjective(several).loss(outputs, outputs)


def test_ignored_classes_do_not_count():
  loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1)
  labels, outputs = tf.constant([[0, 1, 2, 1], [2, 2, 0, 1]]), values(TASKS, EXAMPLES, 3)
  np.testing.assert_allclose(KerasObjective(loss).loss(outputs, labels),
                             expected(loss, labels, outputs), rtol=1e-5)


@pytest.mark.parametrize('loss', ['mse', losses.MeanSquaredError()],
                         ids=['its name', 'an object'])
def test_masks_count_in_losses_by_name_too(loss):
  labels, outputs = values(TASKS, 2, 3, 5), values(TASKS, 2, 3, 5, seed=1)
  mask = np.array([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 1]]], bool)
  found = KerasObjective(loss).loss(
      ModelOutputs(outputs, tf.zeros([TASKS]), [tf.constant(mask)]), labels)
  errors = np.mean((labels - outputs) ** 2, axis=-1)
  np.testing.assert_allclose(
      found, [errors[task][mask[task]].mean() for task in range(TASKS)], rtol=1e-5)


def test_a_mask_is_that_of_the_axes_behind_it_and_nothing_is_0():
  labels, outputs = values(1, 2, 2, 2, 5), values(1, 2, 2, 2, 5, seed=1)
  errors = np.mean((labels - outputs) ** 2, axis=-1)[0]
  for mask, mean in (([[1, 0], [1, 1]], np.mean(np.concatenate([errors[0, :1], errors[1]]))),
                     ([[0, 0], [0, 0]], 0.0)):
    found = KerasObjective('mse').loss(ModelOutputs(
        outputs, tf.zeros([1]), [tf.constant(np.array([mask], bool))]), labels)
    np.testing.assert_allclose(found, [mean], rtol=1e-5)


def test_a_loss_that_gives_too_few_values_for_a_mask_is_refused():
  outputs = ModelOutputs(values(1, 2, 3, 5), tf.zeros([1]), [tf.ones([1, 2, 3], tf.bool)])

  class OfWholes(losses.Loss):
    def call(self, y_true, y_pred):
      return tf.reduce_mean(y_pred, axis=[1, 2])
  with pytest.raises(ConfigError, match=r'values \[2\].* mask \[2, 3\]'):
    KerasObjective(OfWholes()).loss(outputs, values(1, 2, 3, 5))


def test_a_loss_with_a_call_of_its_own():
  class Threefold(losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
      return 3 * tf.reduce_mean(tf.square(y_true - y_pred))
  labels, outputs = values(TASKS, EXAMPLES, 2), values(TASKS, EXAMPLES, 2, seed=1)
  np.testing.assert_allclose(KerasObjective(Threefold()).loss(outputs, labels),
                             3 * expected(losses.MeanSquaredError(), labels, outputs),
                             rtol=1e-5)


def test_one_metric_alone_may_be_given():
  names = [measure.name for measure in KerasObjective('mse', metrics='mae').measures]
  assert names == ['loss', 'mae']


@pytest.mark.parametrize('metrics, message', [
    (['acuracy'], 'no Keras metric of that name'), ({'a': 'mae'}, 'must be one list'),
    ([['mae'], ['mae']], 'must be one list'), ([tf.keras.metrics.AUC], 'A metric must be')],
    ids=['unknown', 'names', 'lists', 'class'])
def test_metrics_that_are_none_are_refused(metrics, message):
  with pytest.raises(ConfigError, match=message):
    KerasObjective('mse', metrics=metrics)


@pytest.mark.parametrize('metrics, name', [
    ([tf.keras.metrics.MeanSquaredError(name='loss')], 'loss'), (['mae', 'mae'], 'mae'),
    ([lambda labels, outputs: outputs, lambda labels, outputs: labels], '<lambda>')])
def test_metrics_have_names_of_their_own(metrics, name):
  with pytest.raises(ConfigError, match=f'names of their own.* Received: {name!r}'):
    KerasObjective('mse', metrics=metrics)


def test_labels_of_two_classes_may_be_integers():
  objective = KerasObjective('binary_crossentropy', metrics=['accuracy'])
  outputs = tf.constant([[[0.9], [0.2], [0.4], [0.6]]])
  found = objective.measured(outputs, tf.constant([[1, 0, 1, 1]], tf.int32))
  np.testing.assert_allclose(found['accuracy'], [0.75])


def test_accuracy_of_one_logit_is_that_of_its_sign():
  """Keras's would be of p > 0.62."""
  objective = KerasObjective(losses.BinaryCrossentropy(from_logits=True), ['accuracy'])
  outputs = tf.constant([[[0.3], [-0.3], [2.0], [-2.0]]])
  found = objective.measured(outputs, tf.constant([[1, 0, 1, 1]], tf.int32))
  np.testing.assert_allclose(found['accuracy'], [0.75])


def test_accuracy_of_outputs_without_an_axis_of_classes():
  """Keras takes the examples for the classes: one of them is right, or none."""
  outputs, labels = tf.constant([[0.9, 0.2, 0.4, 0.6]]), tf.constant([[1, 0, 1, 1]])
  for one in (labels, labels[..., tf.newaxis]):
    found = KerasObjective('binary_crossentropy', ['accuracy']).measured(outputs, one)
    np.testing.assert_allclose(found['accuracy'], [0.75])
  masked = ModelOutputs(outputs, tf.zeros([1]), [tf.constant([[True, True, True, False]])])
  found = KerasObjective('binary_crossentropy', ['accuracy']).measured(masked, labels)
  np.testing.assert_allclose(found['accuracy'], [2 / 3], rtol=1e-6)


NUMBERS, ROWS = tf.constant([[0, 1, 2]] * TASKS), tf.stack([tf.eye(3)] * TASKS)


@pytest.mark.parametrize('loss', [
    'categorical_hinge', 'cosine_similarity', 'binary_crossentropy',
    losses.CategoricalCrossentropy(), losses.mse,
    losses.MeanSquaredError(name='mine')], ids=called)
def test_numbers_of_classes_are_no_targets(loss):
  """As many examples as classes: most of these were broadcast against each other."""
  for numbers in (NUMBERS, NUMBERS[..., tf.newaxis]):
    with pytest.raises(ConfigError, match='takes a target for each output.*one-hot rows'):
      KerasObjective(loss).loss(values(TASKS, 3, 3), numbers)
  KerasObjective(loss).loss(values(TASKS, 3, 3), ROWS)


@pytest.mark.parametrize('metric', [
    'mae', 'categorical_accuracy', METRICS.mse, METRICS.CategoricalAccuracy(),
    METRICS.MeanSquaredError(name='mine'), METRICS.TopKCategoricalAccuracy(2), 'AUC',
    METRICS.Precision()], ids=called)
def test_nor_are_they_those_of_metrics(metric):
  objective = KerasObjective(lambda labels, outputs: outputs, [metric])
  for numbers in (NUMBERS, NUMBERS[..., tf.newaxis]):
    with pytest.raises(ConfigError, match='takes a target for each output.*one-hot rows'):
      objective.measured(values(TASKS, 3, 3), numbers)
  assert len(objective.measured(values(TASKS, 3, 3), ROWS)) == 2


@pytest.mark.parametrize('metric', [
    'sparse_categorical_accuracy', METRICS.SparseTopKCategoricalAccuracy(2),
    METRICS.SparseCategoricalCrossentropy(name='mine')], ids=called)
def test_metrics_of_numbers_take_no_rows(metric):
  objective = KerasObjective(lambda labels, outputs: outputs, [metric])
  with pytest.raises(ConfigError, match=r'give y.argmax\(-1\)'):
    objective.measured(values(TASKS, 3, 3), ROWS)
  assert len(objective.measured(values(TASKS, 3, 3), NUMBERS)) == 2


@pytest.mark.parametrize('metric', ['accuracy', 'sparse_categorical_accuracy'])
def test_labels_with_weights_are_for_functions_of_one_s_own(metric):
  with pytest.raises(ConfigError, match='a function of .labels, outputs., which gets all'):
    KerasObjective(lambda labels, outputs: outputs, [metric]).measured(
        values(TASKS, 3, 3), {'classes': NUMBERS, 'weights': NUMBERS})
  with pytest.raises(ConfigError, match='a function of .labels, outputs., which gets all'):
    KerasObjective('mse').loss(values(TASKS, 3, 3), [ROWS, ROWS])


def test_metrics_of_other_labels_are_not_looked_at():
  metric = METRICS.MeanIoU(3, name='iou', sparse_y_pred=False)
  objective = KerasObjective(lambda labels, outputs: outputs, [metric])
  found = objective.measured(ROWS, NUMBERS)
  np.testing.assert_allclose(found['iou'], [1.0] * TASKS, rtol=1e-6)


@pytest.mark.skipif(not hasattr(losses, 'CategoricalGeneralizedCrossEntropy'),
                    reason='of Keras 3 alone')
def test_a_loss_of_numbers_is_one_without_sparse_in_its_name_too():
  loss = losses.CategoricalGeneralizedCrossEntropy()
  found = KerasObjective(loss).loss(tf.nn.softmax(values(TASKS, 3, 3)), NUMBERS)
  assert np.isfinite(found).all() and len(found) == TASKS


def test_a_function_of_keras_heeds_masks_as_its_name_does():
  labels, outputs = values(1, 2, 3), values(1, 2, 3, seed=1)
  masked = ModelOutputs(outputs, tf.zeros([1]), [tf.constant([[True, False]])])
  for one in ('mae', losses.mae):
    found = KerasObjective(one, [one]).measured(masked, labels)
    for value in found.values():
      np.testing.assert_allclose(value, [np.mean(np.abs(labels - outputs)[0, 0])], rtol=1e-5)


@pytest.mark.parametrize('metric', [
    'mse', METRICS.MeanSquaredError(), METRICS.MeanSquaredError(name='mine')], ids=called)
def test_masks_count_in_metrics_of_labels_without_an_axis_too(metric):
  labels, outputs = values(1, 2, 3), values(1, 2, 3, 1, seed=1)
  mask = tf.constant([[[True, True, False], [True, False, False]]])
  objective = KerasObjective('mse', [metric])
  found = objective.measured(ModelOutputs(outputs, tf.zeros([1]), [mask]), labels)
  errors = np.square(labels - outputs[..., 0])[mask]
  np.testing.assert_allclose(found[objective.measure.name], [errors.mean()], rtol=1e-5)


@pytest.mark.parametrize('metric, larger', [
    ('AUC', True), (tf.keras.metrics.MeanIoU(2), True), ('mae', False)], ids=str)
def test_which_metrics_are_the_better_the_larger_they_are(metric, larger):
  assert KerasObjective('mse', metrics=[metric]).measure.larger_is_better == larger


class Unreduced(Objective):

  def __init__(self, reduced):
    self._reduced = reduced

  def loss(self, outputs, labels):
    return self._reduced(tf.square(outputs - labels)[..., 0])


@pytest.mark.parametrize('reduced', [tf.identity, tf.reduce_mean], ids=['examples', 'scalar'])
@pytest.mark.parametrize('method, updates', [(MAML, 0), (MAML, 1), (IMAML, 1)])
def test_an_objective_gives_a_value_for_each_task(reduced, method, updates):
  """The inner loop followed the sum over examples, or divided the step size by the tasks."""
  inputs, targets = values(TASKS, EXAMPLES, 1), values(TASKS, EXAMPLES, 1, seed=1)
  maml = method(FullyConnected(1, (3,), 1, norm='None'), Unreduced(reduced), step_size=0.1,
                num_updates=updates)
  with pytest.raises(ConfigError, match='a value for each task'):
    maml.meta_gradient((inputs, targets), (inputs, targets))


def test_of_sequences_a_loss_of_keras_does():
  net = tf.keras.Sequential([tf.keras.layers.Input((5, 2)), tf.keras.layers.Dense(3)])
  task = values(TASKS, EXAMPLES, 5, 2), tf.zeros([TASKS, EXAMPLES, 5], tf.int32)
  with pytest.raises(ConfigError, match='a value for each task.*a Keras loss'):
    MAML(net, MeanCrossEntropy(), step_size=0.1, num_updates=1).meta_gradient(task, task)
  of_keras = losses.SparseCategoricalCrossentropy(from_logits=True)
  MAML(net, of_keras, step_size=0.1, num_updates=1).meta_gradient(task, task)


def test_a_class_is_no_loss():
  with pytest.raises(ConfigError, match='loss must be'):
    KerasObjective(losses.MeanSquaredError)


def test_accuracy_is_of_one_output():
  outputs = [values(1, 2, 3), values(1, 2, 3)]
  with pytest.raises(ConfigError, match='of one output'):
    KerasObjective('mse', metrics=['accuracy']).measured(outputs, outputs)
