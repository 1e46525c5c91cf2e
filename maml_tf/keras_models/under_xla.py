"""Which Keras models have right second derivatives when XLA compiles them.

Max-pooling by windows has not: for some values, of one, two and three dimensions
(`docs/keras_layers.md`). Global max-pooling has.
"""

from __future__ import annotations

from typing import Iterable

import tensorflow as tf

from maml_tf.keras_models.inner_layers import is_of_keras

_LAYERS = (tf.keras.layers.MaxPooling1D, tf.keras.layers.MaxPooling2D,
           tf.keras.layers.MaxPooling3D)


def is_exact(model: tf.keras.Model, layers: Iterable) -> bool:
  """Whether it is of Keras's own layers, without max-pooling by windows.

  Args:
    layers: all of the model's.
  """
  layers = list(layers)
  if not all(is_of_keras(layer) for layer in layers) or has_max_pooling(layers):
    return False
  return not any(map(_calls_functions, layers)) or not _pools_in_its_graph(model)


def has_max_pooling(layers: Iterable) -> bool:
  return any(isinstance(layer, _LAYERS) for layer in layers)


def _calls_functions(layer) -> bool:
  """Whether it computes what no layer names. In Keras 3 a model has operations for it."""
  return 'Lambda' in type(layer).__name__ or not all(
      isinstance(one, tf.keras.layers.Layer) for one in getattr(layer, 'operations', ()))


def _pools_in_its_graph(model: tf.keras.Model) -> bool:
  """Of functions, which a layer does not name; unknown counts as yes."""
  inputs = getattr(model, 'inputs', None)
  if not inputs:
    return True
  specs = [tf.TensorSpec([2, *value.shape[1:]], value.dtype) for value in inputs]
  traced = tf.function(lambda given: model(given if len(given) > 1 else given[0]),
                       autograph=False).get_concrete_function(specs)
  definition = traced.graph.as_graph_def()
  nodes = [*definition.node, *(node for function in definition.library.function
                               for node in function.node_def)]
  return any(node.op.startswith('MaxPool') for node in nodes)
