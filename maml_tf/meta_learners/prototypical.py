"""Prototypical networks: the class whose mean in features is nearest."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.learners import comparisons
from maml_tf.learners.base import Parameters
from maml_tf.meta_learners.without_inner_loop import (
  Embedded,
  WithoutInnerLoop,
  mean_of_classes,
)


class Prototypical(WithoutInnerLoop):
  """Prototypical networks (Snell, Swersky, Zemel 2017, arXiv 1703.05175).

  A class is the mean of its support examples' features, c_k (equation 1); the probability
  of a class is the softmax over minus the squared Euclidean distances to these
  (equation 2), and training minimises minus its logarithm (algorithm 1).

  Squared distances grow with the number of features, and softmax saturates; batch norm
  without scales cannot make them smaller. `distance_scale` multiplies them
  (docs/methods.md has runs with both).

  Their training has more classes in a task than their testing: `--train_num_classes`.

  The step size of Adam is halved every 2,000 episodes, in the presets as in the paper:
  `--meta_lr_schedule=halving`.

  Departure: batch norm's statistics, see `WithoutInnerLoop`.

  Args:
    learner, objective, shots, **kwargs: see `WithoutInnerLoop`.
    distance_scale: what the squared distances are multiplied by, above 0. Their paper's is 1.

  Raises:
    ConfigError: for another `distance_scale`.

  Example:
    >>> import maml_tf
    >>> net = maml_tf.FullyConnected(8, (16,), 3, norm='None')
    >>> model = Prototypical(net, maml_tf.ScaledCrossEntropy(1), shots=1)
    >>> inputs, labels = tf.random.normal([2, 3, 8]), tf.constant([[0, 1, 2]] * 2)
    >>> model.task_results(((inputs, labels), (inputs, labels))).query['accuracy'].numpy()
    array([[1.],
           [1.]], dtype=float32)
  """

  own_arguments = ('shots', 'distance_scale')

  def __init__(self, learner: Any, objective: Any, *, distance_scale: float = 1.0, **kwargs):
    if not (math.isfinite(distance_scale) and distance_scale > 0):
      raise ConfigError('distance_scale must be a finite number above 0. '
                        f'Received: {distance_scale}.')
    super().__init__(learner, objective, **kwargs)
    self._distance_scale = distance_scale

  def logits(self, parameters: Parameters, tasks: Embedded) -> tf.Tensor:
    prototypes = mean_of_classes(tasks.support, tasks.is_of_class)
    products = tf.matmul(tasks.query, prototypes, transpose_b=True)
    query, classes = (tf.reduce_sum(tf.square(values), axis=-1)
                      for values in (tasks.query, prototypes))
    return self._distance_scale * (
        2 * products - query[..., tf.newaxis] - classes[:, tf.newaxis])

  def kept(self, support, is_of_class):
    """The prototypes, each the one example of its class."""
    prototypes = mean_of_classes(support, is_of_class)
    return prototypes, tf.eye(is_of_class.shape[-1], batch_shape=[1], dtype=support.dtype)

  def as_layers(self, parameters, support, is_of_class, features):
    return comparisons.nearest(self._distance_scale, support, features)
