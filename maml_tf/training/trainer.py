"""One run of training: pre-training, meta-training, resumed where it stopped."""

from __future__ import annotations

import functools
import math
import os
import signal
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf import experiment
from maml_tf.config import Config, ConfigError
from maml_tf.config.summary import summary
from maml_tf.data_generator import DataGenerator
from maml_tf.evaluation.protocol import Evaluator, score
from maml_tf.files import reported, write_whole
from maml_tf.meta_learner import MetaLearner
from maml_tf.outer_step import raw
from maml_tf.replicas import Replicas, values_of
from maml_tf.training import callbacks as run_callbacks
from maml_tf.training.checkpoints import Checkpoints, NoCheckpoints
from maml_tf.training.event_files import discard_events_after
from maml_tf.training.history import History
from maml_tf.training.loop import Fit
from maml_tf.training.optimizers import build_optimizer
from maml_tf.training.progress import Progress
from maml_tf.training.summaries import Summaries


class TrainingResult(NamedTuple):
  """How a run ended.

  Attributes:
    iteration: iterations complete, over all starts of the run.
    checkpoint: path of the last checkpoint.
    interrupted_by: name of the signal that ended it; None when it got where it should.
  """
  iteration: int
  checkpoint: str
  interrupted_by: Optional[str]


# Called with the iterations that were complete before an execution of steps, and that are
# after it, when what these have to leave in the folder is there.
Watch = Callable[[int, int], None]


def train(config: Config, model: MetaLearner, folder: str, until: Optional[int] = None,
          watch: Optional[Watch] = None) -> TrainingResult:
  """Trains up to `config.total_iterations`, and saves.

  Args:
    config: of the run.
    model: its parameters are trained; not compiled yet.
    folder: for checkpoints and summaries.
    until: an earlier iteration to stop at; None: none. The run can go on from there.
    watch: told of the progress, in place of a bar and lines; None: there are these.

  Raises:
    NotFiniteError: see `StopWhenNotFinite`; the last good checkpoint is kept.
    CheckpointError: when the newest checkpoint does not fit, or none can be read.
    WriteError: on a full disk; the last good checkpoint is kept.
    ConfigError: when it is of a later iteration than the last one asked for.
  """
  replicas = Replicas.of(model)
  pretraining, saved = compile_phases(config, model)
  make = Checkpoints if replicas.is_writer else NoCheckpoints
  checkpoints = make(folder, lambda: _saved_of_pretraining(config, model)[1], **saved)
  iteration = _same_in_all(replicas, (model, pretraining),
                           checkpoints.restore_latest() if config.run.resume else 0)
  if iteration > config.total_iterations:
    raise ConfigError(
        f'--metatrain_iterations={config.training.metatrain_iterations} is below what the '
        f'run in {folder} has done already ({iteration} iterations in all): ask for more, '
        'test with --train=False, or start over with --resume=False.')
  if iteration:
    print(f'Resumed at iteration {iteration} of {config.total_iterations}')
  history = History(folder, iteration) if replicas.is_writer else None
  generator = experiment.training_generator(config)
  if replicas.is_writer:
    discard_events_after(folder, iteration)
  summaries = Summaries(folder) if replicas.is_writer and config.run.log else None
  evaluator, tasks = _validation(config, model)
  fit = Fit(generator, steps_per_execution(config), experiment.use_xla(config))
  if summaries is not None and iteration == 0:
    summaries.write_text('configuration', f'{summary(config)}\n\n```\n{config.to_json()}```')
    if config.baseline.trains_on_tasks:
      _write_sample_tasks(config, summaries, generator, folder)
  last = config.total_iterations if until is None else min(until, config.total_iterations)
  is_due = history is not None and history.lacks_validation(
      config.training.validation_interval)
  if iteration < last or is_due:
    checkpoints.score_on(tasks, functools.partial(_score_of, model, evaluator))
  phases = ((pretraining, min(last, config.training.pretrain_iterations)), (model, last))
  with run_callbacks.Signals() as signals:
    if is_due:
      trained = model if pretraining is None or (
          iteration > config.training.pretrain_iterations) else pretraining
      _validate(config, trained, evaluator, checkpoints, history, summaries, signals,
                iteration)
    for phase, last_iteration in phases:
      while iteration < last_iteration and _received(replicas, signals) is None:
        iteration = _fit(config, phase, fit, generator, evaluator, checkpoints, history,
                         summaries, signals, iteration,
                         _end_of_fit(config, iteration, last_iteration), watch)
    if history is not None:
      history.close(iteration)
    run_callbacks.require_finite(model, iteration)
    if summaries is not None:
      summaries.flush()
    path = checkpoints.save(iteration)
    received = _received(replicas, signals)
  return TrainingResult(iteration, path, None if received is None else received.name)


def _same_in_all(replicas: Replicas, models: Sequence[Optional[MetaLearner]], iteration: int
                 ) -> int:
  """Where the writing process is, which alone reads checkpoints; all have its values then."""
  if replicas.workers == 1:
    return iteration
  variables = {id(raw(variable)): raw(variable) for model in models if model is not None
               for variable in model.changed_variables()}
  [place, *values] = replicas.of_writer(
      [np.array(iteration, np.int64), *values_of(variables.values())])
  for variable, value in zip(variables.values(), values):
    variable.assign(value)
  return int(place)


def _received(replicas: Replicas, signals: run_callbacks.Signals) -> Optional[signal.Signals]:
  """What ends the run in all processes alike: a signal that any of them received."""
  if replicas.workers == 1:
    return signals.received
  [number] = replicas.combined([np.array(signals.received is not None, np.int64)])
  return (signals.received or signal.SIGTERM) if number else None


def _fit(config: Config, model: MetaLearner, fit: Fit, generator: DataGenerator,
         evaluator: Evaluator, checkpoints: Checkpoints, history: Optional[History], summaries,
         signals: run_callbacks.Signals, iteration: int, last_iteration: int,
         watch: Optional[Watch]) -> int:
  """Trains `model` from `iteration` to `last_iteration`; where it got."""
  stop = run_callbacks.StopOnSignal(iteration, signals)
  interval = config.training.validation_interval
  # Of several processes none may leave what all do together.
  leaves = signals if Replicas.of(model).workers == 1 else None
  validation = run_callbacks.Validation(iteration, interval, evaluator, checkpoints, summaries,
                                        leaves)
  callbacks = [run_callbacks.StopWhenNotFinite(iteration), validation]
  if history is not None:   # this process writes
    callbacks += [run_callbacks.RecordHistory(iteration, history, interval, validation),
                  run_callbacks.SaveCheckpoints(iteration, checkpoints,
                                                _save_interval(config), summaries)]
  if watch is not None:
    callbacks.append(run_callbacks.Watched(iteration, watch))
  callbacks.append(stop)
  if summaries is not None:
    callbacks.insert(1, _training_summaries(config, model, generator, summaries, iteration))
  progress = (_progress(config, model, iteration, validation)
              if watch is None and history is not None else None)
  try:
    fit(model, iteration, last_iteration - iteration,
        callbacks if progress is None else [*callbacks, progress])
  finally:
    if progress is not None:
      progress.close()
  return stop.iteration


def _validate(config: Config, model: MetaLearner, evaluator: Evaluator,
              checkpoints: Checkpoints, history: History, summaries,
              signals: run_callbacks.Signals, iteration: int) -> None:
  """The validation that a signal ended before."""
  validation = run_callbacks.Validation(
      iteration, config.training.validation_interval, evaluator.alone(), checkpoints,
      summaries, signals)
  validation.set_model(model)
  validation.validate(iteration)
  if validation.latest is not None:
    checkpoints.save(iteration, again=True)   # it has the best score, too
    history.write(iteration, validation.latest)


def _progress(config: Config, model: MetaLearner, iteration: int,
              validation: run_callbacks.Validation) -> Progress:
  measure, loss_of_an_example = config.problem.measure, None
  if config.baseline.trains_on_tasks and measure.beside_loss:
    groups = config.problem.groups(config.with_trained_classes())
    loss_of_an_example = functools.partial(model.objective.mean_over,
                                           groups * config.task.train_query_size)
  return Progress(iteration, validation, config.training.validation_interval, measure,
                  loss_of_an_example)


def _training_summaries(config: Config, model: MetaLearner, generator: DataGenerator,
                        summaries: Summaries, iteration: int
                        ) -> run_callbacks.IterationCallback:
  if model.logs_are_summaries:
    return run_callbacks.LoggedSummaries(iteration, summaries)
  results_of = model.results_function(config.inner_loop.num_updates)
  return run_callbacks.TrainingSummaries(iteration, summaries, generator, results_of)


def steps_per_execution(config: Config) -> int:
  """A divisor of all intervals: what is due falls between two executions."""
  return math.gcd(config.problem.most_steps_per_execution, run_callbacks.SUMMARY_INTERVAL,
                  _save_interval(config), config.training.validation_interval)


def _save_interval(config: Config) -> int:
  return config.problem.save_interval or run_callbacks.SAVE_INTERVAL


def _end_of_fit(config: Config, iteration: int, last_iteration: int) -> int:
  """Where the first `fit` from `iteration` ends. Executions end at multiples of their
  steps; one that starts between two of them goes to the next."""
  steps = steps_per_execution(config)
  beyond = iteration % steps
  return min(last_iteration, iteration - beyond + steps) if beyond else last_iteration


def compile_model(config: Config, model: MetaLearner) -> MetaLearner:
  """`model`, compiled for training as the configuration says."""
  with Replicas.of(model).scope():
    optimizer = build_optimizer(config.training.meta_optimizer, config.training.meta_lr,
                                config.learner.dtype, _decay_iterations(config),
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
    pretraining, saved = _saved_of_pretraining(config, model)
  compile_model(config, model)
  return pretraining, dict(parameters=model.meta_parameters,
                           meta_optimizer=model.optimizer, **saved)


def _saved_of_pretraining(config: Config, model: MetaLearner
                          ) -> Tuple[MetaLearner, Dict[str, Any]]:
  """(The pre-training phase, {name: what a checkpoint holds of it})."""
  with Replicas.of(model).scope():
    pretraining = experiment.build_pretraining(config, model)
  compile_model(config, pretraining)
  saved = dict(pretrain_optimizer=pretraining.optimizer)
  if pretraining.meta_parameters is not model.meta_parameters:
    saved.update(pretrain_parameters=pretraining.meta_parameters)
  return pretraining, saved


def _decay_iterations(config: Config) -> int:
  if config.training.meta_lr_schedule == 'constant':
    return 0
  return max(1, config.training.metatrain_iterations)


def _validation(config: Config, model: MetaLearner
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
  return evaluator, functools.cache(
      lambda: f'{generator.fingerprint(num_tasks)}, {num_updates} updates')


def _score_of(model: MetaLearner, evaluator: Evaluator, path: str) -> float:
  """Of the checkpoint `path`; `model`, which `evaluator` evaluates, stays as it is."""
  current = model.state()   # what a method keeps beside the parameters, too
  try:
    status = tf.train.Checkpoint(parameters=model.meta_parameters).restore(path)
    status.expect_partial().assert_existing_objects_matched()
    return score(evaluator.alone()(), evaluator.measure)
  finally:
    model.assign_state(current)


def _write_sample_tasks(config: Config, summaries, generator: DataGenerator, folder: str
                        ) -> None:
  png = config.problem.sample_tasks(generator.batch(0))
  if png is None:
    return
  path = os.path.join(folder, 'sample_tasks.png')
  with reported(path):
    write_whole(path, png)
  summaries.write_picture('sample_tasks', 0, png)
