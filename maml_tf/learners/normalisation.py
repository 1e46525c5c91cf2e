"""The normalisations of the TF1 code, exact in second order.

`tf.nn.moments` stops the gradient of the mean inside the variance. First
derivatives do not notice; the meta-gradient is off by tens of percent. So the
variance is written out here.
"""

from __future__ import annotations

from typing import Mapping, Tuple

import tensorflow as tf

from maml_tf.learners import task_ops
from maml_tf.learners.base import ParameterSpec, ones, zeros

# The constants of tf.contrib.layers.batch_norm and layer_norm.
BATCH_NORM_EPSILON = 1e-3
LAYER_NORM_EPSILON = 1e-12


def specs(norm: str, scope: str, channels: int) -> Tuple[ParameterSpec, ...]:
  """The parameters of a normalisation behind layer `scope`.

  Batch norm has an offset and no scale; layer norm has both; 'None' has none.
  They are meta-learned and not adapted in the inner loop.
  """
  offset = ParameterSpec(f'{scope}/beta', (channels,), zeros, adapted=False)
  scale = ParameterSpec(f'{scope}/gamma', (channels,), ones, adapted=False)
  return {'batch_norm': (offset,), 'layer_norm': (offset, scale), 'None': ()}[norm]


def normalise(norm: str, scope: str, parameters: Mapping[str, tf.Tensor],
              inputs: tf.Tensor) -> tf.Tensor:
  """`inputs` `[tasks, examples, ..., channels]`, normalised.

  'batch_norm' uses the statistics of each task's examples, always: there are no
  moving averages, in training or testing (as in the TF1 code). 'layer_norm'
  uses those of each example. 'None' returns `inputs`.
  """
  if norm == 'None':
    return inputs
  rank = inputs.shape.rank
  if norm == 'batch_norm':
    normalised = _standardise(inputs, list(range(1, rank - 1)), BATCH_NORM_EPSILON)
  else:
    normalised = _standardise(inputs, list(range(2, rank)), LAYER_NORM_EPSILON)
    normalised = task_ops.multiply_per_channel(normalised, parameters[f'{scope}/gamma'])
  return task_ops.add_per_channel(normalised, parameters[f'{scope}/beta'])


def _standardise(inputs: tf.Tensor, axes, epsilon: float) -> tf.Tensor:
  mean = tf.reduce_mean(inputs, axes, keepdims=True)
  centred = inputs - mean
  variance = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
  return centred * tf.math.rsqrt(variance + epsilon)
