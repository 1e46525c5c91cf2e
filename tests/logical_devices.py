"""`main.py` on logical devices, in a process of its own (see `forked`)."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

from faults import run


def train(devices, arguments, interval) -> int:
  """On so many CPUs, `mirrored`; 1: without a strategy."""
  if devices == 1:
    return run(arguments, interval)
  divide(devices)
  return run([*arguments, '--distribution_strategy=mirrored'], interval)


def divide(devices) -> None:
  import tensorflow as tf
  [cpu] = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * devices)


def fit(path) -> int:
  """By Keras's own loop, on one device and on two: writes both histories and evaluations."""
  import numpy as np
  import tensorflow as tf

  import maml_tf
  divide(2)
  random = np.random.RandomState(0)
  tasks = maml_tf.tasks_from_arrays(random.normal(size=(30, 4)), np.repeat(range(5), 6), 3, 2,
                                    3, meta_batch_size=4)

  def fitted(strategy):
    with strategy.scope() if strategy else contextlib.nullcontext():
      tf.keras.utils.set_random_seed(0)
      net = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(3)])
      maml = maml_tf.MAML(net, tf.keras.losses.SparseCategoricalCrossentropy(
          from_logits=True), step_size=0.1, num_updates=1)
      maml.compile(tf.keras.optimizers.SGD(0.1), metrics=['accuracy'])
    history = maml.fit(tasks, steps_per_epoch=2, validation_data=tasks.take(1), verbose=0)
    return {**history.history, 'evaluated': maml.evaluate(tasks.take(1), verbose=0)}

  def uneven(strategy):
    """Of a number of tasks that is not known, and of which one replica has none at the end."""
    inputs = np.random.RandomState(1).normal(size=(5, 3, 1)).astype('float32')
    batch = inputs, 2 * inputs
    few = tf.data.Dataset.from_tensor_slices((batch, batch)).batch(4)
    with strategy.scope() if strategy else contextlib.nullcontext():
      maml = maml_tf.MAML(maml_tf.FullyConnected(1, (4,), 1, norm='None'),
                          maml_tf.MeanSquaredError(), step_size=0.05, num_updates=1)
      # Far below the gradient's own: a bound of each replica's share would be another one.
      maml.compile(tf.keras.optimizers.SGD(5., global_clipnorm=0.001))
    maml.fit(few, verbose=0, shuffle=False)
    return {'uneven': next(iter(maml.state().values())).ravel().tolist(),
            'uneven, evaluated': maml.evaluate(few, verbose=0)}
  two = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
  both = [{**fitted(strategy), **uneven(strategy)} for strategy in (None, two)]
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(both, file)
  return 0


def run_on(forks, folder, devices, arguments, iterations, interval):
  """Such a run up to `iterations`, in a process of `forks`; what has its `folder`."""
  process = forks.start(
      'logical_devices:train', f'{folder}.txt', devices,
      [*arguments, f'--metatrain_iterations={iterations}', f'--logdir={folder}'], interval)
  assert process.wait() == 0, process.output_text()
  return SimpleNamespace(folder=next(path for path in folder.iterdir() if path.is_dir()))
