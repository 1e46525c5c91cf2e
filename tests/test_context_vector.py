"""The context vector: z behind the input, the only thing that the inner loop changes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from finite_differences import assert_is_gradient, gradient_of, meta_loss

from maml_tf import experiment
from maml_tf.config import resolve
from maml_tf.errors import ConfigError
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners import Convolutional, FullyConnected, WithContext
from maml_tf.meta_learners.context_vector import ContextVector
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

WAYS, SHOTS, TASKS = 3, 2, 2
IMAGE, SIZE = (9, 8, 2), 3
PIXELS = int(np.prod(IMAGE))


def convolutional(norm='batch_norm'):
  net = Convolutional((9, 8, 2 + SIZE), 4, WAYS, norm, max_pool=False, spatial_mean=True)
  return WithContext(net, IMAGE, SIZE)


def fully_connected(norm='layer_norm'):
  return WithContext(FullyConnected(PIXELS + SIZE, (7, 6), WAYS, norm), (PIXELS,), SIZE)


def sinusoid():
  return WithContext(FullyConnected(1 + SIZE, (8, 8), 1, 'None'), (1,), SIZE)


def model_of(learner, objective, **kwargs):
  return ContextVector(learner, objective,
                       **{**dict(step_size=0.3, num_updates=2, dtype='float64'), **kwargs})


@pytest.fixture
def problem(make_classification, make_regression, generic_values):
  """A function: a learner -> a model with generic parameters, and episodes."""
  def make(learner, **kwargs):
    regression = learner.parameter_specs[-2].shape == (1,)   # outputs
    model = model_of(learner, MeanSquaredError() if regression
                     else ScaledCrossEntropy(SHOTS), **kwargs)
    model.meta_parameters.assign(generic_values(learner, seed=1))
    return model, (make_regression(TASKS, 5) if regression
                   else make_classification(TASKS, WAYS, SHOTS, IMAGE))
  return make


@pytest.mark.parametrize('make', [convolutional, fully_connected, sinusoid])
def test_its_gradient_is_the_derivative_of_the_meta_loss(problem, make):
  model, episodes = problem(make())
  gradients = gradient_of(model, episodes)
  assert np.abs(gradients['context']).max() > 1e-4
  assert_is_gradient(gradients, meta_loss(model, episodes))


def test_first_order_is_not_taken_for_second_order(problem):
  model, episodes = problem(convolutional(), first_order=True)
  with pytest.raises(AssertionError, match='all parameters'):
    assert_is_gradient(gradient_of(model, episodes), meta_loss(model, episodes))


class Joined(tf.keras.layers.Layer):
  """The context of a Keras model, as a refusal advises."""

  def build(self, shape):
    self.context = self.add_weight(name='context', shape=(SIZE,), initializer='zeros')

  def call(self, inputs):
    context = tf.broadcast_to(self.context, [tf.shape(inputs)[0], SIZE])
    return tf.concat([inputs, context], axis=-1)


def test_of_a_keras_model_it_is_a_layer_that_adapts(make_regression, generic_values):
  net = tf.keras.Sequential([
      tf.keras.layers.Input((1,), dtype='float64'), Joined(name='joined', dtype='float64'),
      *(tf.keras.layers.Dense(8, 'relu', dtype='float64') for _ in range(2)),
      tf.keras.layers.Dense(1, dtype='float64')])
  with pytest.raises(ConfigError, match='joins to its inputs.*adapt=that layer'):
    model_of(net, 'mse')
  model, episodes = model_of(sinusoid(), MeanSquaredError()), make_regression(TASKS, 5)
  values = generic_values(model.learner)
  model.meta_parameters.assign(values)
  net.set_weights([values.pop('context'), *values.values()])
  keras = MAML(KerasLearner(net, adapt='joined'), 'mse', 0.3, 2)
  _, gradients = keras.meta_gradient(*episodes)
  expected = model.meta_gradient(episodes)[1]
  for received, name in zip(gradients, ['context', *values]):
    np.testing.assert_allclose(received, expected[name], rtol=1e-9, atol=1e-13)


def test_recomputed_inner_steps_give_the_same_gradient(problem):
  model, episodes = problem(convolutional())
  recomputing, _ = problem(convolutional(), recompute_inner_steps=True)
  expected = gradient_of(model, episodes)
  for name, value in gradient_of(recomputing, episodes).items():
    np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize('make', [convolutional, fully_connected, sinusoid])
def test_the_inner_loop_changes_z_alone(problem, make):
  model, episodes = problem(make())
  theta = model.meta_parameters.tensors()
  *_, adapted = model.adaptation(theta, episodes, 2, first_order=True)
  assert model.learner.adapted_names == ('context',)
  for name, value in theta.items():
    if name != 'context':
      assert adapted[name] is value
  each = adapted['context'].numpy()
  assert each.shape == (TASKS, *theta['context'].shape)
  assert np.abs(each[0] - each[1]).max() > 1e-6


@pytest.mark.parametrize('per_task', [False, True])
def test_z_is_concatenated_channel_wise(generic_values, per_task):
  learner = convolutional()
  values = generic_values(learner)
  random = np.random.RandomState(3)
  images = random.uniform(size=(TASKS, 4, *IMAGE))
  contexts = random.normal(size=(TASKS, 9, 8, SIZE))
  if not per_task:
    contexts[:] = contexts[0]
  net = Convolutional((9, 8, 2 + SIZE), 4, WAYS, 'batch_norm', max_pool=False,
                      spatial_mean=True)
  expected = net({name: tf.constant(value) for name, value in values.items()},
                 tf.constant(np.concatenate(
                     [images, np.repeat(contexts[:, np.newaxis], 4, axis=1)], axis=-1)))
  values['context'] = contexts if per_task else contexts[0]
  parameters = {name: tf.constant(value) for name, value in values.items()}
  for inputs in (images, images.reshape(TASKS, 4, -1)):
    np.testing.assert_allclose(learner(parameters, tf.constant(inputs)), expected, rtol=1e-13)


def test_batch_norm_removes_a_context_without_positions(generic_values):
  """Why it is a map for images, and refused in fully connected nets with batch norm."""
  learner = fully_connected('batch_norm')
  values = generic_values(learner)
  inputs = tf.constant(np.random.RandomState(3).uniform(size=(TASKS, 6, PIXELS)))
  def outputs(context):
    return learner({name: tf.constant(value) for name, value in
                    {**values, 'context': np.full(SIZE, context)}.items()}, inputs)
  np.testing.assert_allclose(outputs(0.0), outputs(1.0), rtol=1e-9)


@pytest.mark.parametrize('given, kernel, context', [
    (dict(datasource='omniglot'), ('conv1/kernel', (3, 3, 2, 64)), (28, 28, 1)),
    (dict(datasource='miniimagenet', context_size=2), ('conv1/kernel', (3, 3, 5, 32)),
     (84, 84, 2)),
    (dict(datasource='omniglot', conv=False, norm='None', context_size=4),
     ('dense1/kernel', (788, 256)), (4,)),
    (dict(datasource='sinusoid'), ('dense1/kernel', (6, 40)), (5,))])
def test_the_nets_of_the_configuration(given, kernel, context):
  learner = experiment.build_learner(resolve(dict(method='context_vector', **given)))
  shapes = {spec.name: spec.shape for spec in learner.parameter_specs}
  assert shapes[kernel[0]] == kernel[1]
  assert shapes['context'] == context
  assert not learner.initial_values(0)['context'].any()


def test_a_net_without_a_context_is_refused():
  with pytest.raises(ConfigError, match='needs a net of the class WithContext'):
    model_of(FullyConnected(1, (8,), 1, 'None'), MeanSquaredError())
