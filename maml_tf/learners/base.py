"""What every learner is: a list of parameters and a pure function of them.

A learner holds no variables. Adapted parameters must be tensors that flow
through the forward pass: assigning them to variables would cut the gradient
that MAML takes through the inner loop.
"""

from __future__ import annotations

import abc
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.learners import task_ops

HEAD = 'output'   # the last layer of every net, which is linear

Parameters = Dict[str, tf.Tensor]


class ParameterSpec(NamedTuple):
  """One parameter of a learner.

  Attributes:
    name: unique within the learner, like 'conv1/kernel'.
    shape: without a task axis.
    initializer: a function of a seed that returns a Keras initializer.
    adapted: whether the inner loop changes it. False for the offsets and scales
      of normalisations, which are meta-learned only (as in the TF1 code).
  """
  name: str
  shape: Tuple[int, ...]
  initializer: Callable[[int], tf.keras.initializers.Initializer]
  adapted: bool = True


class Learner(abc.ABC):
  """A net as a pure function of its parameters.

  Every parameter comes in one of two forms, told apart by its rank: shared by
  all tasks, `shape`, or one copy per task, `[tasks, *shape]`.
  """

  _mixed_precision = False

  @property
  @abc.abstractmethod
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    """The parameters, in the order in which they are stored."""

  @abc.abstractmethod
  def features(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None) -> tf.Tensor:
    """What the head sees, `[tasks, examples, features]`; arguments as of `__call__`."""

  def head(self, parameters: Mapping[str, tf.Tensor], features: tf.Tensor) -> tf.Tensor:
    """The outputs for `features`: `[tasks, examples, outputs]`."""
    return task_ops.linear(features, parameters, HEAD, self._mixed_precision)

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None) -> tf.Tensor:
    """The outputs of every task's examples.

    Args:
      parameters: {name: tensor}, each shared or one per task.
      inputs: `[tasks, examples, ...]`.
      statistics_size: how many of each task's examples, from the first one on, give
        the batch statistics for all of them; None: all. With the support set in
        front of the query set and its size here, no query example sees another.

    Returns:
      `[tasks, examples, outputs]`, in the dtype of `inputs`. Batch statistics
      are taken over the examples of each task by itself.
    """
    return self.head(parameters, self.features(parameters, inputs, statistics_size))

  @property
  @abc.abstractmethod
  def flop_per_example(self) -> int:
    """Of one forward pass: 2 for each multiply-add of its convolutions and products."""

  @property
  def adapted_names(self) -> Tuple[str, ...]:
    return tuple(spec.name for spec in self.parameter_specs if spec.adapted)

  @property
  def head_names(self) -> Tuple[str, ...]:
    """The parameters of the last layer."""
    return tuple(spec.name for spec in self.parameter_specs
                 if spec.name.startswith(f'{HEAD}/'))

  def initial_values(self, seed: int, dtype: str = 'float32') -> Dict[str, np.ndarray]:
    """{name: array}, the same for the same seed.

    Drawn in float32 whatever `dtype` is, so that runs of both precisions start
    from the same values.
    """
    values = {}
    for index, spec in enumerate(self.parameter_specs):
      # One seed per parameter: equal shapes must not get equal values.
      initializer = spec.initializer(seed * 1000 + index)
      value = tf.convert_to_tensor(initializer(spec.shape, dtype='float32'))
      values[spec.name] = value.numpy().astype(dtype)
    return values


def zeros(_: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.Zeros()


def ones(_: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.Ones()


def glorot_uniform(seed: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.GlorotUniform(seed=seed)


def standard_normal(seed: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.RandomNormal(stddev=1.0, seed=seed)


def small_truncated_normal(seed: int) -> tf.keras.initializers.Initializer:
  """The TF1 code's initialiser of fully connected nets: stddev 0.01, cut at two."""
  return tf.keras.initializers.TruncatedNormal(stddev=0.01, seed=seed)
