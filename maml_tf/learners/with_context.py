"""A net with further inputs, which are parameters and the only ones to be adapted."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.episodes import leading_sizes
from maml_tf.learners.base import ParameterSpec, zeros
from maml_tf.learners.with_head import WithHead

CONTEXT = 'context'


class WithContext(WithHead):
  """`net`, whose inputs are a task's inputs and behind them a context vector z.

  The inner loop adapts z; the parameters of `net` are meta-learned only.

  Args:
    net: takes inputs of `input_shape` with `context_size` more channels.
    input_shape: of one example, without z: `(height, width, channels)`, or `(inputs,)`.
    context_size: n. z is `[height, width, n]`, a map that is concatenated to each image
      channel-wise, or `[n]`.

  z starts from 0. Batch norm removes what is the same for all examples and positions:
  behind the first layer of a fully connected net that is all of z, and of a
  convolutional net a z without positions, which is why it is a map.
  """

  def __init__(self, net: WithHead, input_shape: Tuple[int, ...], context_size: int):
    self._net = net
    self.exact_under_xla = net.exact_under_xla
    self._input_shape = tuple(input_shape)
    self._context_shape = (*self._input_shape[:-1], context_size)
    self._specs = (*(spec._replace(adapted=False) for spec in net.parameter_specs),
                   ParameterSpec(CONTEXT, self._context_shape, zeros))

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return self._specs

  def features(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None,
               collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
    return self._net.features(parameters, self._with_context(parameters, inputs),
                              statistics_size, collected)

  def head(self, parameters: Mapping[str, tf.Tensor], features: tf.Tensor) -> tf.Tensor:
    return self._net.head(parameters, features)

  def _with_context(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor
                    ) -> tf.Tensor:
    sizes = leading_sizes(inputs)
    inputs = tf.reshape(inputs, [*sizes, *self._input_shape])
    context = parameters[CONTEXT]
    tasks = 1 if context.shape.rank == len(self._context_shape) else -1
    context = tf.reshape(context, [tasks, 1, *self._context_shape])
    context = tf.broadcast_to(context, [*sizes, *self._context_shape])
    return tf.concat([inputs, context], axis=-1)
