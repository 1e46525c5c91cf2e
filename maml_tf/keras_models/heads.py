"""The last layer of a Keras model, which some methods treat apart."""

from __future__ import annotations

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.adapted_layers import Adapted
from maml_tf.keras_models.inner_layers import output_layer
from maml_tf.keras_models.learner import KerasLearner
from maml_tf.keras_models.parameters import names_counted_from_0
from maml_tf.meta_learners import WITHOUT_INNER_LOOP


def learner_for(method: str, net: tf.keras.Model, model: str) -> KerasLearner:
  """What a method learns of a net: its features alone, for one that compares; with its last
  layer, which ANIL's inner loop alone changes, and BOIL's alone leaves as it is.

  Args:
    method: one of `METHODS`.
    net: its last layer gives the outputs.
    model: the value of `--model`, for a message.

  Raises:
    ConfigError: where what such a method treats apart cannot be told apart.
  """
  if method in WITHOUT_INNER_LOOP:
    head = _head(net, model, method)  # First: Keras 3 knows no inputs of a subclassed model.
    net = tf.keras.Model(net.inputs, head.input, name=net.name)
  adapt: Adapted = None
  if method == 'anil':
    adapt = _head(net, model, method)
  elif method == 'boil':
    kept = {id(value) for value in _head(net, model, method).trainable_variables}
    if all(id(value) in kept for value in net.trainable_variables):
      raise ConfigError(f'--method={method} does not fit --model={model}, which has no '
                        'trainable layer below the last one, and adapts all but that: take '
                        '--method=maml.')
    adapt = lambda variable: id(variable) not in kept  # noqa: E731
  return KerasLearner(net, adapt, names=names_counted_from_0)


def require_chosen(learner: KerasLearner, method: str, adapts_head: bool) -> None:
  """
  Args:
    learner: of which somebody chose what adapts.
    method: for a message.
    adapts_head: whether that must have the last layer in it, or must not.

  Raises:
    ConfigError: where it is the other way round. Of a model whose last layer Keras does not
      know nothing is said.
  """
  last = output_layer(learner.model)
  if last is None:
    return
  of_last = {id(variable) for variable in last.trainable_variables}
  names = [spec.name for spec, variable in zip(
      learner.parameter_specs, learner.model.trainable_variables) if id(variable) in of_last]
  adapted = set(names) & set(learner.adapted_names)
  if names and bool(adapted) != adapts_head:
    does, advice = (('adapts the last layer', 'that layer') if adapts_head else
                    ('leaves the last layer alone', 'all layers but that one'))
    raise ConfigError(
        f'{method} {does}, {last.name!r}. Received: a KerasLearner whose adapt is '
        f'{", ".join(learner.adapted_names)}; give {advice}, or take MAML.', 'learner')


def _head(net: tf.keras.Model, model: str, method: str) -> tf.keras.layers.Layer:
  """The layer that gives the outputs, if it is one that a net may have as its head."""
  last = output_layer(net)
  if isinstance(last, tf.keras.layers.Dense):
    return last
  raise ConfigError(
      f'--method={method} does not fit --model={model}: it treats the last layer of a net '
      'apart, so that the net must be a Sequential or a functional model that ends in a Dense '
      f'layer of its own. Received: {type(net).__name__}, whose last layer is '
      f'{type(net.layers[-1]).__name__}. Make it such a model, or take --method=maml.')
