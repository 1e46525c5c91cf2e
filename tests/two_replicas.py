"""Trains on one device, and on two logical ones with half of the tasks each.

A program of its own, since a process divides its CPU once. Prints, for each of `CASES`, the
largest difference of anything that a step changes or logs, and how the two runs ended.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorflow as tf

import maml_tf
from maml_tf.outer_step import raw
from maml_tf.training.optimizers import build_optimizer

TASKS, STEPS = 4, 4
CASES = {
    'images': dict(images=True),
    'clipped groups': dict(optimizer='sgd', gradient_clip=0.1, tasks_at_once=1),
    'reptile': dict(method=maml_tf.Reptile, optimizer='sgd'),
    'not finite': dict(bad=2)}


def model_of(method=maml_tf.MAML, images=False, optimizer='adam', bad=None, **kwargs):
  if images:
    learner = maml_tf.Convolutional((9, 8, 1), 4, 3, 'batch_norm', max_pool=False,
                                    spatial_mean=True)
    objective = maml_tf.ScaledCrossEntropy(1)
  else:
    learner, objective = (maml_tf.FullyConnected(1, (6, 5), 1, 'None'),
                          maml_tf.MeanSquaredError())
  model = method(learner, objective, step_size=0.05, num_updates=2, dtype='float64',
                 **kwargs)
  model.compile(build_optimizer(optimizer, 0.01, 'float64'))
  return model


def episodes_of(step, images=False, bad=None, **_):
  random = np.random.RandomState(step)
  support, query = (random.normal(size=(TASKS, 3, *((9, 8, 1) if images else (1,))))
                    for _ in range(2))
  labels = np.tile(np.arange(3, dtype='int32'), (TASKS, 1)) if images else support + 1
  if step == bad:
    query[-1] = np.nan   # a task of the last replica
  return tf.nest.map_structure(
      tf.constant, maml_tf.Episodes.of(support, labels, query, labels))


def train(case, strategy):
  """(model, logs)."""
  with strategy.scope():
    model = model_of(**case)
  step = tf.function(lambda episodes: strategy.run(model.train_step, args=(episodes,)),
                     autograph=False)
  size = TASKS // strategy.num_replicas_in_sync

  def shares(whole):
    def share(context):
      first = context.replica_id_in_sync_group * size
      return tf.nest.map_structure(lambda value: value[first:first + size], whole)
    return strategy.experimental_distribute_values_from_function(share)
  return model, [step(shares(episodes_of(number, **case)) if size < TASKS
                      else episodes_of(number, **case)) for number in range(STEPS)]


def numbers(model, logs, strategy):
  """Of each variable and logged value, what every replica has."""
  values = [raw(variable) for variable in model.changed_variables()]
  values += [model.latest_loss, *tf.nest.flatten(logs)]
  return [[np.asarray(one, 'float64') for one in strategy.experimental_local_results(value)]
          for value in values]


def difference(received, expected):
  """Of finite numbers, relative to the largest; the others are in the same places."""
  finite = np.isfinite(expected)
  np.testing.assert_array_equal(np.isfinite(received), finite)
  largest = np.max(np.abs(expected), initial=1e-3, where=finite)
  with np.errstate(invalid='ignore'):   # of those that are not
    errors = np.abs(received - expected)
  return float(np.max(errors, initial=0, where=finite) / largest)


def compare(case, one, two):
  alone, expected_logs = train(case, one)
  shared, logs = train(case, two)
  error = 0.0
  for [reference], each in zip(numbers(alone, expected_logs, one),
                               numbers(shared, logs, two)):
    np.testing.assert_array_equal(each[0], each[-1])
    error = max(error, difference(each[0], reference))
  return dict(error=error, iterations=int(tf.convert_to_tensor(shared.optimizer.iterations)),
              diverged=[bool(tf.convert_to_tensor(model.diverged))
                        for model in (alone, shared)])


if __name__ == '__main__':
  [cpu] = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  json.dump({name: compare(case, one, two) for name, case in CASES.items()}, sys.stdout)
