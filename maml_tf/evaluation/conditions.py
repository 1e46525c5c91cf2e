"""How the way of testing changes the result: query set sizes and batch statistics.

The TF1 code tests with one query image per class (for 1-shot) and normalises the query
batch with its own statistics, so that every query image is classified with the help of
the others (transductive). Here the same adapted nets are measured under several such
conditions at once.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.data_generator import DataGenerator
from maml_tf.episodes import Episodes
from maml_tf.evaluation.protocol import statistics
from maml_tf.inner_loop import after
from maml_tf.meta_learner import MetaLearner

FROM_QUERY, FROM_SUPPORT = 'transductive', 'inductive'
STATISTICS = (FROM_QUERY, FROM_SUPPORT)


class Condition(NamedTuple):
  """One way to measure an adapted net.

  Attributes:
    query_size: query images per class.
    statistics: 'transductive': batch norm uses the statistics of the query batch, as
      in training and in the TF1 code; 'inductive': those of the support set, so that no
      query image sees another.
  """
  query_size: int
  statistics: str


class Row(NamedTuple):
  """The mean accuracy under a condition, over `num_tasks` tasks."""
  num_tasks: int
  query_size: int
  statistics: str
  updates: int
  mean: float
  std: float
  ci95: float


def conditions(query_sizes: Sequence[int]) -> Tuple[Condition, ...]:
  """All combinations."""
  return tuple(Condition(size, kind) for size in query_sizes for kind in STATISTICS)


def task_accuracies(model: MetaLearner, episodes: Episodes, num_classes: int,
                    query_sizes: Sequence[int], updates: Sequence[int]) -> tf.Tensor:
  """Adapts to every task once, and measures under all conditions.

  Args:
    model: of a classification.
    episodes: with as many query examples per class as the largest of `query_sizes`, in
      groups of one example per class (as `ImageSource` makes them).
    num_classes: N.
    query_sizes: a smaller one takes the first examples.
    updates: after which inner steps to measure, ascending.

  Returns:
    `[tasks, conditions, updates]`, the conditions in the order of `conditions`; NaN where
    the loss is not finite, since the largest of outputs that are no numbers says nothing.
  """
  parameters = model.meta_parameters.tensors()
  steps = model.adaptation(parameters, episodes, max(updates), first_order=True)
  return tf.stack(after(steps, updates, lambda adapted: _accuracies(
      model, adapted, episodes, num_classes, query_sizes)), axis=2)


class ConditionsEvaluator:
  """Measures a model under all conditions on stretches of one sequence of episodes.

  Args:
    model, num_classes, query_sizes, updates: see `task_accuracies`.
    generator: of the episodes.
  """

  def __init__(self, model: MetaLearner, generator: DataGenerator, num_classes: int,
               query_sizes: Sequence[int], updates: Sequence[int]):
    self._generator = generator
    self._group = model.groups(generator.dataset(0, 1).element_spec).size
    self._task_accuracies = tf.function(
        lambda episodes: task_accuracies(model, episodes, num_classes, query_sizes,
                                         updates), autograph=False)

  def __call__(self, first: int, count: int, progress=None) -> np.ndarray:
    """`task_accuracies` of episodes `first` to `first + count - 1`, as an array.

    Args:
      first, count: of the episodes.
      progress: wraps the iteration over groups of tasks, like `tqdm`; None: silent.
    """
    size = self._generator.meta_batch_size
    last = math.ceil((first + count) / size)
    tasks = self._generator.dataset(first // size, last - first // size).unbatch()
    groups = tasks.skip(first % size).take(count).batch(self._group).prefetch(2)
    groups = groups.apply(tf.data.experimental.assert_cardinality(
        math.ceil(count / self._group)))
    return np.concatenate([self._task_accuracies(episodes).numpy() for episodes in
                           (groups if progress is None else progress(groups))])


def rows(accuracies: np.ndarray, query_sizes: Sequence[int], updates: Sequence[int]
         ) -> List[Row]:
  """The statistics of `[tasks, conditions, updates]`."""
  found = []
  for index, condition in enumerate(conditions(query_sizes)):
    over_tasks = statistics(accuracies[:, index])
    for place, update in enumerate(updates):
      found.append(Row(len(accuracies), *condition, update,
                       *(float(values[place]) for values in over_tasks)))
  return found


def _accuracies(model, adapted, episodes, num_classes, query_sizes) -> tf.Tensor:
  """`[tasks, conditions]`."""
  support_size = episodes.support.inputs.shape[1]
  both = tf.concat([episodes.support.inputs, episodes.query.inputs], axis=1)
  alone = model.learner(adapted, both, statistics_size=support_size)[:, support_size:]
  values = []
  for query_size, kind in conditions(query_sizes):
    count = num_classes * query_size
    if kind == FROM_QUERY:
      outputs = model.learner(adapted, episodes.query.inputs[:, :count])
    else:
      outputs = alone[:, :count]
    measured = model.objective.measured(outputs, episodes.query.labels[:, :count])
    accuracy = measured[model.measure.name]
    values.append(tf.where(tf.math.is_finite(measured['loss']), accuracy,
                           tf.constant(math.nan, accuracy.dtype)))
  return tf.stack(values, axis=1)
