"""The phases of a run, compiled: pre-training where there is one, and meta-training."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

from maml_tf import experiment
from maml_tf.config import Config
from maml_tf.meta_learner import MetaLearner
from maml_tf.replicas import Replicas
from maml_tf.training import callbacks as run_callbacks
from maml_tf.training.optimizers import build_optimizer, decay_iterations


def steps_per_execution(config: Config) -> int:
  """A divisor of all intervals: what is due falls between two executions."""
  return math.gcd(config.problem.most_steps_per_execution, run_callbacks.SUMMARY_INTERVAL,
                  save_interval(config), config.training.validation_interval)


def save_interval(config: Config) -> int:
  """Iterations between two checkpoints."""
  return config.problem.save_interval or run_callbacks.SAVE_INTERVAL


def compile_model(config: Config, model: MetaLearner) -> MetaLearner:
  """`model`, compiled for training as the configuration says."""
  with Replicas.of(model).scope():
    optimizer = build_optimizer(config.training.meta_optimizer, config.training.meta_lr,
                                config.learner.dtype, decay_iterations(config.training),
                                config.training.meta_lr_schedule)
    model.compile(optimizer, jit_compile=experiment.use_xla(config),
                  steps_per_execution=steps_per_execution(config))
  return model


def compile_phases(config: Config, model: MetaLearner
                   ) -> Tuple[Optional[MetaLearner], Dict[str, Any]]:
  """Compiles `model`, and what trains its parameters before, where the run has that.

  Returns:
    (the pre-training phase or None, {name: what a checkpoint holds}).
  """
  pretraining, saved = None, {}
  if config.training.pretrain_iterations:
    pretraining, saved = saved_of_pretraining(config, model)
  compile_model(config, model)
  return pretraining, dict(parameters=model.meta_parameters,
                           meta_optimizer=model.optimizer, **saved)


def saved_of_pretraining(config: Config, model: MetaLearner
                         ) -> Tuple[MetaLearner, Dict[str, Any]]:
  """(The pre-training phase, {name: what a checkpoint holds of it})."""
  with Replicas.of(model).scope():
    pretraining = experiment.build_pretraining(config, model)
  compile_model(config, pretraining)
  saved = dict(pretrain_optimizer=pretraining.optimizer)
  if pretraining.meta_parameters is not model.meta_parameters:
    saved.update(pretrain_parameters=pretraining.meta_parameters)
  return pretraining, saved
