"""The validation tasks of a run, on which checkpoints are scored."""

from __future__ import annotations

import functools
from typing import Callable, Tuple

import tensorflow as tf

from maml_tf import experiment
from maml_tf.config import Config
from maml_tf.data_generator import DataGenerator
from maml_tf.evaluation.protocol import Evaluator, score
from maml_tf.meta_learner import MetaLearner
from maml_tf.replicas import Replicas


def validation_tasks(config: Config, model: MetaLearner
                     ) -> Tuple[Evaluator, Callable[[], str]]:
  """(What scores the parameters, and what tells its tasks from others)."""
  # A classifier may be tested with other shots than its checkpoint is chosen by.
  config = config.with_trained_shots()
  num_tasks = config.training.num_validation_tasks
  num_updates = config.validation_num_updates
  generator = experiment.evaluation_generator(config, 'val', num_tasks,
                                              replicas=Replicas.of(model).number)
  evaluator = Evaluator(experiment.build_validated(config, model), generator, num_tasks,
                        num_updates)
  return evaluator, functools.cache(lambda: what_tells(config, generator))


def what_tells(config: Config, generator: DataGenerator) -> str:
  """What tells the validation tasks of a run from others: their fingerprint, and how many
  updates are made in them, of how many examples.

  Args:
    config: of the run, with the shots of its training.
    generator: of the tasks.
  """
  size = config.evaluation.test_inner_batch_size
  return (f'{generator.fingerprint(config.training.num_validation_tasks)}, '
          f'{config.validation_num_updates} updates{f" of {size} examples" if size else ""}')


def score_of(model: MetaLearner, evaluator: Evaluator, path: str) -> float:
  """Of the checkpoint `path`; `model`, which `evaluator` evaluates, stays as it is."""
  current = model.state()   # what a method keeps beside the parameters, too
  try:
    status = tf.train.Checkpoint(parameters=model.meta_parameters).restore(path)
    status.expect_partial().assert_existing_objects_matched()
    return score(evaluator.alone()(), evaluator.measure)
  finally:
    model.assign_state(current)
