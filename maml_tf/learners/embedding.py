"""A net without its last layer."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.learners.base import Learner, ParameterSpec
from maml_tf.learners.with_head import WithHead


class Embedding(Learner):
  """The features of `net`, for methods that compare examples in place of classifying them.

  Args:
    net: whose head, and the head's parameters, are left out.

  Attributes:
    num_features: of an example.
  """

  def __init__(self, net: WithHead):
    self._net = net
    self.num_features = net.head_inputs
    self.exact_under_xla = net.exact_under_xla

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return tuple(spec for spec in self._net.parameter_specs
                 if spec.name not in self._net.head_names)

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: Any) -> tf.Tensor:
    """`[tasks, examples, features]`."""
    return self._net.features(parameters, inputs)

  def features(self, parameters: Mapping[str, tf.Tensor], inputs: Any,
               statistics_size: Optional[int] = None,
               collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
    """As of `WithHead`."""
    return self._net.features(parameters, inputs, statistics_size, collected)

  def as_model(self, values: Mapping[str, tf.Tensor], inputs: tf.Tensor, into=None
               ) -> tf.keras.Model:
    """Images to features; `into` is not taken."""
    unused = {spec.name: tf.zeros(spec.shape, inputs.dtype)
              for spec in self._net.parameter_specs if spec.name in self._net.head_names}
    whole = self._net.as_model({**values, **unused}, inputs, None)
    return tf.keras.Sequential([
        tf.keras.layers.Input(whole.input_shape[1:], dtype=inputs.dtype.name),
        *whole.layers[:-1]])
