"""The normalisations of the TF1 code, with what stands around them in a layer."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners import task_ops
from maml_tf.learners.base import ParameterSpec, ones, zeros
from maml_tf.learners.moments import moments

# The constants of tf.contrib.layers.batch_norm and layer_norm.
BATCH_NORM_EPSILON = 1e-3
LAYER_NORM_EPSILON = 1e-12


def specs(norm: str, scope: str, channels: int) -> Tuple[ParameterSpec, ...]:
  """The parameters of a layer `scope` behind its kernel: bias and normalisation.

  Batch norm has an offset and no scale; layer norm has both; 'None' has none.
  They are meta-learned and not adapted in the inner loop. Neither is a bias in
  front of batch norm, since its gradient is zero.

  Raises:
    ConfigError: for another `norm`.
  """
  bias = ParameterSpec(f'{scope}/bias', (channels,), zeros, adapted=norm != 'batch_norm')
  offset = ParameterSpec(f'{scope}/beta', (channels,), zeros, adapted=False)
  scale = ParameterSpec(f'{scope}/gamma', (channels,), ones, adapted=False)
  by_norm = {'batch_norm': (offset,), 'layer_norm': (offset, scale), 'None': ()}
  if not isinstance(norm, str) or norm not in by_norm:
    raise ConfigError(f'norm must be one of {tuple(by_norm)}, texts all of them. Received: '
                      f'{norm!r}.', 'norm')
  return (bias, *by_norm[norm])


def activate(norm: str, scope: str, parameters: Mapping[str, tf.Tensor],
             inputs: tf.Tensor, pool: Callable[[tf.Tensor], tf.Tensor] = lambda x: x,
             statistics_size: Optional[int] = None,
             collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
  """pool(relu(normalise(inputs + bias))), in the order that touches least memory.

  'batch_norm' uses the statistics of each task's examples, always: there are no
  moving averages, in training or testing (as in the TF1 code). 'layer_norm' uses
  those of each example.

  Maxima may be taken before anything increasing: a bias, a ReLU, and batch norm,
  whose scale is positive. A bias in front of batch norm has no effect, and its
  gradient is zero, so it is left out.

  Args:
    norm: 'batch_norm', 'layer_norm' or 'None'.
    scope: of the layer, whose bias and normalisation are in `parameters`.
    parameters: of the learner.
    inputs: what the layer made, `[tasks, examples, ..., channels]`.
    pool: max-pooling; by default none.
    statistics_size: 'batch_norm' takes the statistics of that many examples, from the
      first one on; None: of all. Where `parameters` has SCOPE/mean and SCOPE/variance,
      `[channels]`, it takes these.
    collected: gets the statistics that 'batch_norm' took, by these names.
  """
  rank = inputs.shape.rank
  if norm == 'batch_norm':
    if f'{scope}/mean' in parameters:
      mean, variance = parameters[f'{scope}/mean'], parameters[f'{scope}/variance']
    else:
      measured = inputs if statistics_size is None else inputs[:, :statistics_size]
      mean, variance = moments(measured, range(1, rank - 1))
    if collected is not None:
      collected.update({f'{scope}/mean': mean, f'{scope}/variance': variance})
    scale = tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
    shift = _parameter(parameters, scope, 'beta', rank) - mean * scale
    return task_ops.relu(pool(inputs) * scale + shift)
  bias = _parameter(parameters, scope, 'bias', rank)
  if norm == 'None':
    return task_ops.relu(pool(inputs) + bias)
  inputs += bias
  mean, variance = moments(inputs, range(2, rank))
  scale = (_parameter(parameters, scope, 'gamma', rank)
           * tf.math.rsqrt(variance + LAYER_NORM_EPSILON))
  shift = _parameter(parameters, scope, 'beta', rank) - mean * scale
  return pool(task_ops.relu(inputs * scale + shift))


def _parameter(parameters, scope: str, name: str, rank: int) -> tf.Tensor:
  return task_ops.over_examples(parameters[f'{scope}/{name}'], rank)
