"""One run of training: pre-training, meta-training, resumed where it stopped."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from typing import (
  Callable,
  ContextManager,
  Iterator,
  List,
  NamedTuple,
  Optional,
  Sequence,
  Tuple,
)

import numpy as np
import tensorflow as tf

from maml_tf import experiment
from maml_tf.config import Config, ConfigError
from maml_tf.config.summary import summary
from maml_tf.evaluation.protocol import Evaluator
from maml_tf.files import reported, write_whole
from maml_tf.measures import counted
from maml_tf.meta_learner import MetaLearner
from maml_tf.outer_step import raw
from maml_tf.replicas import Replicas, values_of
from maml_tf.training import callbacks as run_callbacks
from maml_tf.training import mean_losses
from maml_tf.training.checkpoints import Checkpoints, NoCheckpoints
from maml_tf.training.divergence import with_advice
from maml_tf.training.event_files import discard_events_after
from maml_tf.training.history import History
from maml_tf.training.loop import Fit
from maml_tf.training.phases import (
  compile_phases,
  save_interval,
  saved_of_pretraining,
  steps_per_execution,
)
from maml_tf.training.progress import Progress
from maml_tf.training.scoring import score_of, validation_tasks
from maml_tf.training.signals import Signals
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
  last = config.total_iterations
  return _Run(config, model, folder, last if until is None else min(until, last), watch
              ).train()


class _Run:
  """What a run holds, from the checkpoint where this start begins.

  Of several processes one writes: it alone has a history, and summaries where the
  configuration asks for them. It goes up to the iteration `last`, or a signal. For the other
  arguments see `train`.
  """

  def __init__(self, config: Config, model: MetaLearner, folder: str, last: int,
               watch: Optional[Watch]):
    self._config, self._model, self._last, self._watch = config, model, last, watch
    self._replicas = Replicas.of(model)
    writes = self._replicas.is_writer
    self._pretraining, saved = compile_phases(config, model)
    self._checkpoints = (Checkpoints if writes else NoCheckpoints)(
        folder, lambda: saved_of_pretraining(config, model)[1], **saved)
    self._iteration = self._restored(folder)
    self._history = History(folder, self._iteration) if writes else None
    self._generator = experiment.training_generator(config)
    if writes:
      discard_events_after(folder, self._iteration)
    self._summaries = Summaries(folder) if writes and config.run.log else None
    self._evaluator, self._tasks = validation_tasks(config, model)
    self._fit = Fit(self._generator, steps_per_execution(config), experiment.use_xla(config))
    self._signals = Signals()
    if self._summaries is not None and self._iteration == 0:
      self._describe(self._summaries, folder)

  def train(self) -> TrainingResult:
    """To its end; then it is saved."""
    lacks_validation = self._lacks_validation()
    if self._iteration < self._last or lacks_validation:
      self._checkpoints.score_on(
          self._tasks, functools.partial(score_of, self._model, self._evaluator))
    with self._signals:
      if lacks_validation:
        self._catch_up_on_validation()
      for phase, end in self._phases():
        while self._iteration < end and self._received() is None:
          self._iteration = self._trained(phase, self._end_of_fit(end))
      return self._saved()

  # --- before

  def _restored(self, folder: str) -> int:
    """The iteration of the newest checkpoint, which is in all processes then; or 0."""
    config = self._config
    iteration = self._checkpoints.restore_latest() if config.run.resume else 0
    iteration = _same_in_all(self._replicas, (self._model, self._pretraining), iteration)
    if iteration > config.total_iterations:
      raise ConfigError(
          f'--metatrain_iterations={config.training.metatrain_iterations} is below what the '
          f'run in {folder} has done already ({counted(iteration, "iteration")} in all): ask '
          'for more, '
          'test with --train=False, or start over with --resume=False.')
    if iteration:
      print(f'Resumed at iteration {iteration} of {config.total_iterations}')
    return iteration

  def _describe(self, summaries: Summaries, folder: str) -> None:
    """What TensorBoard shows beside the curves: the configuration, and sample tasks."""
    config = self._config
    summaries.write_text('configuration', f'{summary(config)}\n\n```\n{config.to_json()}```')
    if not config.baseline.trains_on_tasks:
      return
    png = config.problem.sample_tasks(self._generator.batch(0))
    if png is None:
      return
    path = os.path.join(folder, 'sample_tasks.png')
    with reported(path):
      write_whole(path, png)
    summaries.write_picture('sample_tasks', 0, png)

  # --- phases

  def _phases(self) -> List[Tuple[Optional[MetaLearner], int]]:
    """[(what is trained, up to which iteration)]."""
    return [(self._pretraining, min(self._last, self._config.training.pretrain_iterations)),
            (self._model, self._last)]

  def _end_of_fit(self, end: int) -> int:
    """Where the next `fit` ends. Executions end at multiples of their steps; one that starts
    between two of them goes to the next."""
    steps = steps_per_execution(self._config)
    beyond = self._iteration % steps
    return min(end, self._iteration - beyond + steps) if beyond else end

  def _trained(self, phase: MetaLearner, end: int) -> int:
    """One `fit` of a phase, up to the iteration `end`; where it got."""
    # Of several processes none may leave what all do together.
    validation = self._validation(
        self._evaluator, self._signals if self._replicas.workers == 1 else None)
    stop = run_callbacks.StopOnSignal(self._iteration, self._signals)
    with self._advised(phase), self._shown(phase, validation) as progress:
      self._fit(phase, self._iteration, end - self._iteration,
                [*self._callbacks(phase, validation), stop, *progress])
    return stop.iteration

  def _advised(self, phase: MetaLearner) -> ContextManager[None]:
    return with_advice(self._config, pretraining=phase is self._pretraining)

  def _callbacks(self, phase: MetaLearner, validation: run_callbacks.Validation
                 ) -> Iterator[tf.keras.callbacks.Callback]:
    yield run_callbacks.StopWhenNotFinite(self._iteration)
    if phase is self._pretraining:   # before what is validated and saved
      yield run_callbacks.HandOver(self._iteration, self._model)
    if self._summaries is not None:
      yield self._training_summaries(phase, self._summaries)
    yield validation
    if self._history is not None:
      yield run_callbacks.RecordHistory(self._iteration, self._history,
                                        self._validation_interval, validation)
      yield run_callbacks.SaveCheckpoints(self._iteration, self._checkpoints,
                                          save_interval(self._config), self._summaries)
    if self._watch is not None:
      yield run_callbacks.Watched(self._iteration, self._watch)

  def _training_summaries(self, phase: MetaLearner, summaries: Summaries
                          ) -> run_callbacks.IterationCallback:
    if phase.logs_are_summaries:
      return run_callbacks.LoggedSummaries(self._iteration, summaries)
    results_of = phase.results_function(self._config.inner_loop.num_updates)
    return run_callbacks.TrainingSummaries(self._iteration, summaries, self._generator,
                                           results_of)

  @contextlib.contextmanager
  def _shown(self, phase: MetaLearner, validation: run_callbacks.Validation
             ) -> Iterator[List[Progress]]:
    """The bar or the lines of a `fit`, taken away after it; none where a watch is told, or
    another process shows them."""
    if self._watch is not None or self._history is None:
      yield []
      return
    progress = Progress(self._iteration, self._last, validation, self._validation_interval,
                        self._config.problem.measure,
                        mean_losses.of_training(self._config, phase))
    with contextlib.closing(progress):
      yield [progress]

  # --- validation

  @property
  def _validation_interval(self) -> int:
    return self._config.training.validation_interval

  def _validation(self, evaluator: Evaluator, signals: Optional[Signals]
                  ) -> run_callbacks.Validation:
    return run_callbacks.Validation(self._iteration, self._validation_interval, evaluator,
                                    self._checkpoints, self._summaries, signals)

  def _lacks_validation(self) -> bool:
    """Whether a signal ended the run before the validation that was due."""
    return self._history is not None and self._history.lacks_validation(
        self._validation_interval)

  def _catch_up_on_validation(self) -> None:
    """The validation that a signal ended before; by this process alone."""
    validation = self._validation(self._evaluator.alone(), self._signals)
    validation.set_model(self._latest_phase())
    validation.validate(self._iteration)
    if validation.latest is not None:
      self._checkpoints.save(self._iteration, again=True)   # it has the best score, too
      self._history.write(self._iteration, validation.latest)

  def _latest_phase(self) -> MetaLearner:
    """What was trained last."""
    is_over = self._iteration > self._config.training.pretrain_iterations
    return self._model if self._pretraining is None or is_over else self._pretraining

  # --- after

  def _received(self) -> Optional[signal.Signals]:
    """What ends the run in all processes alike: a signal that any of them received."""
    received = self._signals.received
    if self._replicas.workers == 1:
      return received
    [number] = self._replicas.combined([np.array(received is not None, np.int64)])
    return (received or signal.SIGTERM) if number else None

  def _saved(self) -> TrainingResult:
    if self._history is not None:
      self._history.close(self._iteration)
    with self._advised(self._latest_phase()):
      run_callbacks.require_finite(self._model, self._iteration)
    if self._summaries is not None:
      self._summaries.flush()
    path = self._checkpoints.save(self._iteration)
    received = self._received()
    return TrainingResult(self._iteration, path, None if received is None else received.name)


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
