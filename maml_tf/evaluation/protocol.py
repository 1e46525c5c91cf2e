"""Adaptation to many held-out tasks, measured after every update (A.1)."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.data_generator import WHOLE, DataGenerator, Part
from maml_tf.measures import Measure, counted
from maml_tf.meta_learner import MetaLearner
from maml_tf.numpy_calls import as_raised
from maml_tf.replicas import Replicas
from maml_tf.task_results import TaskResults


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
    num_tasks: how many; of the last batch what is beyond them is left out.
    num_updates: inner steps.
    shared: among all processes of the model's strategy, which all call it then, and all have
      all results; False: this one does all tasks.
  """

  def __init__(self, model: MetaLearner, generator: DataGenerator, num_tasks: int,
               num_updates: int, shared: bool = True):
    self._arguments = model, generator, num_tasks, num_updates
    self._num_tasks = num_tasks
    self._replicas = Replicas.of(model)
    self._part = (Part(self._replicas.worker, self._replicas.workers) if shared else WHOLE)
    # One at least for each process, which knows the form of all by its own.
    self._number = max(self._part.of, -(-num_tasks // generator.meta_batch_size))
    self._batches = generator.dataset(0, self._number, every=self._part)
    self._model = model
    self._task_results = model.results_function(num_updates)

  def alone(self) -> 'Evaluator':
    """One that does all tasks in this process."""
    return self if self._part.of == 1 else Evaluator(*self._arguments, shared=False)

  @property
  def measure(self) -> Measure:
    """What the model's tasks are judged by."""
    return self._model.measure

  def __call__(self, progress=None) -> TaskResults:
    """Results of all tasks, as arrays.

    Args:
      progress: wraps the iteration over batches, like `tqdm`; None: silent.

    Raises:
      UserError: of the source of the episodes, as `DataError` where a file was changed.
    """
    batches = self._batches if progress is None else progress(self._batches)
    with as_raised():
      collected = self._replicas.map(self._task_results, batches, self._model.in_graphs)
    if self._part.of > 1:
      return self._of_all(collected)
    return tf.nest.map_structure(
        lambda *values: np.concatenate(values)[:self._num_tasks], *collected)

  def _of_all(self, collected: Sequence[TaskResults]) -> TaskResults:
    """With the results of the other processes between those of this one."""
    form = collected[0]
    whole = [np.zeros([self._number, *one.shape], one.dtype) for one in tf.nest.flatten(form)]
    for place, results in enumerate(collected):
      for values, own in zip(whole, tf.nest.flatten(results)):
        values[self._part.number + place * self._part.of] = own
    return tf.nest.pack_sequence_as(form, [
        values.reshape(-1, *values.shape[2:])[:self._num_tasks]
        for values in self._replicas.combined(whole)])


def where_not_finite(results: TaskResults) -> Optional[str]:
  """Which of the results has a number that is not finite, as a phrase: the first measure,
  and since which update; None where all are finite."""
  for name, values in results.support.items():
    if not np.isfinite(values).all():
      return f'the {name} of the support set before any update'
  for name, values in results.query.items():
    finite = np.isfinite(values).all(axis=0)
    if not finite.all():
      updates = counted(int(np.argmin(finite)), 'update')
      return f'the {name} of the query set after {updates}'
  return None


def statistics(values: np.ndarray) -> Statistics:
  """Of `[tasks, updates]`, or `[tasks]`; not finite where a value is not."""
  values = np.asarray(values, np.float64)
  with np.errstate(over='ignore', invalid='ignore'):
    stds = values.std(axis=0)
    return Statistics(values.mean(axis=0), stds, 1.96 * stds / np.sqrt(len(values)))


def score(results: TaskResults, measure: Measure) -> float:
  """What model selection maximises: the measure after the last update, or minus it where
  less is better. Minus infinity where a result is not finite: of outputs that are no numbers
  the largest is some class, and chance an accuracy."""
  if where_not_finite(results) is not None:
    return -math.inf
  return measure.score(float(results.query[measure.name][:, -1].mean()))
