"""How well tasks were solved, and under which names its means are logged."""

from __future__ import annotations

from typing import Dict, NamedTuple

import tensorflow as tf


class TaskResults(NamedTuple):
  """How well each task was solved, by the name of the measure.

  Attributes:
    support: `[tasks]`, on the support set before any update (the TF1 code's 'pre-update'
      values).
    query: `[tasks, updates + 1]`, on the query set before the first update and after
      each one.
  """
  support: Dict[str, tf.Tensor]
  query: Dict[str, tf.Tensor]


def named_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """{name: mean over tasks}, under the TF1 code's names without their prefix.

  'Pre-update' is the support set before any update, 'Post-update ..., step J' the
  query set after J updates. 'Query ... before update' is new here.
  """
  means = {f'Pre-update_{name}': tf.reduce_mean(values)
           for name, values in results.support.items()}
  for name, values in results.query.items():
    by_step = tf.unstack(tf.reduce_mean(values, axis=0))
    means[f'Query_{name}_before_update'] = by_step[0]
    # The TF1 code wrote 'Post-update loss, step 1'; TensorBoard showed this.
    means.update({f'Post-update_{name}__step_{step}': value
                  for step, value in enumerate(by_step) if step > 0})
  return means


def plainly_named_means(results: TaskResults) -> Dict[str, tf.Tensor]:
  """As in `named_means`, of the query set alone: 'loss' after the last update, as Keras
  names it, and 'loss_before_update'."""
  means = {name: tf.reduce_mean(values[:, -1]) for name, values in results.query.items()}
  means.update({f'{name}_before_update': tf.reduce_mean(values[:, 0])
                for name, values in results.query.items()})
  return means
