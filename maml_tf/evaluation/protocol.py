"""Adaptation to many held-out tasks, measured after every update (A.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from maml_tf.data_generator import DataGenerator
from maml_tf.meta_learner import MetaLearner, TaskResults


class Statistics(NamedTuple):
  """Over tasks, one value per update: arrays `[updates]`.

  Attributes:
    means: of the tasks' values.
    stds: population standard deviation over tasks, as in the TF1 code.
    ci95: half the width of the 95% interval of the mean, 1.96 std / sqrt(tasks).
  """
  means: np.ndarray
  stds: np.ndarray
  ci95: np.ndarray


class Evaluator:
  """Evaluates a model on the first episodes of a sequence, as often as asked.

  The compiled function and the pipeline are made once.

  Args:
    model: the meta-learner.
    generator: its episodes; the same ones every time.
    num_tasks: how many; a multiple of the generator's batch.
    num_updates: inner steps.
  """

  def __init__(self, model: MetaLearner, generator: DataGenerator, num_tasks: int,
               num_updates: int):
    if num_tasks % generator.meta_batch_size:
      raise ValueError(f'num_tasks must be a multiple of the batch. Received: '
                       f'{num_tasks}, with batches of {generator.meta_batch_size}.')
    self._batches = generator.dataset(0, num_tasks // generator.meta_batch_size)
    # Autograph has nothing to convert here, and takes seconds to find that out.
    self._task_results = tf.function(
        lambda episodes: model.task_results(episodes, num_updates), autograph=False)

  def __call__(self, progress=None) -> TaskResults:
    """Results of all tasks, as arrays.

    Args:
      progress: wraps the iteration over batches, like `tqdm`; None: silent.
    """
    batches = self._batches if progress is None else progress(self._batches)
    collected = [self._task_results(episodes) for episodes in batches]
    return TaskResults(*(
        None if values[0] is None else np.concatenate([value.numpy() for value in values])
        for values in zip(*collected)))


def statistics(values: np.ndarray) -> Statistics:
  """Of `[tasks, updates]`, or `[tasks]`."""
  values = np.asarray(values, np.float64)
  stds = values.std(axis=0)
  return Statistics(values.mean(axis=0), stds, 1.96 * stds / np.sqrt(len(values)))


def score(results: TaskResults) -> float:
  """What model selection maximises: the accuracy after the last update, or for
  regressions minus the loss."""
  if results.query['accuracy'] is not None:
    return float(results.query['accuracy'][:, -1].mean())
  return -float(results.query['loss'][:, -1].mean())


def headline(results: TaskResults) -> np.ndarray:
  """`[tasks, updates + 1]`: accuracy, or the loss of a regression, on the query set."""
  return (results.query['loss'] if results.query['accuracy'] is None
          else results.query['accuracy'])


def headline_on_support(results: TaskResults) -> np.ndarray:
  """`[tasks]`: the same on the support set before any update."""
  return (results.support['loss'] if results.support['accuracy'] is None
          else results.support['accuracy'])
