"""Dropout and noise of a model, drawn by where they stand: not by what was drawn before.

A mask depends on the seed, the outer step, the task, the pass over the model in the inner
loop, and the layer. So every task has its own, and a resumed run repeats them.
"""

from __future__ import annotations

from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import tensorflow as tf

from maml_tf.episodes import Episodes, leading_sizes
from maml_tf.keras_models.functional_call import KERAS3


class Seeded(NamedTuple):
  """Inputs of a step of training, in which a model drops out.

  Attributes:
    inputs: nest of `[tasks, examples, ...]`.
    seeds: `[tasks, examples, 2]`, int32, the same for all examples of a task, so that it
      can be gathered and put together like inputs.
  """
  inputs: Any
  seeds: tf.Tensor


class SeededPass(NamedTuple):
  """`Seeded`, of a pass whose number is said and not counted.

  Attributes:
    inputs, seeds: as of `Seeded`.
    numbers: `[tasks, examples]`, int32, all the same.
  """
  inputs: Any
  seeds: tf.Tensor
  numbers: tf.Tensor


def seeded(episodes: Episodes, seed: tf.Tensor, replica: int = 0) -> Episodes:
  """`episodes` whose inputs are `Seeded`.

  Args:
    seed: `[2]`, int32, of the outer step.
    replica: whose tasks these are: a task has the same seed whoever computes it.
  """
  [tasks] = leading_sizes(episodes, axes=1)
  of_tasks = tf.map_fn(lambda task: fold_in(seed, replica * tasks + task), tf.range(tasks),
                       fn_output_signature=tf.TensorSpec([2], tf.int32))

  def with_seeds(batch):
    _, examples = leading_sizes(batch)
    seeds = tf.tile(of_tasks[:, tf.newaxis], [1, examples, 1])
    return batch._replace(inputs=Seeded(batch.inputs, seeds))
  return Episodes(with_seeds(episodes.support), with_seeds(episodes.query))


def of_pass(inputs: Any, number) -> Any:
  """`inputs`, over which the model has the same masks in all passes: those of this number.

  Passes are counted while a graph is traced, so that those of a loop would be one; and who
  takes several derivatives of one function needs one function.

  Args:
    inputs: may be `Seeded`; anything else stays as it is.
    number: an integer or a scalar tensor. What is counted begins at 1.
  """
  if not isinstance(inputs, (Seeded, SeededPass)):
    return inputs
  examples, seeds = inputs[:2]
  return SeededPass(examples, seeds,
                    tf.fill(tf.shape(seeds)[:-1], tf.cast(number, tf.int32)))


def unseeded(inputs: Any) -> Tuple[Any, Optional[tf.Tensor]]:
  """What the model is given for one task, and the seed of the pass; None: no dropout."""
  if not isinstance(inputs, SeededPass):
    return inputs, None
  return inputs.inputs, fold_in(inputs.seeds[0], inputs.numbers[0])


def fold_in(seed: tf.Tensor, number) -> tf.Tensor:
  """Another seed for each number; `[2]`."""
  return tf.random.experimental.stateless_fold_in(seed, number, alg='philox')


def is_random(layer) -> bool:
  """Whether Keras gives the layer random numbers."""
  return hasattr(layer, 'seed_generator') if KERAS3 else hasattr(layer, '_random_generator')


def generators(layers: List, seed: tf.Tensor) -> Iterator[Tuple[Any, str, Any]]:
  """(layer, attribute, value): what Keras 2 layers are to draw from; see `attributes`.

  The attribute is the only way to it, and not public; Keras 2.15 is frozen.
  """
  if KERAS3:
    return
  for index, layer in enumerate(layers):
    if is_random(layer):
      yield layer, '_random_generator', StatelessGenerator(fold_in(seed, index))


def seed_states(variables: List, seed: tf.Tensor) -> Iterator[Tuple[Any, tf.Tensor]]:
  """(variable, value) of the seeds that Keras 3 keeps as variables."""
  if not KERAS3:
    return
  for index, variable in enumerate(variables):
    if is_seed(variable):
      state = tf.cast(fold_in(seed, index), tf.int64) & 0x7fffffff
      yield variable, tf.cast(state, variable.dtype)


def is_seed(variable) -> bool:
  return getattr(variable, 'path', '').endswith('seed_generator_state')


class StatelessGenerator:
  """In place of `keras.backend.RandomGenerator` of Keras 2: the same methods.

  Args:
    seed: `[2]`, int32.
  """

  def __init__(self, seed: tf.Tensor):
    self._seed = seed
    self._draws = 0

  def random_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None):
    return tf.random.stateless_normal(shape, self._next(), mean, stddev, _floats(dtype))

  def truncated_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, nonce=None):
    return tf.random.stateless_truncated_normal(shape, self._next(), mean, stddev,
                                                _floats(dtype))

  def random_uniform(self, shape, minval=0.0, maxval=None, dtype=None, nonce=None):
    dtype = _floats(dtype)
    if maxval is None and dtype.is_floating:
      maxval = 1.0
    return tf.random.stateless_uniform(shape, self._next(), minval, maxval, dtype)

  def dropout(self, inputs, rate, noise_shape=None):
    return tf.nn.experimental.stateless_dropout(inputs, rate, self._next(),
                                                noise_shape=noise_shape)

  def make_seed_for_stateless_op(self):
    return self._next()

  def _next(self) -> tf.Tensor:
    self._draws += 1
    return fold_in(self._seed, self._draws)


def _floats(dtype) -> tf.DType:
  return tf.as_dtype(dtype or tf.keras.backend.floatx())
