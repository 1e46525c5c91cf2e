"""What `main.py` does with a configuration: train, test, report."""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import Optional, Tuple

from tqdm import tqdm

from maml_tf import devices, experiment
from maml_tf.command_line import exit_code
from maml_tf.config import Config, ConfigError
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.evaluation.results_files import ProtocolRun, table, write_results
from maml_tf.evaluation.tuning import Tuning, tune_step_size
from maml_tf.files import reported
from maml_tf.meta_learner import MetaLearner
from maml_tf.paper import weights
from maml_tf.paper.rows import paper_values
from maml_tf.training.callbacks import describe
from maml_tf.training.checkpoints import (
  experiment_folder,
  goes_on,
  iteration_of,
  restore_for_test,
  training_folder,
)
from maml_tf.training.trainer import TrainingResult, Watch, train


def run(config: Config, program: str = 'main.py') -> int:
  """Trains if asked to, then tests; the exit code. Problems are one sentence on stderr,
  under the name `program`."""
  return exit_code(program, lambda: _run(config))


def _run(config: Config) -> None:
  print(f'Device: {devices.set_up(experiment.side_by_side(config))}')
  print(config.to_json(), end='')
  model = experiment.build_model(config)
  print(describe(model))
  if config.run.train:
    if _names_parameters(config) and not goes_on(config):
      print(f'Parameters of a new run: from {_load_named(config, model)[0]}')
    if train_or_resume(config, model).interrupted_by is not None:
      return
  test(config, model, experiment_folder(config))


def train_or_resume(config: Config, model: MetaLearner, until: Optional[int] = None,
                    watch: Optional[Watch] = None) -> TrainingResult:
  """Training in the experiment's folder; says what happens. See `trainer.train`."""
  with training_folder(config) as folder:
    print(f'Experiment folder: {folder}', flush=True)
    config.problem.keep_beside(folder, config)
    result = train(config, model, folder, until, watch)
  if result.interrupted_by is not None:
    print(f'Stopped by {result.interrupted_by} at iteration {result.iteration} of '
          f'{config.total_iterations}; saved as {result.checkpoint}. The same command '
          'goes on from there.')
  return result


def test(config: Config, model: MetaLearner, folder: str) -> ProtocolRun:
  """The test protocol on the checkpoint that the configuration asks for.

  Prints the table, and writes CSV, JSON and for sinusoids figure 2 into `folder`.

  Raises:
    CheckpointError: where there is no such checkpoint, or it does not fit.
  """
  checkpoint, iteration = load_for_test(config, model, folder)
  evaluation = config.evaluation
  tuning = tune(config, model) if evaluation.tune_update_lr else None
  generator = experiment.evaluation_generator(config, config.split,
                                              evaluation.num_test_tasks)
  evaluator = Evaluator(model, generator, evaluation.num_test_tasks,
                        evaluation.test_num_updates)
  started = time.monotonic()
  bar = functools.partial(tqdm, desc='Testing', unit='batch', leave=False, file=sys.stderr)
  results = evaluator(progress=bar)
  test_run = ProtocolRun(
      config=config, results=results, checkpoint=checkpoint,
      iteration=iteration,
      fingerprint=generator.fingerprint(evaluation.num_test_tasks),
      seconds=time.monotonic() - started, tuning=tuning)
  _report(test_run, model, generator, folder)
  return test_run


def tune(config: Config, model: MetaLearner) -> Tuning:
  """Chooses the model's step size on validation tasks, and says which.

  These are of the validation classes, and are used for nothing else: neither for
  choosing checkpoints nor for testing.
  """
  num_tasks = config.training.num_validation_tasks
  generator = experiment.evaluation_generator(config, 'val', num_tasks,
                                              experiment.TUNING_SEED)
  tuning = tune_step_size(model, generator, num_tasks, config.evaluation.test_num_updates)
  print(tuning.describe(config.problem.measure), flush=True)
  return tuning


def load_for_test(config: Config, model: MetaLearner, folder: str
                  ) -> Tuple[str, Optional[int]]:
  """Path and iteration of the checkpoint whose parameters the model has now."""
  if config.run.train or not _names_parameters(config):
    checkpoint = restore_for_test(folder, config, parameters=model.meta_parameters)
    return checkpoint, iteration_of(checkpoint)
  checkpoint, iteration = _load_named(config, model)
  try:
    os.makedirs(folder, exist_ok=True)   # there need not be a run of this project
  except OSError as error:
    raise ConfigError(f'{folder} cannot be written ({error.strerror}): choose another '
                      '--logdir.') from error
  return checkpoint, iteration


def _names_parameters(config: Config) -> bool:
  """Whether a flag names parameters that are not those of the experiment's folder."""
  return config.run.legacy_checkpoint is not None or config.run.pretrained is not None


def _load_named(config: Config, model: MetaLearner) -> Tuple[str, Optional[int]]:
  """Sets the parameters to those of the TF1 checkpoint, or of the file of weights; its
  path and iteration."""
  if config.run.pretrained is not None:
    path, iteration = weights.resolve(config.run.pretrained)
    weights.load(path, model)
  else:
    from maml_tf.legacy import checkpoint as legacy_checkpoint  # few runs need it
    path = legacy_checkpoint.resolve_path(config.run.legacy_checkpoint)
    iteration = legacy_checkpoint.iteration_of(path)
    model.meta_parameters.assign(
        legacy_checkpoint.read(path, model.learner, config.learner.dtype))
  return path, iteration


def _report(test_run: ProtocolRun, model: MetaLearner, generator, folder: str) -> None:
  config = test_run.config
  tasks = config.evaluation.num_test_tasks
  split = config.problem.recorded_split(config)
  classes = f' of the {split} classes' if split else ''
  print(f'Test: {tasks} tasks{classes}, {test_run.checkpoint}, {test_run.seconds:.1f} s')
  print(table(test_run, paper_values(config)))
  with reported(folder):
    paths = list(write_results(folder, test_run))
  paths += config.problem.draw_results(
      folder, config, model, generator,
      f'{config.task.update_batch_size}-shot, iteration {test_run.iteration}')
  for path in paths:
    print(f'Written: {path}')
