"""What Keras's `fit` leaves unsaid: errors as they were raised, and that nothing is learned
any more."""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import Any, Callable, Dict, Iterator, Mapping, Optional

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError, NotFiniteError, UserError
from maml_tf.numpy_calls import as_raised

# What `require` says, in TensorFlow's error.
_REQUIRED, _END = '[required: ', ' :required]'


def require(fits: tf.Tensor, sentence: str, values: tf.Tensor) -> tf.Tensor:
  """`values`, of which only the step itself can tell whether they are what they should be.

  Under XLA nothing is checked.

  Raises:
    ConfigError: the `sentence`, where `fits` is false; of a graph by `user_errors`.
  """
  if tf.executing_eagerly():
    if not fits:
      raise ConfigError(sentence)
    return values
  with tf.control_dependencies([tf.debugging.Assert(fits, [_REQUIRED + sentence + _END])]):
    return tf.identity(values)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
  """Makes the `UserError` of a step, or of a pipeline, out of TensorFlow's error about the
  graph of it."""
  try:
    with as_raised():
      yield
  except tf.errors.InvalidArgumentError as error:
    _, is_ours, sentence = str(error).partition(_REQUIRED)
    if is_ours:
      raise ConfigError(sentence.partition(_END)[0]) from None
    if 'valid range' not in str(error):
      raise
    reason = str(error)[str(error).find('Received a label value'):].splitlines()[0]
    raise ConfigError(
        f'A label is of no output of the model: {reason}. Tasks must have no more classes '
        'than the model has outputs, and labels from 0 on.') from None
  except tf.errors.NotFoundError as error:
    missing = re.search(r'No gradient defined for op: (\S+)|SymbolicGradient', str(error))
    if missing is None:
      raise
    operation = missing[1] or 'a part'   # newer versions do not say of which
    raise ConfigError(
        f'TensorFlow has no second derivative of {operation} of what the model or the loss '
        'computes, as of tf.nn.ctc_loss: take another, or first_order=True or Reptile.'
        ) from None
  except Exception as error:   # whatever Keras and autograph make of one
    if isinstance(error, UserError):
      raise
    for cause in _causes(error):
      if isinstance(cause, UserError):
        raise cause from None
      if isinstance(cause, tf.errors.OperatorNotAllowedInGraphError):
        raise ConfigError(
            'The model, the loss or a metric decides in Python by a tensor, by if, for or '
            'while: write tf.cond, tf.where or tf.while_loop.') from None
    raise


def _causes(error: Optional[BaseException]) -> Iterator[BaseException]:
  """It, and what it was raised from."""
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


class EndWhenNotFinite(tf.keras.callbacks.Callback):
  """Ends `fit` behind the epoch of a step whose loss or gradient was not finite: that step
  and all after it change nothing.

  Raises:
    NotFiniteError: then.
  """

  def on_epoch_end(self, epoch, logs=None):
    require_finite_steps(self.model)


def require_finite_steps(model: tf.keras.Model) -> None:
  """Raises: NotFiniteError: where a step of a `MetaLearner` was not finite."""
  if bool(model.diverged.numpy()):
    step_size = 'step_size or ' if model.has_inner_loop else ''
    clip = 'set gradient_clip, ' if model.can_clip else ''
    raise NotFiniteError(
        'The loss or the meta-gradient of a meta-batch was not finite (loss '
        f'{float(model.latest_loss.numpy()):.6g}), and nothing was learned from there '
        f'on: the variables are those before it. Lower {step_size}the learning rate of '
        f'the optimizer, {clip}or look for what is not finite in the data.')


def require_finite_parameters(adapted: Mapping[str, tf.Tensor]) -> None:
  """Raises: NotFiniteError: where parameters that are adapted to a task are not finite."""
  for name, value in adapted.items():
    if not np.isfinite(value).all():
      raise NotFiniteError(f'The adapted parameters {name} are not finite: look for what is '
                           'not in the support set, or lower step_size or num_updates.')


def refuse_weights(function: Callable, arguments: tuple, kwargs: Dict[str, Any]) -> None:
  """
  Raises:
    ConfigError: for weights of classes or samples in the arguments of `fit` or `evaluate`:
      their samples are tasks.
  """
  given = inspect.signature(function).bind(*arguments, **kwargs).arguments
  for name in ('class_weight', 'sample_weight'):
    if given.get(name) is not None:
      raise ConfigError(
          f'There is no {name} here, where a sample is a task: weigh the examples of a task '
          'in a loss of your own, a function of (labels, outputs), whose labels may hold '
          'weights, too.', name)


def with_callback(fit: Callable, arguments: tuple, kwargs: Dict[str, Any],
                  callback: tf.keras.callbacks.Callback) -> inspect.BoundArguments:
  """The arguments of a call of `fit`, with that callback behind those given; a
  `CallbackList` is somebody's own, and stays as it is."""
  bound = inspect.signature(fit).bind(*arguments, **kwargs)
  # Keras 3 warns otherwise that it cannot shuffle a dataset.
  if isinstance(bound.arguments.get('x'), tf.data.Dataset):
    bound.arguments.setdefault('shuffle', False)
  given = bound.arguments.get('callbacks')
  if not isinstance(given, tf.keras.callbacks.CallbackList):
    bound.arguments['callbacks'] = [*tf.nest.flatten(given or []), callback]
  return bound
