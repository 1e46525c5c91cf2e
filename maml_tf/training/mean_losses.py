"""Losses for a reader: means over a task's examples, where those that are minimised are sums.

The cross-entropy of images is summed over the examples and divided by K
(`objectives.ScaledCrossEntropy`). So it is larger where there are more query examples: with 15
of a class in training and one in validation 15 times as large, of nets that are equally good.
"""

from __future__ import annotations

import functools
from typing import Callable, List, Optional, Sequence

from maml_tf.config import Config
from maml_tf.meta_learner import MetaLearner
from maml_tf.training.history import Line


def of_training(config: Config, phase: MetaLearner) -> Optional[Callable[[float], float]]:
  """From a loss that a step of `phase` logs to the mean; None where it is one."""
  if not are_of_tasks(config):
    return None
  task, groups = config.task, config.problem.groups(config.with_trained_classes())
  examples = phase.examples_of_loss(groups * task.update_batch_size,
                                    groups * task.train_query_size)
  return functools.partial(phase.objective.mean_over, examples)


def of_history(config: Config, model: MetaLearner, lines: Sequence[Line]) -> List[Line]:
  """The lines of a run's history with all losses as means.

  Args:
    config: of the run.
    model: that was trained; without pre-training before.
    lines: see `history.History`.
  """
  of_a_step = of_training(config, model)
  if of_a_step is None:
    return list(lines)
  task, groups = config.task, config.problem.groups(config)

  def mean(name: str, value: Optional[float]) -> Optional[float]:
    if value is None:
      return None
    if name == 'loss':
      return of_a_step(value)
    if name == 'val_support_loss':
      return model.objective.mean_over(groups * task.update_batch_size, value)
    if name.startswith('val_loss_'):
      return model.objective.mean_over(groups * task.test_query_size, value)
    return value
  return [{name: mean(name, value) for name, value in line.items()} for line in lines]


def are_of_tasks(config: Config) -> bool:
  """Whether the loss is one of tasks, and says something to a reader."""
  return config.baseline.trains_on_tasks and config.problem.measure.beside_loss
