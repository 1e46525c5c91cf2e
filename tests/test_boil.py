"""BOIL against plain eager code, and the head in the inner loop."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners import Convolutional, FullyConnected
from maml_tf.meta_learners.anil import ANIL
from maml_tf.meta_learners.boil import BOIL
from maml_tf.meta_learners.maml import MAML
from maml_tf.objectives import MeanSquaredError, ScaledCrossEntropy

TASKS, ALPHA = 3, 0.07


def net(body, head, inputs):
  return tf.nn.relu(inputs @ body[0] + body[1]) @ head[0] + head[1]


def mean_squared(outputs, labels):
  return tf.reduce_mean(tf.square(outputs - labels))


@pytest.mark.parametrize('updates, first_order', [(1, False), (3, False), (2, True)])
def test_it_is_plain_eager_code(make_regression, generic_values, updates, first_order):
  episodes = make_regression(TASKS, 4, 2)
  model = BOIL(FullyConnected(2, (5,), 1, 'None'), MeanSquaredError(), step_size=ALPHA,
               num_updates=updates, first_order=first_order, dtype='float64')
  model.meta_parameters.assign(generic_values(model.learner))
  theta = [tf.Variable(value) for value in model.meta_parameters.arrays().values()]
  total, gradient = 0, [0] * 4
  for task in range(TASKS):
    with tf.GradientTape() as outer:
      body, head = [tf.identity(value) for value in theta[:2]], theta[2:]
      for _ in range(updates):
        with tf.GradientTape() as inner:
          inner.watch(body)
          loss = mean_squared(net(body, head, episodes.support.inputs[task]),
                              episodes.support.labels[task])
        slopes = inner.gradient(loss, body)
        if first_order:
          slopes = [tf.stop_gradient(slope) for slope in slopes]
        body = [value - ALPHA * slope for value, slope in zip(body, slopes)]
      loss = mean_squared(net(body, head, episodes.query.inputs[task]),
                          episodes.query.labels[task])
    total += loss / TASKS
    gradient = [one + other / TASKS
                for one, other in zip(gradient, outer.gradient(loss, theta))]
  means, gradients = model.meta_gradient(episodes)
  np.testing.assert_allclose(means['loss'], total, rtol=1e-12)
  for received, expected in zip(gradients.values(), gradient):
    np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-13)


def test_the_head_stays_as_it_is_and_the_body_does_not(make_classification):
  model = BOIL(Convolutional((9, 8, 1), 4, 3, 'batch_norm', max_pool=False,
                             spatial_mean=True), ScaledCrossEntropy(2), step_size=0.3,
               num_updates=2)
  episodes = make_classification(TASKS, 3, 2, (9, 8, 1), dtype='float32')
  theta = model.meta_parameters.tensors()
  *_, adapted = model.adaptation(theta, episodes, 2, first_order=True)
  assert adapted['output/kernel'] is theta['output/kernel']
  assert adapted['conv1/kernel'].shape == (TASKS, *theta['conv1/kernel'].shape)
  assert np.abs(adapted['conv1/kernel'] - theta['conv1/kernel']).max() > 1e-4


@pytest.mark.parametrize('kind, moving', [(BOIL, ['dense1']), (ANIL, ['output'])])
def test_learned_step_sizes_of_what_does_not_adapt_stay(kind, moving, make_regression):
  """As their docstrings say."""
  model = kind(FullyConnected(2, (5,), 1, 'None'), MeanSquaredError(), step_size=ALPHA,
               num_updates=2, learned_step_sizes='layer', dtype='float64')
  _, gradients = model.meta_gradient(make_regression(TASKS, 4, 2))
  found = [name for name, value in gradients.items() if name.startswith('step_size/')
           and value != 0]
  assert found == [f'step_size/{name}' for name in moving]


def layered(nested):
  """Whose last layer Keras knows; of the nested one its own last layer is not asked for."""
  layers = [tf.keras.layers.Dense(4, 'relu', name='body'),
            tf.keras.layers.Dense(1, name='head')]
  net = tf.keras.Sequential([tf.keras.Input((2,)), *layers])
  return tf.keras.Sequential([tf.keras.Input((2,)), net, tf.keras.layers.Flatten()]
                             ) if nested else net


@pytest.mark.parametrize('kind, adapt, message', [
    (BOIL, 'head', "BOIL leaves the last layer alone, 'head'. Received: .*head/kernel"),
    (BOIL, ['body', 'head/bias'], 'give all layers but that one'),
    (ANIL, 'body', "ANIL adapts the last layer, 'head'. Received: .*body/kernel"),
    (ANIL, 'head', None), (ANIL, '*head/kernel', None), (BOIL, 'body', None)])
def test_a_chosen_part_is_that_of_the_method(kind, adapt, message, make_regression):
  """Or one would be the other, under its name."""
  def model_of(net):
    return kind(KerasLearner(net, adapt=adapt), 'mse', step_size=0.1, num_updates=1)
  if message is not None:
    with pytest.raises(ConfigError, match=message):
      model_of(layered(nested=False))
    return
  episodes = make_regression(TASKS, 4, 2, dtype='float32')
  for nested in (False, True):
    means, _ = model_of(layered(nested)).meta_gradient(episodes)
    assert np.isfinite(means['loss'])


def test_what_has_no_head_is_refused_with_what_to_do_instead(make_regression):
  keras = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(4, 'relu'),
                               tf.keras.layers.Dense(1)])
  common = dict(step_size=0.1, num_updates=1)
  with pytest.raises(ConfigError, match='adapt=all layers but the last'):
    BOIL(keras, 'mse', **common)
  model = MAML(KerasLearner(keras, adapt=keras.layers[:1]), 'mse', **common)
  means, _ = model.meta_gradient(make_regression(TASKS, 4, 2, dtype='float32'))
  assert np.isfinite(means['loss'])
