"""Siamese networks: whether two images are of one class."""

from __future__ import annotations

from typing import Any, Dict

import tensorflow as tf

from maml_tf.keras_fit import require
from maml_tf.keras_models.front import learner_and_objective
from maml_tf.learners import comparisons
from maml_tf.learners.base import Parameters, ParameterSpec, glorot_uniform, zeros
from maml_tf.meta_learners.without_inner_loop import (
  Embedded,
  WithoutInnerLoop,
  num_features,
  one_hot,
)

_KERNEL, _BIAS = 'similarity/kernel', 'similarity/bias'


class Siamese(WithoutInnerLoop):
  """Siamese networks (Koch, Zemel, Salakhutdinov 2015, "Siamese Neural Networks for One-shot
  Image Recognition").

  Of two images p = sigmoid(sum_j alpha_j |h1_j - h2_j| + b) is the probability that they
  are of one class (their section 3.1; h: the net's features, alpha and b are learned), and
  training minimises the cross-entropy of that (3.2). A query image gets the class of
  the support image for which p is largest (4.3).

  The pairs of a training batch are those of a query and a support image of a task. Half of
  their batch are pairs of one class, so of each task half of the loss is.

  Departures: the net and its sizes are those of the MAML paper, not their larger one on
  larger images, whose features a sigmoid bounds; Adam in place of momentum with a rate for
  each layer; no weight decay, no distortions beside rotations. With several shots, of
  which they tell nothing, the nearest image counts.

  Args:
    learner, objective, shots, **kwargs: see `WithoutInnerLoop`. The accuracy is that of the
      objective; the loss is that of the pairs.
  """

  def __init__(self, learner: Any, objective: Any, **kwargs):
    learner, objective = learner_and_objective(learner, objective)
    specs = (ParameterSpec(_KERNEL, (num_features(learner), 1), glorot_uniform,
                           adapted=False),
             ParameterSpec(_BIAS, (1,), zeros, adapted=False))
    super().__init__(learner, objective, own_specs=specs, **kwargs)

  def logits(self, parameters: Parameters, tasks: Embedded) -> tf.Tensor:
    """The largest logit of p in each class."""
    pairs = self.of_pairs(parameters, tasks)
    is_of_class = tf.transpose(tasks.is_of_class, [0, 2, 1])[:, tf.newaxis] > 0
    return tf.reduce_max(tf.where(is_of_class, pairs[:, :, tf.newaxis], pairs.dtype.min),
                         axis=-1)

  def as_layers(self, parameters, support, is_of_class, features):
    return comparisons.most_similar(parameters[_KERNEL].numpy(), parameters[_BIAS].numpy(),
                                    support, is_of_class, features)

  def of_pairs(self, parameters: Parameters, tasks: Embedded) -> tf.Tensor:
    """The logit of p, `[tasks, query examples, support examples]`."""
    distances = tf.abs(tasks.query[:, :, tf.newaxis] - tasks.support[:, tf.newaxis])
    return tf.tensordot(distances, parameters[_KERNEL], 1)[..., 0] + parameters[_BIAS]

  def measured(self, parameters: Parameters, tasks: Embedded, labels: tf.Tensor
               ) -> Dict[str, tf.Tensor]:
    pairs = self.of_pairs(parameters, tasks)
    classes = tasks.is_of_class.shape[-1]
    of_query = one_hot(labels, classes, pairs.dtype)
    of_query = require(tf.reduce_all(tf.reduce_any(of_query > 0, axis=-1)), (
        f'Labels of query examples must be those of the support set, 0 to {classes - 1}, or '
        'their pairs would be of two classes all. Received a task with others.'), of_query)
    same = tf.matmul(of_query, tasks.is_of_class, transpose_b=True)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=same, logits=pairs)
    loss = (_mean_where(same, losses) + _mean_where(1 - same, losses)) / 2
    return {**super().measured(parameters, tasks, labels), 'loss': loss}


def _mean_where(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """`[tasks]`; 0 where there are none, as pairs of two classes in a task of one."""
  return tf.math.divide_no_nan(tf.reduce_sum(weights * values, axis=[1, 2]),
                               tf.reduce_sum(weights, axis=[1, 2]))
