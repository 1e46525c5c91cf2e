"""Copies of a Keras model, for an adapted one."""

from __future__ import annotations

import copy
from typing import Any, Mapping, Sequence

import tensorflow as tf

from maml_tf.errors import ConfigError


def copy_of(model: tf.keras.Model, inputs: Any) -> tf.keras.Model:
  """A built model of the same layers.

  Args:
    inputs: a batch, to build a copy that is not built from its configuration.

  Raises:
    ConfigError: for a model that Keras cannot copy.
  """
  failures = []
  for way in (tf.keras.models.clone_model, copy.deepcopy):
    try:
      copied = way(model)
      if not copied.built or len(copied.weights) != len(model.weights):
        copied(inputs)
      return copied
    except Exception as error:   # whatever a model's own code raises
      failures.append(f'{type(error).__name__}: {error}'.split('\n')[0])
  raise ConfigError(
      f'Keras cannot copy the model {model.name!r} ({"; ".join(failures)}): give it a '
      'get_config, or give adapt() a second model of the same layers, '
      'into=make_model().')


def require_same(model: tf.keras.Model, other: tf.keras.Model) -> None:
  """Raises: ConfigError: where the weights of `other` have other shapes."""
  shapes, others = ([tuple(weight.shape) for weight in one.weights]
                    for one in (model, other))
  if shapes != others or other is model:
    raise ConfigError('into must be another model of the same layers, built. Received one '
                      f'with weights of the shapes {others}; expected: {shapes}.')


def fill(copied: tf.keras.Model, model: tf.keras.Model, values: Sequence[tf.Tensor],
         statistics: Mapping[str, tf.Tensor]) -> None:
  """Assigns all weights of `copied`.

  Args:
    model: whose weights it gets.
    values: of the trainable variables, in their place.
    statistics: {index among the weights: value}, in the place of others.
  """
  adapted = {id(variable): value
             for variable, value in zip(model.trainable_variables, values)}
  for index, (weight, original) in enumerate(zip(copied.weights, model.weights)):
    if id(original) in adapted:
      weight.assign(adapted[id(original)])
    else:
      weight.assign(statistics.get(str(index), original))
