"""A configuration in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maml_tf.measures import counted

if TYPE_CHECKING:
  from maml_tf.config.schema import Config


def summary(config: 'Config') -> str:
  """What a reader of a log wants to know; `config.json` in the run's folder has the rest.

  Example:
    >>> from maml_tf.config import resolve
    >>> summary(resolve({'datasource': 'omniglot', 'update_batch_size': 5}))
    'omniglot, maml: 5-way 5-shot, 1 update of 0.4, 32 tasks a step, 60,000 iterations, seed 0'
  """
  training = config.training
  name = training.method if training.baseline == 'None' else training.baseline
  parts = [config.problem.task_in_words(config)]
  if config.has_inner_loop and training.metatrain_iterations:
    parts.append(_updates(config))
    parts.append(f'{counted(training.meta_batch_size, "task")} a step')
  parts += [counted(config.total_iterations, 'iteration'), f'seed {config.task.seed}']
  return f'{config.task.datasource}, {name}: {", ".join(parts)}'


def _updates(config: 'Config') -> str:
  inner_loop = config.inner_loop
  text = f'{counted(inner_loop.num_updates, "update")} of {inner_loop.update_lr:g}'
  return f'{text} in first order' if inner_loop.stop_grad else text
