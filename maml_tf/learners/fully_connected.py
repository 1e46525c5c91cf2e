"""Fully connected nets: the sinusoid net, and Omniglot without convolutions."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple

import tensorflow as tf

from maml_tf.episodes import leading_sizes
from maml_tf.learners import as_keras, normalisation, task_ops
from maml_tf.learners.base import ParameterSpec, small_truncated_normal
from maml_tf.learners.with_head import HEAD, WithHead


class FullyConnected(WithHead):
  """Hidden layers with normalisation and ReLU, and a linear output.

  Args:
    num_inputs: inputs are flattened to `[tasks, examples, num_inputs]`.
    hidden_sizes: (40, 40) for sinusoids (section 5.1), (256, 128, 64, 64) for
      Omniglot without convolutions (A.1).
    num_outputs: classes, or dimensions of a regression.
    norm: 'batch_norm', 'layer_norm' or 'None', behind every hidden layer.
    mixed_precision: products in bfloat16, see `task_ops`.

  Initialisation (TF1 code): weights N(0, 0.01) cut at two deviations, biases 0.
  """

  exact_under_xla = True

  def __init__(self, num_inputs: int, hidden_sizes: Sequence[int], num_outputs: int,
               norm: str, mixed_precision: bool = False):
    self._num_inputs = num_inputs
    self._norm = norm
    self._mixed_precision = mixed_precision
    self._hidden = tuple(f'dense{i + 1}' for i in range(len(hidden_sizes)))
    sizes = (num_inputs, *hidden_sizes)
    specs = []
    for scope, fan_in, fan_out in zip(self._hidden, sizes, sizes[1:]):
      specs += [_kernel_spec(scope, fan_in, fan_out),
                *normalisation.specs(norm, scope, fan_out)]
    self._specs = (*specs, _kernel_spec(HEAD, sizes[-1], num_outputs),
                   *normalisation.specs('None', HEAD, num_outputs))

  @property
  def parameter_specs(self) -> Tuple[ParameterSpec, ...]:
    return self._specs

  def features(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None,
               collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
    features = tf.reshape(inputs, [*leading_sizes(inputs), self._num_inputs])
    for scope in self._hidden:
      features = normalisation.activate(
          self._norm, scope, parameters,
          task_ops.dense(features, parameters[f'{scope}/kernel'], self._mixed_precision),
          statistics_size=statistics_size, collected=collected)
    return features

  def as_model(self, values: Mapping[str, tf.Tensor], inputs: tf.Tensor, into=None
               ) -> tf.keras.Model:
    net = as_keras.Net(self, self._norm, values, inputs)
    net.add_plain(tf.keras.layers.Flatten)
    for scope in self._hidden:
      net.add(tf.keras.layers.Dense, scope, values[f'{scope}/kernel'].shape[-1])
    return net.model(tuple(inputs.shape[1:]), into)


def _kernel_spec(scope: str, fan_in: int, fan_out: int) -> ParameterSpec:
  return ParameterSpec(f'{scope}/kernel', (fan_in, fan_out), small_truncated_normal)
