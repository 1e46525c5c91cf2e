"""Losses and accuracies, one value per task."""

from __future__ import annotations

import abc
from typing import Optional

import tensorflow as tf


class Objective(abc.ABC):
  """What a task minimises, and how well it is solved."""

  @property
  @abc.abstractmethod
  def has_accuracy(self) -> bool:
    """False for regressions, which are judged by their loss."""

  @abc.abstractmethod
  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`[tasks]`. Outputs `[tasks, examples, outputs]`; labels as in `Episodes`."""

  @abc.abstractmethod
  def accuracy(self, outputs: tf.Tensor, labels: tf.Tensor) -> Optional[tf.Tensor]:
    """The share of right answers, `[tasks]`; None where there is no such thing."""


class MeanSquaredError(Objective):
  """The mean over a task's examples and outputs (equation 2; a true mean)."""

  has_accuracy = False

  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(outputs - tf.cast(labels, outputs.dtype)), axis=[1, 2])

  def accuracy(self, outputs: tf.Tensor, labels: tf.Tensor) -> None:
    return None


class ScaledCrossEntropy(Objective):
  """Cross-entropy (equation 3), summed over the examples and divided by K.

  This is the TF1 code's scale, and the paper's step sizes belong to it: with one
  support example per class it is N times the mean cross-entropy. The query loss
  is divided by the same K, also where there are 15 query examples per class.

  Args:
    shots: K, the number of support examples per class.
  """

  has_accuracy = True

  def __init__(self, shots: int):
    self._shots = shots

  def loss(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    per_example = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
    return tf.reduce_sum(per_example, axis=1) / self._shots

  def accuracy(self, outputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    right = tf.equal(tf.argmax(outputs, axis=-1, output_type=labels.dtype), labels)
    return tf.reduce_mean(tf.cast(right, outputs.dtype), axis=1)
