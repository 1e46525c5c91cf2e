"""Whether a loss and a net agree on what the outputs are: logits or probabilities."""

from __future__ import annotations

import inspect
from typing import Any, List, Mapping

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.inner_layers import output_layer
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.learners.base import Learner
from maml_tf.learners.with_head import WithHead


def require_no_second_softmax(loss: Any, logits: List) -> None:
  """Raises: ConfigError: where the loss takes logits, and some output is a softmax or sigmoid
  of the `logits`."""
  if all(one is None for one in logits):
    return
  if getattr(loss, 'of_logits', False) or takes_logits(loss):
    raise ConfigError(
        f'The loss {getattr(loss, "name", type(loss).__name__)} takes the softmax or sigmoid '
        'of the outputs itself, and the model ends with one: of probabilities it would be '
        'trained badly, without an error. Leave the activation out at the end of the model, '
        'or give a loss with from_logits=False.')


def require_probabilities(learner: Learner) -> None:
  """Raises: ConfigError: where the last layer gives what is none: a loss of probabilities cuts
  off what is not between 0 and 1, and learns next to nothing of it, without an error."""
  if isinstance(learner, WithHead) or (
      isinstance(learner, KerasLearner) and _ends_linearly(learner.model)):
    raise ConfigError(
        'The loss takes probabilities (from_logits=False), and the last layer of the net has '
        'no activation: give a loss with from_logits=True, or a Keras model a softmax or '
        'sigmoid at its end.', 'objective')


def _ends_linearly(model: tf.keras.Model) -> bool:
  last = output_layer(model)
  return (hasattr(last, 'kernel')
          and getattr(last, 'activation', None) is tf.keras.activations.linear
          and len(model.outputs) == 1)


def takes_logits(loss: Any) -> bool:
  """Whether a loss of Keras says so."""
  return bool(_configuration(loss).get('from_logits'))


def takes_probabilities(loss: Any) -> bool:
  """Whether a loss of Keras, an object or a function, has `from_logits=False`."""
  configuration = _configuration(loss)
  if 'from_logits' in configuration:
    return not configuration['from_logits']
  parameters = inspect.signature(getattr(loss, '_function', loss)).parameters
  return 'from_logits' in parameters and parameters['from_logits'].default is False


def _configuration(loss: Any) -> Mapping[str, Any]:
  """Of a loss of Keras; empty for others."""
  return getattr(loss, 'get_config', dict)()
