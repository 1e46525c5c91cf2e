"""One meta-batch of tasks."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Episodes(NamedTuple):
  """Tasks, each with its support and its query set.

  Attributes:
    support_inputs: `[tasks, support examples, ...]`.
    support_labels: class indices `[tasks, support examples]` (int32), or targets
      `[tasks, support examples, outputs]`.
    query_inputs, query_labels: the same for the query examples.
  """
  support_inputs: tf.Tensor
  support_labels: tf.Tensor
  query_inputs: tf.Tensor
  query_labels: tf.Tensor
