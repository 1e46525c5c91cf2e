"""Whether a test can stand beside the paper's values: of its row, settings and length."""

from __future__ import annotations

import dataclasses
from typing import Dict, NamedTuple, Optional

from maml_tf.config import Config, differences
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import row_tested

# What a row's runs may differ in among themselves, or what only says how much is tested.
_OF_NO_MATTER = frozenset([
    'data_dir', 'seed', 'dtype', 'tasks_at_once', 'recompute_inner_steps', 'xla', 'test_set',
    'validation_interval', 'num_validation_tasks', 'metatrain_iterations', 'test_iter',
    'test_checkpoint', 'num_test_tasks', 'test_num_updates', 'train', 'resume', 'log',
    'logdir', 'distribution_strategy', 'num_gpus', 'worker_hosts', 'task_index',
    'worker_timeout', 'simulation_threads', 'simulation_processes'])
# What a test names is tested; what a training names is where it starts from.
_TESTED = frozenset(['legacy_checkpoint', 'pretrained'])
# The TF1 code named a checkpoint after its last iteration, or one before.
_OFF_BY_TF1 = 1000


class Comparison(NamedTuple):
  """What stands beside a test.

  Attributes:
    values: {updates: the paper's value}.
    why_none: a sentence where there would be values, and they are of another run, or the
      tested classes may be ones that the net was trained on.
  """
  values: Dict[int, str]
  why_none: Optional[str] = None


def comparison(config: Config, trained: Optional[int], weights_of: Optional[str] = None,
               of_other_data: bool = False) -> Comparison:
  """The paper's values for a test, where these are of the same settings and length.

  Args:
    config: of the test.
    trained: iterations of the tested run; None: not known.
    weights_of: the row that the tested weights were kept for; None: no row's are tested.
    of_other_data: whether these are of other data than are tested.
  """
  if of_other_data or (config.run.legacy_checkpoint is not None
                       and not config.problem.split_of_tf1):
    return Comparison({}, "The paper's values are of classes that the net did not know.")
  row = row_tested(config)
  if row is None or not row.paper:
    return Comparison({})
  if weights_of not in (None, row.name):
    return Comparison({}, f"The paper's values are of {row.name}, and the weights of "
                          f'{weights_of}.')
  planned = row_config(row)
  changed = differences(_trained_with(planned), _trained_with(config), ignore=(
      _OF_NO_MATTER if config.run.train else _OF_NO_MATTER | _TESTED))
  if changed:
    listed = ', '.join(f'{name} {there} and not {here}'
                       for name, (there, here) in changed.items())
    return Comparison({}, f"The paper's values are of other settings ({listed}).")
  late_enough = planned.total_iterations - (_OFF_BY_TF1 if config.run.legacy_checkpoint else 0)
  if trained is not None and not late_enough <= trained <= planned.total_iterations:
    return Comparison({}, "The paper's values are of "
                          f'{planned.total_iterations:,} iterations, and not of {trained:,}.')
  return Comparison(dict(row.paper))


def _trained_with(config: Config) -> Config:
  """`config`, in which the shots and the step size of the training are numbers always."""
  return dataclasses.replace(config, evaluation=dataclasses.replace(
      config.evaluation, train_update_batch_size=config.trained_shots,
      train_update_lr=config.trained_step_size))
