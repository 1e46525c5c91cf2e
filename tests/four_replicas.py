"""Trains and evaluates by `Fit` and `Evaluator` on one device, or on logical ones.

In processes of their own (see `forked`), since each divides its CPU once.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import maml_tf
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.outer_step import raw
from maml_tf.training.loop import Fit
from maml_tf.training.optimizers import build_optimizer

TASKS, STEPS, EVALUATED = 4, 4, 7


def keras_model():
  """With dropout, whose masks are a task's own."""
  return tf.keras.Sequential([
      tf.keras.Input((1,), dtype='float64'),
      tf.keras.layers.Dense(6, 'tanh', dtype='float64'),
      tf.keras.layers.Dropout(0.5, dtype='float64'),
      tf.keras.layers.Dense(1, dtype='float64')])


def sinusoids(method=maml_tf.MAML, context=0, **kwargs):
  net = maml_tf.FullyConnected(1 + context, (6, 5), 1, 'None')
  if context:
    net = maml_tf.WithContext(net, (1,), context)
  return method(net, maml_tf.MeanSquaredError(), step_size=0.05, num_updates=2,
                dtype='float64', **kwargs)


def with_keras():
  tf.keras.utils.set_random_seed(0)
  return maml_tf.MAML(keras_model(), 'mse', step_size=0.05, num_updates=1)


CASES = {
    'MAML': sinusoids,
    'XLA, three steps an execution': sinusoids,
    'XLA, groups of tasks': lambda: sinusoids(tasks_at_once=1),
    'Reptile': lambda: sinusoids(maml_tf.Reptile),
    'ANIL': lambda: sinusoids(maml_tf.ANIL),
    'context vector': lambda: sinusoids(maml_tf.ContextVector, context=2),
    'first order, clipped': lambda: sinusoids(first_order=True, gradient_clip=0.1),
    'a Keras model': with_keras,
}


class Logs(tf.keras.callbacks.Callback):

  def __init__(self):
    super().__init__()
    self.seen = []

  def on_train_batch_end(self, batch, logs=None):
    self.seen.append([batch, *(float(logs[name]) for name in sorted(logs))])


def train(name, strategy):
  """Everything that must be the same, as arrays."""
  compiled = name.startswith('XLA')
  steps = 3 if compiled else 1
  with strategy.scope():
    model = CASES[name]()
    model.compile(build_optimizer('adam', 0.01, 'float64'), jit_compile=compiled,
                  steps_per_execution=steps)
  source = maml_tf.SinusoidSource(3, 4, dtype='float64')
  logs = Logs()
  generator = maml_tf.DataGenerator(source, TASKS, seed=1)
  fit = Fit(generator, steps, compiled)
  fit(model, 0, STEPS - 1, [logs])
  fit(model, STEPS - 1, 1, [])   # goes on, in the graph that there is
  results = Evaluator(model, maml_tf.DataGenerator(source, 2, 0, 'val'), EVALUATED, 2)()
  variables = [raw(variable) for variable in model.changed_variables()]
  return [np.asarray(logs.seen), *tf.nest.flatten(results),
          *(np.asarray(one, 'float64') for variable in variables
            for one in strategy.experimental_local_results(variable)[-1:])]


def train_on(replicas, path, names=None) -> int:
  """On so many logical devices; 1: without a strategy. Saves all arrays by case."""
  [cpu] = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
  strategy = (tf.distribute.get_strategy() if replicas == 1 else
              tf.distribute.MirroredStrategy([f'CPU:{n}' for n in range(replicas)]))
  arrays = {f'{name}/{number}': array for name in names or CASES
            for number, array in enumerate(train(name, strategy))}
  np.savez(path, **arrays)
  return 0
