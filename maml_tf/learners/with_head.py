"""A net that ends in a linear layer, which some methods treat apart."""

from __future__ import annotations

import abc
from typing import Dict, Mapping, Optional, Tuple

import tensorflow as tf

from maml_tf.learners import task_ops
from maml_tf.learners.base import Learner

HEAD = 'output'   # the last layer of the paper's nets


class WithHead(Learner):
  """A learner that is a head, a linear layer, on features."""

  _mixed_precision = False

  @abc.abstractmethod
  def features(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None,
               collected: Optional[Dict[str, tf.Tensor]] = None) -> tf.Tensor:
    """What the head sees, `[tasks, examples, features]`; arguments as of `__call__`, and
    `collected` as of `normalisation.activate`."""

  def head(self, parameters: Mapping[str, tf.Tensor], features: tf.Tensor) -> tf.Tensor:
    """The outputs for `features`: `[tasks, examples, outputs]`."""
    return task_ops.linear(features, parameters, HEAD, self._mixed_precision)

  def __call__(self, parameters: Mapping[str, tf.Tensor], inputs: tf.Tensor,
               statistics_size: Optional[int] = None) -> tf.Tensor:
    """As in `Learner`, in the dtype of `inputs`.

    Args:
      parameters, inputs: see `Learner`.
      statistics_size: how many of each task's examples, from the first one on, give
        the batch statistics for all of them; None: all. With the support set in
        front of the query set and its size here, no query example sees another.

    Batch statistics are taken over the examples of each task by itself.
    """
    return self.head(parameters, self.features(parameters, inputs, statistics_size))

  @property
  def head_names(self) -> Tuple[str, ...]:
    """The parameters of the last layer."""
    return tuple(spec.name for spec in self.parameter_specs
                 if spec.name.startswith(f'{HEAD}/'))

  @property
  def head_inputs(self) -> int:
    """How many features the last layer gets."""
    [size] = [spec.shape[0] for spec in self.parameter_specs if spec.name == f'{HEAD}/kernel']
    return size
