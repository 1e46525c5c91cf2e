"""Copies of a Keras model, for an adapted one."""

from __future__ import annotations

import copy
from typing import Any, Mapping, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.keras_models.inner_layers import layers_of


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


def freeze_as(copied: tf.keras.Model, model: tf.keras.Model) -> None:
  """Makes the same layers trainable: those within a layer of somebody's own are all so in a
  copy of Keras 2, where the order of a layer's weights depends on it."""
  for layer, original in zip(layers_of(copied), layers_of(model)):
    if layer.trainable != original.trainable:   # setting it sets those of all layers within
      layer.trainable = original.trainable


def require_same(model: tf.keras.Model, other: tf.keras.Model) -> None:
  """Raises: ConfigError: where the weights of `other` have other shapes."""
  shapes, others = ([tuple(weight.shape) for weight in one.weights if is_variable(weight)]
                    for one in (model, other))
  if shapes != others or other is model:
    raise ConfigError('into must be another model of the same layers, built. Received one '
                      f'with weights of the shapes {others}; expected: {shapes}.')


def fill(copied: tf.keras.Model, model: tf.keras.Model, values: Sequence[tf.Tensor],
         statistics: Mapping[str, tf.Tensor]) -> None:
  """Assigns all weights of `copied`, and what its layers keep beside them.

  Args:
    model: whose weights it gets.
    values: of the trainable variables, in their place.
    statistics: {index among the weights: value}, in the place of others.
  """
  adapted = {id(variable): value
             for variable, value in zip(model.trainable_variables, values)}
  for index, (weight, original) in enumerate(zip(copied.weights, model.weights)):
    if not is_variable(original):   # the vocabulary of a layer in Keras 2
      continue
    if id(original) in adapted:
      weight.assign(adapted[id(original)])
    else:
      weight.assign(statistics.get(str(index), original))
  for layer, original in zip(layers_of(copied), layers_of(model)):
    _prepare(layer, original)


# Relative to the largest output: of one function, computed in two ways. Numbers of 16 bits
# have three digits.
_TOLERANCE, _TOLERANCE_OF_16_BITS = 1e-3, 0.1


def require_same_outputs(copied: tf.keras.Model, model: tf.keras.Model, inputs: Any,
                         expected: Any) -> None:
  """Refuses a copy that computes something else than what it was copied from.

  Args:
    inputs: of the support set, nest of `[examples, ...]`.
    expected: outputs of `model` with the weights that `copied` has.

  Raises:
    ConfigError: then; not where the copy itself gives others every time.
  """
  found = copied(inputs, training=False)
  different = _difference(found, expected)
  tolerance = _TOLERANCE_OF_16_BITS if computes_in_16_bits(model) else _TOLERANCE
  if different > tolerance and (
      _difference(copied(inputs, training=False), found) <= tolerance):
    raise ConfigError(
        f'A copy of the model {model.name!r} computes something else than the model, with '
        f'outputs that differ by {different:.1%}: a layer computes with what is neither a '
        'weight nor in its get_config, say an attribute that was set later. Put it there, or '
        'give adapt() a second model that was made in the same way, into=make_model().')


def computes_in_16_bits(model: tf.keras.Model) -> bool:
  """Whether a layer of it does."""
  return any(getattr(layer, 'compute_dtype', None) in ('bfloat16', 'float16')
             for layer in layers_of(model))


def _difference(values: Any, others: Any) -> float:
  """The largest of two nests of tensors, as a share of the largest of `others`."""
  values, others = ([np.asarray(tf.cast(value, tf.float64)) for value in tf.nest.flatten(nest)]
                    for nest in (values, others))
  if [value.shape for value in values] != [other.shape for other in others]:
    return np.inf
  pairs = [map(np.nan_to_num, pair) for pair in zip(values, others) if pair[0].size]
  return max((float(np.abs(value - other).max() / (np.abs(other).max() or 1))
              for value, other in pairs), default=0.0)


def is_variable(weight: Any) -> bool:
  """Whether it is one of numbers: among the weights of Keras 2 are tables of words, too."""
  return hasattr(weight, 'assign')


def _prepare(layer: tf.keras.layers.Layer, original: tf.keras.layers.Layer) -> None:
  """What preprocessing layers compute with is made of their weights by `adapt` and by loading
  alone, or is no weight."""
  if hasattr(original, 'get_vocabulary'):
    vocabulary = original.get_vocabulary()
    if getattr(original, 'output_mode', None) in ('tf_idf', 'tf-idf'):
      raise ConfigError(f'The vocabulary of {original.name!r} has weights (tf_idf), which are '
                        'not copied: vectorise before the model.')
    if layer.get_vocabulary() != vocabulary:
      layer.set_vocabulary(vocabulary)
  elif isinstance(original, tf.keras.layers.Discretization):
    layer.bin_boundaries = original.bin_boundaries
  elif isinstance(original, tf.keras.layers.Normalization):
    layer.finalize_state()
