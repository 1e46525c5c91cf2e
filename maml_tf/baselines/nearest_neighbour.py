"""The nearest support image in the features of a trained classifier."""

from __future__ import annotations

import tensorflow as tf

from maml_tf.baselines.classifier import ClassifierBaseline
from maml_tf.episodes import Episodes
from maml_tf.learners.base import Parameters
from maml_tf.task_results import TaskResults


class NearestNeighbour(ClassifierBaseline):
  """The nearest-neighbour baseline of Ravi and Larochelle, "Optimization as a Model for
  Few-Shot Learning" (ICLR 2017, section 5.1), the paper's table 1.

  A classifier of all training classes; a query image gets the label of the support image
  whose features have the largest cosine similarity with its own (as in their code: one
  neighbour, also where a class has several support images).

  In the results, storing the support set is the one "update": before it every answer is
  class 0, after it and all further ones that of the neighbour. The "loss" is the share of
  wrong answers. There is no step size.

  Args: see `ClassifierBaseline`; `step_size` is not used.
  """

  def _group_results(self, parameters: Parameters, episodes: Episodes, num_updates: int
                     ) -> TaskResults:
    found = self.with_features(parameters, episodes)
    answers = nearest_labels(found.support.inputs, found.support.labels, found.query.inputs)
    before = tf.zeros_like(answers)
    accuracies = tf.stack(
        [self._accuracy(before, episodes.query.labels)]
        + [self._accuracy(answers, episodes.query.labels)] * num_updates, axis=1)
    on_support = self._accuracy(tf.zeros_like(episodes.support.labels),
                                episodes.support.labels)
    return TaskResults({'loss': 1 - on_support, 'accuracy': on_support},
                       {'loss': 1 - accuracies, 'accuracy': accuracies})

  def _accuracy(self, answers: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    right = tf.cast(tf.equal(answers, labels), self.meta_parameters.dtype)
    return tf.reduce_mean(right, axis=1)


def nearest_labels(support: tf.Tensor, labels: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
  """The label of the most similar support example, `[tasks, query examples]`.

  Args:
    support: features `[tasks, support examples, features]`.
    labels: `[tasks, support examples]`.
    query: `[tasks, query examples, features]`.

  The similarity is the cosine; among equal ones the first support example counts.
  """
  similarities = tf.matmul(tf.math.l2_normalize(query, axis=-1),
                           tf.math.l2_normalize(support, axis=-1), transpose_b=True)
  return tf.gather(labels, tf.argmax(similarities, axis=-1), axis=1, batch_dims=1)
