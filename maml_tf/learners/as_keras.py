"""The paper's nets, adapted, as plain Keras models: to be saved, served and converted."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners.normalisation import BATCH_NORM_EPSILON, LAYER_NORM_EPSILON
from maml_tf.learners.with_head import HEAD, WithHead


class Net:
  """Layers of Keras with the values of a learner's, one after the other.

  Args:
    learner: whose net it is.
    norm: behind every layer but the last.
    values: {name: `shape`}, adapted.
    inputs: `[examples, ...]`, of the support set, whose batch statistics the model has.
  """

  def __init__(self, learner: WithHead, norm: str, values: Mapping[str, tf.Tensor],
               inputs: tf.Tensor):
    self._norm = norm
    self._values = dict(values)
    self._dtype = values[f'{HEAD}/kernel'].dtype.name
    collected: Dict[str, tf.Tensor] = {}
    learner.features(values, inputs[tf.newaxis], collected=collected)
    self._values.update({name: tf.reshape(value, [-1]) for name, value in collected.items()})
    self._layers: List[tf.keras.layers.Layer] = []
    self._weights: List[List[Any]] = []

  def add(self, kind, scope: str, *arguments, **options) -> None:
    """A layer with the kernel of `scope`, its normalisation, and ReLU."""
    has_bias = self._norm != 'batch_norm'   # which would remove it
    self._append(kind(*arguments, use_bias=has_bias, name=scope, dtype=self._dtype, **options),
                 scope, ['kernel', *(['bias'] if has_bias else [])])
    layers, named = tf.keras.layers, dict(name=f'{scope}_{self._norm}', dtype=self._dtype)
    if self._norm == 'batch_norm':
      self._append(layers.BatchNormalization(scale=False, epsilon=BATCH_NORM_EPSILON, **named),
                   scope, ['beta', 'mean', 'variance'])
    elif self._norm == 'layer_norm':
      self._append(layers.GroupNormalization(groups=1, epsilon=LAYER_NORM_EPSILON, **named),
                   scope, ['gamma', 'beta'])
    self.add_plain(layers.ReLU)

  def add_plain(self, kind) -> None:
    """A layer without weights."""
    self._append(kind(dtype=self._dtype), '', [])

  def model(self, input_shape: Tuple[int, ...], into: Optional[tf.keras.Model]
            ) -> tf.keras.Model:
    """The model, with the head behind its layers: images to `[images, classes]`, no softmax.

    Args:
      input_shape: of one image.
      into: see `Learner.as_model`.
    """
    classes = self._values[f'{HEAD}/kernel'].shape[-1]
    self._append(tf.keras.layers.Dense(classes, name=HEAD, dtype=self._dtype), HEAD,
                 ['kernel', 'bias'])
    made = into
    if into is None:
      made = tf.keras.Sequential([tf.keras.layers.Input(input_shape, dtype=self._dtype),
                                  *self._layers])
    weights = [value for of_layer in self._weights for value in of_layer]
    shapes = [tuple(weight.shape) for weight in made.weights]
    if shapes != [value.shape for value in weights]:
      raise ConfigError('into must be a model that adapt() made of the same net. Received one '
                        f'with weights of the shapes {shapes}.')
    for layer, values in zip(made.layers, self._weights):
      layer.set_weights(values)
    return made

  def _append(self, layer, scope: str, names: List[str]) -> None:
    self._layers.append(layer)
    self._weights.append([np.asarray(self._values[f'{scope}/{name}']) for name in names])
