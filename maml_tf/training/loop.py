"""`fit`, by Keras on one device, and by a loop of its own under a `tf.distribute` strategy.

Keras's fails there in several processes from TensorFlow 2.16 on. This loop serves all
versions: the same callbacks, around executions of the same steps.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.data_generator import DataGenerator, Part
from maml_tf.episodes import Episodes
from maml_tf.meta_learner import MetaLearner
from maml_tf.numpy_calls import as_raised
from maml_tf.replicas import Replicas

# By which processes tell each other that they stop, in the one all-reduce of a step.
STOP = 'stop'

# (batches, whether this process wants to stop, steps) -> logs of the last step.
Execution = Callable[[Any, tf.Tensor, tf.Tensor], Dict[str, tf.Tensor]]


class Fit:
  """Trains models on one sequence of meta-batches.

  Args:
    generator: of whole meta-batches; of these each process makes its own tasks only.
    steps_per_execution: between two calls of the callbacks; as models are compiled with.
    jit_compile: by XLA: the meta-gradient of each replica, and not what they exchange.
  """

  def __init__(self, generator: DataGenerator, steps_per_execution: int,
               jit_compile: bool = False):
    self._generator = generator
    self._steps = steps_per_execution
    self._jit_compile = jit_compile
    self._executions: Dict[int, Execution] = {}

  def __call__(self, model: MetaLearner, first: int, count: int,
               callbacks: Sequence[tf.keras.callbacks.Callback]) -> None:
    """Meta-batches `first` to `first + count - 1`.

    Where a callback sets `model.stop_training` in one process, all end after the next
    execution, which is the same one in all of them.

    Args:
      model: compiled; under a strategy: made and compiled in its scope.
      first, count: of the meta-batches.
      callbacks: of Keras. Under a strategy they get the begin and end of training and of
        executions, not of epochs.

    Raises:
      UserError: of the source of the episodes, as `DataError` where a file was changed.
    """
    replicas = Replicas.of(model)
    with as_raised():
      if replicas.are_several:
        self._fit(model, replicas, first, count, callbacks)
      else:
        model.fit(self._generator.dataset(first, count), callbacks=list(callbacks),
                  verbose=0, shuffle=False)

  def _fit(self, model: MetaLearner, replicas: Replicas, first: int, count: int,
           callbacks: Sequence[tf.keras.callbacks.Callback]) -> None:
    model.stop_training = False
    watchers = tf.keras.callbacks.CallbackList(
        list(callbacks), add_history=False, add_progbar=False, model=model, verbose=0,
        epochs=1, steps=count)
    own = Part(replicas.worker, replicas.workers)
    batches = iter(self._generator.dataset(first, count, share=own))
    execute = self._execution(model, replicas)
    watchers.on_train_begin()
    for start in range(0, count, self._steps):
      steps = min(self._steps, count - start)
      watchers.on_train_batch_begin(start)
      logs = execute(batches, tf.constant(model.stop_training), tf.constant(steps))
      logs = {name: value.numpy() for name, value in logs.items()}
      asked = bool(logs.pop(STOP) > 0)   # by any process
      watchers.on_train_batch_end(start + steps - 1, logs)
      if asked or (replicas.workers == 1 and model.stop_training):
        break
    watchers.on_train_end()

  def _execution(self, model: MetaLearner, replicas: Replicas) -> Execution:
    """Made once for a model."""
    if id(model) not in self._executions:
      self._executions[id(model)] = execution(model, replicas, self._jit_compile)
    return self._executions[id(model)]


def execution(model: MetaLearner, replicas: Replicas, jit_compile: bool = False) -> Execution:
  """A function of as many steps as it is told."""
  if not model.in_graphs:
    return _eager_execution(model, replicas)
  gradient = _compiled_gradient(model) if jit_compile else None

  def step(episodes: Episodes, stop: tf.Tensor) -> Dict[str, tf.Tensor]:
    with model.outer_step.within({STOP: stop}, gradient):
      return model.train_step(episodes)

  # A function of its own, so that it is traced once.
  @tf.function(autograph=False)
  def one(batches, stop):
    stop = tf.cast(stop, model.meta_parameters.dtype)
    return replicas.run(step, next(batches), stop)

  @tf.function(autograph=False)
  def several(batches, stop, steps):
    _, logs = tf.while_loop(lambda done, _: done < steps,
                            lambda done, _: (done + 1, one(batches, stop)),
                            (tf.constant(1), one(batches, stop)))
    return logs
  return several


def _eager_execution(model: MetaLearner, replicas: Replicas) -> Execution:
  """Of a model that shares out its tasks itself."""
  def one_after_the_other(batches, stop, steps):
    for _ in range(int(steps)):
      logs = model.train_step(next(batches))
    [stops] = replicas.combined([np.array(int(stop), np.int64)])
    return {**logs, STOP: tf.constant(stops)}
  return one_after_the_other


def _compiled_gradient(model: MetaLearner) -> Callable:
  @tf.function(autograph=False, jit_compile=True)
  def compiled(parameters, episodes):
    return model.meta_gradient(episodes, parameters=parameters)
  return lambda episodes: compiled(model.meta_parameters.tensors(), episodes)
