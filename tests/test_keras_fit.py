"""What `fit` and `evaluate` say of what they cannot do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from maml_tf import MAML
from maml_tf.errors import ConfigError, NotFiniteError
from maml_tf.keras_fit import require_finite_steps
from maml_tf.learners import FullyConnected
from maml_tf.meta_learners import WITHOUT_INNER_LOOP, meta_learner_class
from maml_tf.objectives import MeanCrossEntropy


def diverged(method):
  of_method = (dict(shots=1) if method in WITHOUT_INNER_LOOP
               else dict(step_size=0.1, num_updates=1))
  model = meta_learner_class(method)(FullyConnected(2, (3,), 2, 'None'), MeanCrossEntropy(),
                                     **of_method)
  model.diverged.assign(True)
  return model


@pytest.mark.parametrize('method, expected', [
    ('maml', 'Lower step_size or the learning rate of the optimizer, set gradient_clip, or '),
    ('reptile', 'Lower step_size or the learning rate of the optimizer, or '),
    ('prototypical', 'Lower the learning rate of the optimizer, set gradient_clip, or ')])
def test_what_is_advised_are_arguments_of_the_method(method, expected):
  with pytest.raises(NotFiniteError, match=expected):
    require_finite_steps(diverged(method))


def compiled():
  model = MAML(FullyConnected(2, (3,), 2, 'None'), MeanCrossEntropy(), step_size=0.1,
               num_updates=1)
  model.compile(tf.keras.optimizers.SGD(0.1))
  return model


def tasks(count=4):
  pair = np.ones((count, 3, 2), np.float32), np.zeros((count, 3), np.int32)
  return pair, pair


@pytest.mark.parametrize('name', ['class_weight', 'sample_weight'])
def test_weights_are_those_of_a_loss_of_one_s_own(name):
  given = {0: 1.0} if name == 'class_weight' else np.ones(4)
  with pytest.raises(ConfigError, match=f'no {name} here.*loss of your own'):
    compiled().fit(*tasks(), batch_size=4, verbose=0, **{name: given})


def test_nor_does_evaluate_take_them():
  with pytest.raises(ConfigError, match='no sample_weight here'):
    compiled().evaluate(*tasks(), 4, 0, np.ones(4))


def test_after_an_error_it_is_evaluated_as_before():
  model = compiled()
  data = tf.data.Dataset.from_tensors(tasks())
  with pytest.raises(ConfigError, match='Received: tuple of 3'):
    model.evaluate(tf.data.Dataset.from_tensors((*tasks(), np.ones(4))), verbose=0)
  again = model.evaluate(data, verbose=0)
  np.testing.assert_array_equal(again, compiled_like(model).evaluate(data, verbose=0))


def compiled_like(model):
  other = compiled()
  other.assign_state(model.state())
  return other


def test_labels_may_hold_weights():
  net = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(3)])

  def loss(labels, outputs):
    classes, weights = labels
    return weights * tf.keras.losses.sparse_categorical_crossentropy(
        classes, outputs, from_logits=True)
  maml = MAML(net, loss, step_size=0.1, num_updates=0)
  random = np.random.RandomState(0)
  inputs, classes = random.normal(size=(1, 4, 2)), random.randint(0, 3, (1, 4))
  def value(weights):
    pair = inputs, (classes, np.array([weights], np.float32))
    return float(maml.task_results((pair, pair), 0).query['loss'][0, 0])
  each = [value(row) for row in np.eye(4)]
  assert value([1.0, 2.0, 0.0, 3.0]) == pytest.approx(
      each[0] + 2 * each[1] + 3 * each[3], rel=1e-5)


def test_two_replicas_of_keras_s_own_loop_say_what_one_does(forks, tmp_path):
  process = forks.start('logical_devices:fit', tmp_path / 'said.txt', str(tmp_path / 'both'))
  assert process.wait() == 0, process.output_text()
  one, two = json.loads((tmp_path / 'both').read_text(encoding='utf-8'))
  assert one.keys() == two.keys() and 'accuracy' in one
  for name, values in one.items():
    assert two[name] == pytest.approx(values, rel=1e-5), name
