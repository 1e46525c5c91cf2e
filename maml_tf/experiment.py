"""From a configuration to the objects that it describes."""

from __future__ import annotations

import math
import os
from typing import Union

import tensorflow as tf

from maml_tf import devices
from maml_tf.batch_generator import BatchGenerator
from maml_tf.config import Config, ConfigError
from maml_tf.data_generator import DataGenerator
from maml_tf.learners import Learner
from maml_tf.meta_learner import MetaLearner
from maml_tf.task_groups import available_cores, divides, keeps_cores_busy, task_groups

# Validation and test episodes do not follow the run's seed: they are the same for
# every run and every checkpoint, so that their scores can be compared.
EVALUATION_SEED = 0
# The step size is tuned on validation tasks that are not those either.
TUNING_SEED = 1


def set_up(config: Config) -> str:
  """`devices.set_up` for a run, before anything asks TensorFlow for devices."""
  hide_unwanted_gpus(config)
  return devices.set_up(side_by_side(config))


def hide_unwanted_gpus(config: Config) -> None:
  """For a run on the CPU; before anything asks TensorFlow for devices."""
  if config.run.num_gpus == 0:   # all that goes by whether there is one goes by this
    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'


def build_learner(config: Config) -> Learner:
  """The paper's net for the problem, with a context where there is one."""
  return config.problem.learner(config)


def build_model(config: Config) -> MetaLearner:
  """What is tested, with new parameters, not compiled: a meta-learner, or a baseline."""
  tasks, group = config.training.meta_batch_size, config.training.tasks_at_once
  if config.baseline.trains_on_tasks and not divides(group, tasks):
    raise ConfigError(f'--tasks_at_once={group} does not divide '
                      f'--meta_batch_size={tasks}: choose a divisor, or 0.')
  return config.baseline.model(config)


def build_pretraining(config: Config, model: MetaLearner) -> MetaLearner:
  """The pre-training phase, which trains the parameters of `model`."""
  return config.baseline.pretraining(config, model)


def build_validated(config: Config, model: MetaLearner) -> MetaLearner:
  """What is scored on validation tasks in training: `model`, but for classifiers."""
  return config.baseline.validated(config, model)


def training_generator(config: Config) -> Union[DataGenerator, BatchGenerator]:
  """The training episodes of the run, or its batches where nothing is adapted."""
  return config.baseline.training_generator(config)


def evaluation_generator(config: Config, split: str, num_tasks: int,
                         seed: int = EVALUATION_SEED, replicas: int = 1) -> DataGenerator:
  """Validation or test episodes, see `Problem.held_out`.

  Args:
    config: the configuration.
    split: 'val' or 'test'.
    num_tasks: how many episodes will be used.
    seed: of the episodes: `EVALUATION_SEED` or `TUNING_SEED`.
    replicas: that share the batches.
  """
  return config.problem.held_out(config, split, num_tasks, seed, replicas)


def use_xla(config: Config) -> bool:
  """Whether the step is compiled by XLA, see `Problem.use_xla`."""
  return config.problem.use_xla(config)


def side_by_side(config: Config) -> bool:
  """Whether training is faster with each core of a CPU at tasks of its own.

  See `task_groups`; for `devices.set_up`, before anything is built.
  """
  training, task = config.training, config.task
  if (use_xla(config) or tf.config.list_physical_devices('GPU')
      or not config.baseline.trains_on_tasks
      or not divides(training.tasks_at_once, training.meta_batch_size)):
    return False
  cores = available_cores()
  examples = (config.problem.groups(config.with_trained_classes())
              * (task.update_batch_size + task.train_query_size))
  groups = task_groups(
      training.meta_batch_size, examples, math.prod(config.problem.input_shape(config)),
      at_once=training.tasks_at_once, cores=cores)
  return keeps_cores_busy(training.meta_batch_size, groups, cores)
