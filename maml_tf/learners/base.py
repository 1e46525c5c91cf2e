"""What every learner is: a list of parameters and a pure function of them.

A learner holds no variables. Adapted parameters must be tensors that flow
through the forward pass: assigning them to variables would cut the gradient
that MAML takes through the inner loop.
"""

from __future__ import annotations

import abc
import hashlib
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.episodes import Episodes
from maml_tf.errors import ConfigError

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

  Attributes:
    exact_under_xla: whether its second derivatives are right when XLA compiles them;
      those of TensorFlow's max-pooling are not.
  """

  exact_under_xla = False
  adapts_all = True            # whether nobody chose what adapts
  one_task_at_a_time = False   # whether a graph can hold one task alone
  is_random = False            # whether it draws random numbers in training

  @property
  @abc.abstractmethod
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    """The parameters, in the order in which they are stored."""

  @abc.abstractmethod
  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    """The outputs of every task's examples.

    Args:
      parameters: {name: tensor}, each shared or one per task.
      inputs: `[tasks, examples, ...]`, or a nest.

    Returns:
      `[tasks, examples, outputs]`, or what else the objective takes. What a task gets
      does not depend on the other tasks.
    """

  @property
  def adapted_names(self) -> Tuple[str, ...]:
    return tuple(spec.name for spec in self.parameter_specs if spec.adapted)

  def outputs(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> Any:
    """What a user sees of what `__call__` gives the objective."""
    return self(parameters, inputs)

  def own_parameters(self):
    """The variables of a net that has its own, see `MetaParameters`; else None."""
    return

  def in_training(self, episodes: Episodes, seed: int, iteration: tf.Tensor) -> Episodes:
    """`episodes` with what a net needs in an outer step, beside inputs."""
    return episodes

  def check(self, task_loss: Callable, batch: Any, first_order: bool) -> None:  # noqa: B027
    """Raises a `ConfigError` where the inner loop cannot be differentiated exactly."""

  def as_model(self, values: Parameters, inputs: Any, into: Any) -> tf.keras.Model:
    """A Keras model with these values, see `KerasLearner`.

    Args:
      values: {name: `shape`}.
      inputs: of the support set, `[examples, ...]`, whose batch statistics it has.
      into: a model of the same layers to be filled; None: a new one.
    """
    raise ConfigError(f'A {type(self).__name__} is no Keras model that could be adapted to '
                      'one: take `adapted_outputs`, or make the meta-learner of a Keras '
                      'model.')

  def initial_values(self, seed: int, dtype: str = 'float32') -> Dict[str, np.ndarray]:
    """{name: array}, the same for the same seed.

    Drawn in float32 whatever `dtype` is, so that runs of both precisions start
    from the same values.
    """
    return drawn(self.parameter_specs, seed, dtype)


def drawn(specs: Iterable[ParameterSpec], seed: int, dtype: str, first: int = 0
          ) -> Dict[str, np.ndarray]:
  """{name: initial value}; `first`: how many parameters of the seed are drawn already."""
  values = {}
  for index, spec in enumerate(specs, start=first):
    initializer = spec.initializer(_seed_of(seed, index))
    value = tf.convert_to_tensor(initializer(spec.shape, dtype='float32'))
    values[spec.name] = value.numpy().astype(dtype)
  return values


def _seed_of(seed: int, index: int) -> int:
  """One for each parameter: equal shapes must not get equal values."""
  if index < 1000:
    return seed * 1000 + index
  digest = hashlib.sha256(f'{seed} {index}'.encode()).digest()
  return int.from_bytes(digest[:4], 'big') >> 1


def zeros(_: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.Zeros()


def ones(_: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.Ones()


def glorot_uniform(seed: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.GlorotUniform(seed=seed)


def constant(value: float) -> Callable[[int], tf.keras.initializers.Initializer]:
  return lambda _: tf.keras.initializers.Constant(value)


def standard_normal(seed: int) -> tf.keras.initializers.Initializer:
  return tf.keras.initializers.RandomNormal(stddev=1.0, seed=seed)


def small_truncated_normal(seed: int) -> tf.keras.initializers.Initializer:
  """The TF1 code's initialiser of fully connected nets: stddev 0.01, cut at two."""
  return tf.keras.initializers.TruncatedNormal(stddev=0.01, seed=seed)
