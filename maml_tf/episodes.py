"""One meta-batch of tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
  """Examples of every task.

  Attributes:
    inputs: `[tasks, examples, ...]`, or a nest of such tensors.
    labels: class indices `[tasks, examples]` (int32), targets `[tasks, examples, outputs]`,
      or a nest.
  """
  inputs: Any
  labels: Any


class Episodes(NamedTuple):
  """Tasks, each with its support and its query set.

  `((support inputs, support labels), (query inputs, query labels))`: whatever has this
  form can be made one by `as_episodes`.

  Example:
    >>> import tensorflow as tf
    >>> x, y = tf.zeros([4, 5, 1]), tf.ones([4, 5, 1])
    >>> episodes = as_episodes(((x, y), (x, y)))
    >>> num_tasks(episodes)
    4
  """
  support: Batch
  query: Batch

  @classmethod
  def of(cls, support_inputs: Any, support_labels: Any, query_inputs: Any, query_labels: Any
         ) -> 'Episodes':
    return cls(Batch(support_inputs, support_labels), Batch(query_inputs, query_labels))

  def replaced(self, **parts: Any) -> 'Episodes':
    """With other `support_inputs`, `support_labels`, `query_inputs` or `query_labels`."""
    return Episodes.of(**{**dict(
        support_inputs=self.support.inputs, support_labels=self.support.labels,
        query_inputs=self.query.inputs, query_labels=self.query.labels), **parts})


def as_episodes(episodes: Any) -> Episodes:
  """`((inputs, labels), (inputs, labels))` as `Episodes`.

  Raises:
    ValueError: for anything that is not two pairs.
  """
  try:
    support, query = episodes
    return Episodes(Batch(*support), Batch(*query))
  except TypeError as error:
    raise ValueError('A batch of tasks is ((support inputs, support labels), (query inputs, '
                     f'query labels)), each with a leading axis of tasks. Received: '
                     f'{type(episodes).__name__}.') from error


def num_tasks(batch: Any) -> int:
  """The size of the leading axis of a nest of tensors; None where it is not known."""
  return tf.nest.flatten(batch)[0].shape[0]


def num_examples(batch: Any) -> int:
  """The size of the axis behind it."""
  return tf.nest.flatten(batch)[0].shape[1]
