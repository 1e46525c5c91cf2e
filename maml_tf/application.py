"""What `main.py` does with a configuration: train, test, report."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from typing import Optional, Tuple

from maml_tf import bars, command_line, experiment, outputs
from maml_tf.config import Config, ConfigError
from maml_tf.config.summary import summary
from maml_tf.evaluation.protocol import Evaluator, where_not_finite
from maml_tf.evaluation.results_files import ProtocolRun, table, write_results
from maml_tf.evaluation.tuning import Tuning, tune_step_size
from maml_tf.files import reported, writable
from maml_tf.interruptions import leaving, put_off
from maml_tf.measures import counted
from maml_tf.meta_learner import MetaLearner
from maml_tf.paper import weights
from maml_tf.paper.comparable import comparison
from maml_tf.paper.records import Record
from maml_tf.replicas import Replicas
from maml_tf.strategies import joined
from maml_tf.tensorflow_log import compile_unheard
from maml_tf.training.checkpoint_files import CheckpointFiles, best_of, iteration_of
from maml_tf.training.checkpoint_for_test import restore_for_test
from maml_tf.training.divergence import advice_for_test
from maml_tf.training.run_code import require_same_code
from maml_tf.training.run_data import require_same_data
from maml_tf.training.run_folder import experiment_folder, goes_on, training_folder
from maml_tf.training.trainer import TrainingResult, train


def run(config: Config, program: str = 'main.py') -> int:
  """Trains if asked to, then tests; the exit code. Problems are one sentence on stderr,
  under the name `program`."""
  return command_line.exit_code(program, lambda: _run(config, program))


def _run(config: Config, program: str) -> int:
  print(f'Device: {experiment.set_up(config)}')
  print(summary(config))
  with leaving(lambda: _what_was_trained(config)), joined(config, program) as replicas:
    if replicas.are_several:
      print(f'Strategy: {replicas.describe()}', flush=True)
    if experiment.use_xla(config):
      compile_unheard()
    with replicas.scope():
      model = experiment.build_model(config)
    return _train_and_test(config, model, replicas)


def _train_and_test(config: Config, model: MetaLearner, replicas: Replicas) -> int:
  print(_describe(model))
  if config.run.train:
    if replicas.is_writer:   # which alone has the folder of the run
      _require_validation(config)
      if _names_parameters(config) and not goes_on(config):
        print(f'Parameters of a new run: from {_load_named(config, model)[0]}')
    if train_or_resume(config, model).interrupted_by is not None:
      return command_line.DONE
  with leaving(lambda: 'the test was not done to its end; '
                       f'{_command_that_goes_on(config)} tests again'):
    results = test(config, model, experiment_folder(config)).results
  finite = where_not_finite(results) is None
  return command_line.DONE if finite else command_line.FAILED


def _describe(model: MetaLearner) -> str:
  """One line about the net, for the log."""
  arrays = model.meta_parameters.arrays().values()
  return (f'{type(model).__name__}, {type(model.learner).__name__}: '
          f'{sum(array.size for array in arrays):,} parameters')


def _require_validation(config: Config) -> None:
  """Raises: ConfigError: where there would be no best checkpoint to test."""
  interval, iterations = config.training.validation_interval, config.total_iterations
  best = best_of(experiment_folder(config))
  if (config.evaluation.test_checkpoint == 'best' and 0 < iterations < interval
      and not (config.run.resume and best.paths)):   # without, it is moved aside
    raise ConfigError(
        f'--test_checkpoint=best does not fit a run of {counted(iterations, "iteration")}, '
        f'which --validation_interval={interval} never validates: give --validation_interval='
        f'{max(1, iterations // 10)}, or --test_checkpoint=latest.')


def _what_was_trained(config: Config) -> str:
  """In a phrase, when a run is interrupted."""
  if not config.run.train:
    return 'nothing was tested yet'
  if config.run.distribution_strategy == 'multi_worker_mirrored':   # the folder is worker 0's
    return (f'{_command_that_goes_on(config)}, for all workers, goes on from the last '
            'checkpoint, if there is one')
  iterations = [iteration_of(path)
                for path in CheckpointFiles(experiment_folder(config)).paths]
  if not iterations:
    return 'nothing was trained yet'
  return f'{_command_that_goes_on(config)} goes on from iteration {max(iterations)}'


def _command_that_goes_on(config: Config) -> str:
  """In a phrase: with --resume=False a run starts over."""
  return 'the same command' if config.run.resume else 'this command without --resume=False'


def train_or_resume(config: Config, model: MetaLearner, until: Optional[int] = None
                    ) -> TrainingResult:
  """Training in the experiment's folder; says what happens. See `trainer.train`."""
  is_writer = Replicas.of(model).is_writer
  with (training_folder(config) if is_writer else
        contextlib.nullcontext(experiment_folder(config))) as folder:
    if is_writer:
      print(f'Experiment folder: {folder}', flush=True)
      config.problem.keep_beside(folder, config)
    result = train(config, model, folder, until)
  say_where_it_stopped(config, result, is_writer)
  return result


def say_where_it_stopped(config: Config, result: TrainingResult, is_writer: bool = True
                         ) -> None:
  """Where a signal ended the training."""
  if result.interrupted_by is not None:
    saved = f'saved as {result.checkpoint}' if is_writer else 'saved by worker 0'
    print(f'Stopped by {result.interrupted_by} at iteration {result.iteration} of '
          f'{config.total_iterations}; {saved}; {_command_that_goes_on(config)} goes on from '
          'there.')


def test(config: Config, model: MetaLearner, folder: str) -> ProtocolRun:
  """The test protocol on the checkpoint that the configuration asks for.

  Writes CSV, JSON and for sinusoids figure 2 into `folder`, and prints the table; where
  results are not finite, standard error says so.

  Raises:
    CheckpointError: where there is no such checkpoint, or it does not fit.
  """
  replicas = Replicas.of(model)
  checkpoint, iteration = (load_for_test(config, model, folder) if replicas.is_writer
                           else ('', None))
  if replicas.workers > 1:
    state = model.state()
    model.assign_state(dict(zip(state, replicas.of_writer(list(state.values())))))
  evaluation = config.evaluation
  tuning = tune(config, model) if evaluation.tune_update_lr else None
  generator = experiment.evaluation_generator(config, config.split,
                                              evaluation.num_test_tasks,
                                              replicas=replicas.number)
  evaluator = Evaluator(model, generator, evaluation.num_test_tasks,
                        evaluation.test_num_updates)
  started = time.monotonic()
  bar = functools.partial(bars.of_a_test, shown=replicas.is_writer)
  results = evaluator(progress=bar)
  test_run = ProtocolRun(
      config=config, results=results, checkpoint=checkpoint,
      iteration=iteration,
      fingerprint=generator.fingerprint(evaluation.num_test_tasks),
      seconds=time.monotonic() - started, tuning=tuning)
  if replicas.is_writer:
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
  """Path and iteration of the checkpoint whose parameters the model has now.

  Raises:
    CheckpointError: see `restore_for_test`.
    ConfigError: where it was trained on other data than those that are there, or with
      another content of a file of one's own.
  """
  if not _tests_a_named_file(config):
    checkpoint = restore_for_test(folder, config, parameters=model.meta_parameters)
    require_same_data(folder, config)
    require_same_code(folder, config)
    return checkpoint, iteration_of(checkpoint)
  checkpoint, iteration = _load_named(config, model)
  with writable(folder):
    os.makedirs(folder, exist_ok=True)   # there need not be a run of this project
  return checkpoint, iteration


def _names_parameters(config: Config) -> bool:
  """Whether a flag names parameters that are not those of the experiment's folder."""
  return config.run.legacy_checkpoint is not None or config.run.pretrained is not None


def _tests_a_named_file(config: Config) -> bool:
  return not config.run.train and _names_parameters(config)


def _load_named(config: Config, model: MetaLearner) -> Tuple[str, Optional[int]]:
  """Sets the parameters to those of the TF1 checkpoint, or of the file of weights; its
  path and iteration."""
  if config.run.pretrained is not None:
    path, iteration = weights.resolve(config.run.pretrained)
    if not config.run.train:
      weights.require_same_shots(path, config)
    weights.load(path, model)
    weights.require_same_pooling(path, config)
    if weights.are_of_other_data(path, config):
      print(f'The weights {config.run.pretrained} were tested on other data than those in '
            f'{config.data_dir}, if only divided in another way: classes here may be ones '
            'that they were trained on, and then scores say nothing of new ones.', flush=True)
  else:
    from maml_tf.legacy import checkpoint as legacy_checkpoint  # few runs need it
    path = legacy_checkpoint.load(config, model)
    iteration = legacy_checkpoint.iteration_of(path)
  return path, iteration


def _origin(config: Config) -> Optional[Record]:
  """The record of the weights that are tested, where --pretrained names them and they are
  kept in the results."""
  if config.run.train or config.run.pretrained is None:
    return None
  return weights.origin(weights.resolve(config.run.pretrained)[0])


def _trained(config: Config, folder: str, iteration: Optional[int],
             origin: Optional[Record]) -> Optional[int]:
  """Iterations of the run that was tested, of which the tested checkpoint, say the best one,
  may be an earlier one; None where it is not known."""
  if not config.run.train and config.run.pretrained is not None:
    return None if origin is None else origin.trained
  if _tests_a_named_file(config) or config.evaluation.test_iter != -1:
    return iteration
  return max([iteration_of(path) for path in CheckpointFiles(folder).paths],
             default=iteration)


def _say_where_from(origin: Optional[Record]) -> None:
  """Of weights that are kept in the results, how far they were trained."""
  if origin is not None:
    how_far = '' if origin.is_finished else ': a partial training'
    print(f'Weights of {origin.fields["row"]}, seed {origin.seed}, trained for '
          f'{origin.trained:,} of {origin.planned:,} iterations{how_far}')


def _report(test_run: ProtocolRun, model: MetaLearner, generator, folder: str) -> None:
  config = test_run.config
  tasks = counted(config.evaluation.num_test_tasks, 'task')
  split = config.problem.recorded_split(config)
  classes = f' of the {split} classes' if split else ''
  print(f'Test: {tasks}{classes}, {test_run.checkpoint}, {test_run.seconds:.1f} s')
  origin = _origin(config)
  beside = comparison(
      config, _trained(config, folder, test_run.iteration, origin),
      None if origin is None else origin.fields['row'],
      origin is not None and weights.are_of_other_data(test_run.checkpoint, config))
  try:   # written before it is printed: who reads this may be gone
    with reported(folder), put_off():   # all of them, or none
      paths = list(write_results(folder, test_run))
  finally:   # a full disk, or a folder of somebody else, leaves the numbers
    _say_where_from(origin)
    print(table(test_run, beside.values))
    if beside.why_none:
      print(beside.why_none)
  which = '' if test_run.iteration is None else f', iteration {test_run.iteration}'
  paths += config.problem.draw_results(folder, config, model, generator,
                                       f'{config.task.update_batch_size}-shot{which}')
  for path in paths:
    print(f'Written: {path}')
  not_finite = where_not_finite(test_run.results)
  if not_finite is not None:
    outputs.say(f'Not all results are finite: {not_finite} is not, in at least one task: '
                f'{advice_for_test(config)}.')
