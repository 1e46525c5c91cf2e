"""Rules by which the inner loop changes parameters: pairs of pure functions.

A rule keeps nothing: what it remembers from step to step goes in and comes out, so that a
derivative can be taken through it.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners.base import Parameters

# A number, one for each update, or these by parameter.
StepSize = Union[float, tf.Tensor, Mapping[str, Any]]

# Of TF1's Adam, but for the first moment, which Reptile does without (beta_1 = 0).
BETA_2 = 0.999
EPSILON = 1e-8


class InnerOptimizer(NamedTuple):
  """A rule.

  Attributes:
    init: parameters -> what is remembered before the first step.
    update: (parameters, gradients, remembered, number of updates before) ->
      (parameters, remembered), of the shapes that they had. The number is an integer, or
      in a loop a scalar tensor.
  """
  init: Callable[[Parameters], Any]
  update: Callable[[Parameters, Parameters, Any, Any], Tuple[Parameters, Any]]


def sgd(step_size: StepSize) -> InnerOptimizer:
  """theta <- theta - alpha * gradient (algorithm 1, line 6); nothing is remembered.

  Args:
    step_size: alpha: a number or scalar; `[updates]`, of which the last one serves all
      further updates; or {parameter: one of these}.

  Example:
    >>> import tensorflow as tf
    >>> rule = sgd({'w': [0.5, 0.25]})
    >>> w, _ = rule.update({'w': tf.constant(1.0)}, {'w': tf.constant(2.0)}, (), 1)
    >>> float(w['w'])
    0.5
  """
  def update(values, gradients, remembered, updates):
    return {name: value - _of(step_size, name, updates, value.dtype) * gradients[name]
            for name, value in values.items()}, remembered
  return InnerOptimizer(lambda values: (), update)


class AdamState(NamedTuple):
  """Second moments by parameter, each shared by the tasks or one per task, and the number
  of steps behind them."""
  moments: Parameters
  steps: tf.Tensor


def adam(step_size: StepSize, initial: Optional[AdamState] = None) -> InnerOptimizer:
  """Reptile's: Adam with beta_1 = 0, as TF1 writes it.

  Args:
    step_size: see `sgd`.
    initial: what is remembered from before; None: nothing, moments of 0.
  """
  def init(values):
    if initial is not None:
      return initial._replace(moments={name: tf.broadcast_to(moment, tf.shape(values[name]))
                                       for name, moment in initial.moments.items()})
    dtype = next(iter(values.values())).dtype
    return AdamState({name: tf.zeros_like(value) for name, value in values.items()},
                     tf.zeros([], dtype))

  def update(values, gradients, remembered, updates):
    steps = remembered.steps + 1
    moments = {name: BETA_2 * remembered.moments[name] + (1 - BETA_2) * tf.square(gradient)
               for name, gradient in gradients.items()}
    # The correction of the bias is part of the step size. `tf.cast` would take the
    # number through float32.
    correction = tf.sqrt(1 - tf.pow(tf.constant(BETA_2, steps.dtype), steps))
    values = {name: value - _of(step_size, name, updates, value.dtype) * correction
              * gradients[name] / (tf.sqrt(moments[name]) + EPSILON)
              for name, value in values.items()}
    return values, AdamState(moments, steps)
  return InnerOptimizer(init, update)


class StepSizes:
  """Step sizes as variables: what is set acts on all that has been traced with them.

  Args:
    value: see `sgd`.
    dtype: of the parameters.

  Raises:
    ConfigError: for what is no finite number.
  """

  def __init__(self, value: StepSize, dtype: str):
    require_numbers(value)
    self._variables = tf.nest.map_structure(
        lambda one: tf.Variable(one, trainable=False, dtype=dtype, name='step_size'),
        _arrays(value))
    self._value = value
    self._are_constants = False

  @property
  def value(self) -> StepSize:
    """As it was set."""
    return self._value

  @value.setter
  def value(self, value: StepSize) -> None:
    require_numbers(value)
    try:
      tf.nest.map_structure(lambda variable, one: variable.assign(one), self._variables,
                            _arrays(value))
    except (TypeError, ValueError) as error:
      raise ConfigError('step_size can only be set to what has the form that it was made '
                        f'with ({self._value!r}). Received: {value!r}.') from error
    self._value = value

  def tensors(self) -> StepSize:
    """The values of the variables; constants while `as_constants` is entered."""
    if self._are_constants:
      return tf.nest.map_structure(
          lambda variable, one: tf.constant(one, variable.dtype), self._variables,
          _arrays(self._value))
    return tf.nest.map_structure(tf.convert_to_tensor, self._variables)

  @contextlib.contextmanager
  def as_constants(self) -> Iterator[None]:
    """What is traced meanwhile reads no variable: for runtimes that know none."""
    self._are_constants = True
    try:
      yield
    finally:
      self._are_constants = False


def require_numbers(value: StepSize) -> None:
  """Raises: ConfigError: for what is no step size."""
  if any(isinstance(one, tf.Variable) for one in tf.nest.flatten(value)):
    raise ConfigError('step_size is read once, and not when a variable is assigned: give a '
                      'number, and set the step_size of the meta-learner to change it.',
                      'step_size')
  for one in tf.nest.flatten(_arrays(value)):
    if (one.dtype.kind not in 'iuf' or one.ndim > 1 or not one.size
        or not np.isfinite(one.astype(np.float64)).all()):
      raise ConfigError('step_size must be a finite number, one for each update, or these '
                        f'by the name of a parameter. Received: {value!r}.', 'step_size')


def _arrays(value: StepSize):
  if isinstance(value, Mapping):
    return {name: np.asarray(one) for name, one in value.items()}
  return np.asarray(value)


def _of(step_size: StepSize, name: str, updates, dtype: tf.DType):
  """The step size of a parameter of that type, after so many updates."""
  value = step_size[name] if isinstance(step_size, Mapping) else step_size
  sizes = np.shape(value) if not tf.is_tensor(value) else value.shape
  if len(sizes) and tf.is_tensor(updates):
    return tf.convert_to_tensor(value, dtype)[tf.minimum(updates, sizes[0] - 1)]
  return value[min(updates, sizes[0] - 1)] if len(sizes) else value
