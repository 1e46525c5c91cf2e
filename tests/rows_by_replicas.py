"""Trains a row of the conformance table on one device, and on two logical ones; in a process
of its own (see `forked`), since it divides its CPU once."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf
from test_conformance import IMAGE, ROWS, SHOTS, TASKS, WAYS, model_of
from two_replicas import difference, numbers

from maml_tf.episodes import Episodes
from maml_tf.replicas import Replicas
from maml_tf.training.optimizers import build_optimizer

STEPS = 3
# Larger ones magnify rounding a hundred times in three steps of the second order.
LEARNING_RATE = 0.001


def episodes_of(step):
  random = np.random.RandomState(step)
  support, query = (random.uniform(size=(TASKS, WAYS * SHOTS, *IMAGE)) for _ in range(2))
  labels = np.stack([random.permutation(np.repeat(np.arange(WAYS, dtype='int32'), SHOTS))
                     for _ in range(TASKS)])
  return tf.nest.map_structure(tf.constant, Episodes.of(support, labels, query, labels))


def train(row, strategy):
  """Numbers of the variables and the logs in each replica, and results of tasks."""
  replicas = Replicas(strategy)
  with replicas.scope():
    model = model_of(row, lambda learner, seed: {})
    model.compile(build_optimizer('sgd', LEARNING_RATE, 'float64'))
  step = tf.function(lambda episodes: strategy.run(model.train_step, args=(episodes,)),
                     autograph=False)
  size = TASKS // replicas.number

  def shares(whole):
    if replicas.number == 1:
      return whole
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.nest.map_structure(
            lambda value: value[context.replica_id_in_sync_group * size:][:size], whole))
  before = model.state()
  logs = [step(shares(episodes_of(number))) for number in range(STEPS)]
  assert any(np.any(value != before[name]) for name, value in model.state().items())
  results = replicas.map(model.results_function(3 if model.has_inner_loop else 0),
                         [episodes_of(STEPS), episodes_of(STEPS + 1)])
  return numbers(model, logs, strategy), tf.nest.flatten(results)


def compare(path) -> int:
  """Writes {row: the largest difference, or what went wrong}."""
  [cpu] = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  found = {}
  for row in ROWS:
    try:
      found[row] = _error(train(row, one), train(row, two))
    except Exception as error:   # noqa: BLE001  of one row; the others are told all the same
      found[row] = repr(error)
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(found, file)
  return 0


def _error(alone, shared) -> float:
  (expected, results), (received, others) = alone, shared
  errors = [difference(other, one) for one, other in zip(results, others)]
  for [reference], each in zip(expected, received):
    np.testing.assert_array_equal(each[0], each[-1])
    errors.append(difference(each[0], reference))
  assert len(received) == len(expected) and len(others) == len(results)
  return max(errors)
