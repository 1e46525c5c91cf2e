"""What happens around the meta-steps, as Keras callbacks.

With several steps per execution Keras calls `on_train_batch_end` once for all of them: with
the index of the last one, or, Keras 3 up to 3.10 (of TensorFlow 2.19), of the first one. Keras
3 counts a last execution of fewer steps as a full one.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np
import tensorflow as tf

from maml_tf import outputs
from maml_tf.data_generator import DataGenerator
from maml_tf.episodes import Episodes
from maml_tf.errors import NotFiniteError
from maml_tf.evaluation.protocol import Evaluator, score, where_not_finite
from maml_tf.meta_learner import MetaLearner
from maml_tf.task_results import TaskResults
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.history import History
from maml_tf.training.signals import Left, Signals
from maml_tf.training.summaries import TRAINING, VALIDATION, Summaries

# The TF1 code's intervals, in iterations.
SUMMARY_INTERVAL = 100
SAVE_INTERVAL = 1000


class IterationCallback(tf.keras.callbacks.Callback):
  """A callback that counts iterations of the run instead of batches of a `fit`.

  Args:
    first_iteration: how many iterations were done before this `fit`.
  """

  def __init__(self, first_iteration: int):
    super().__init__()
    self._first_iteration = first_iteration
    self.iteration = first_iteration

  def on_train_batch_end(self, batch, logs=None):
    steps = self.model.steps_of_an_execution
    done = min((batch // steps + 1) * steps, self.params['steps'])
    before, self.iteration = self.iteration, self._first_iteration + done
    self.after_iterations(before, self.iteration, logs or {})

  def after_iterations(self, before: int, now: int, logs: Dict) -> None:
    """`now` iterations are complete; at the last call there were `before`."""


def passed(interval: int, before: int, now: int) -> bool:
  """Whether a multiple of `interval` lies above `before` and not above `now`."""
  return now // interval > before // interval


class StopWhenNotFinite(IterationCallback):
  """Ends the run at the first step whose loss or gradient is not finite.

  That step and those after it left the parameters as they were.

  Raises:
    NotFiniteError: naming the iteration, the loss, and the largest parameter.
  """

  def __init__(self, first_iteration: int):
    super().__init__(first_iteration)
    self._steps_before = 0

  def on_train_begin(self, logs=None):
    # The optimizer counts the steps that it made, those before a resume included.
    self._steps_before = int(self.model.optimizer.iterations.numpy())

  def after_iterations(self, before, now, logs):
    if not bool(self.model.diverged.numpy()):
      return
    steps = int(self.model.optimizer.iterations.numpy()) - self._steps_before
    iteration = self._first_iteration + steps + 1
    raise NotFiniteError(f'The loss or the meta-gradient of iteration {iteration} is not '
                         f'finite ({_circumstances(self.model)})', iteration)


def require_finite(model: MetaLearner, iteration: int) -> None:
  """Raises `NotFiniteError` where an update overflowed: such parameters are not kept."""
  for name, array in model.meta_parameters.arrays().items():
    if not np.isfinite(array).all():
      raise NotFiniteError(f'The parameters {name} after iteration {iteration} are not '
                           f'finite ({_circumstances(model)})', iteration)


def _circumstances(model: MetaLearner) -> str:
  """The loss, and the largest parameter: one that is not a number is the largest."""
  largest = {name: float(abs(array).max())   # of an array with a NaN: NaN
             for name, array in model.meta_parameters.arrays().items()}
  name = max(largest, key=lambda key: (np.isnan(largest[key]), largest[key]))
  return (f'loss {float(model.latest_loss.numpy()):.6g}; the largest parameter is '
          f'{largest[name]:.3g} in {name}')


class HandOver(IterationCallback):
  """After steps of a pre-training, what is meta-trained later starts from what they gave.

  Args:
    first_iteration: see `IterationCallback`.
    model: the meta-learner; it has the parameters that are pre-trained.
  """

  def __init__(self, first_iteration: int, model: MetaLearner):
    super().__init__(first_iteration)
    self._later = model

  def after_iterations(self, before, now, logs):
    self._later.start_from_parameters()


class StopOnSignal(IterationCallback):
  """Ends the `fit` after the step in hand once a signal has been received."""

  def __init__(self, first_iteration: int, signals: Signals):
    super().__init__(first_iteration)
    self._signals = signals

  def after_iterations(self, before, now, logs):
    if self._signals.received is not None:
      self.model.stop_training = True


class Watched(IterationCallback):
  """Tells a function of each execution of steps, in place of a progress bar.

  Args:
    first_iteration: see `IterationCallback`.
    watch: called with the iterations that were complete before, and that are now.
  """

  def __init__(self, first_iteration: int, watch: Callable[[int, int], None]):
    super().__init__(first_iteration)
    self._watch = watch

  def after_iterations(self, before, now, logs):
    self._watch(before, now)


class SaveCheckpoints(IterationCallback):
  """Every so many iterations.

  Args:
    first_iteration: see `IterationCallback`.
    checkpoints: where they go.
    interval: in iterations.
    summaries: or None. What they were given up to here is in their files before the
      checkpoint is: a resumed run writes the later ones only.
  """

  def __init__(self, first_iteration: int, checkpoints: Checkpoints, interval: int,
               summaries: Optional[Summaries] = None):
    super().__init__(first_iteration)
    self._checkpoints = checkpoints
    self._interval = interval
    self._summaries = summaries

  def after_iterations(self, before, now, logs):
    if passed(self._interval, before, now):
      require_finite(self.model, now)
      if self._summaries is not None:
        self._summaries.flush()
      self._checkpoints.save(now)


class TrainingSummaries(IterationCallback):
  """The TF1 code's `metatrain_` summaries: of the batch that is about to be trained.

  Args:
    first_iteration: see `IterationCallback`.
    summaries: where they go.
    generator: the training episodes.
    measure: the results of a batch's tasks.
  """

  def __init__(self, first_iteration: int, summaries: Summaries, generator: DataGenerator,
               measure: Callable[[Episodes], TaskResults]):
    super().__init__(first_iteration)
    self._summaries = summaries
    self._generator = generator
    self._measure = measure

  def on_train_begin(self, logs=None):
    if self._first_iteration == 0:
      self._write(0)

  def after_iterations(self, before, now, logs):
    if passed(SUMMARY_INTERVAL, before, now):
      self._write(now)

  def on_train_end(self, logs=None):
    self._summaries.flush()

  def _write(self, iteration: int) -> None:
    self._summaries.write_results(TRAINING, iteration,
                                  self._measure(self._generator.batch(iteration)))


class LoggedSummaries(IterationCallback):
  """`metatrain_` summaries of what each step logged.

  Args:
    first_iteration: see `IterationCallback`.
    summaries: where they go.
  """

  def __init__(self, first_iteration: int, summaries: Summaries):
    super().__init__(first_iteration)
    self._summaries = summaries

  def after_iterations(self, before, now, logs):
    self._summaries.write_logs(TRAINING, now, logs)

  def on_train_end(self, logs=None):
    self._summaries.flush()


class Validation(IterationCallback):
  """Scores the parameters on validation tasks, and keeps the best ones.

  Args:
    first_iteration: see `IterationCallback`.
    interval: in iterations.
    evaluator: on validation tasks.
    checkpoints: where the best parameters go.
    summaries: where the means go, too; or None.
    signals: once one is received, a validation is left before its next batch; None: it is
      done to its end.

  Attributes:
    latest: results of the latest validation; None: there was none, or it was left.
  """

  def __init__(self, first_iteration: int, interval: int, evaluator: Evaluator,
               checkpoints: Checkpoints, summaries: Optional[Summaries] = None,
               signals: Optional[Signals] = None):
    super().__init__(first_iteration)
    self._interval = interval
    self._evaluator = evaluator
    self._checkpoints = checkpoints
    self._summaries = summaries
    self._signals = signals
    self.latest: Optional[TaskResults] = None

  def after_iterations(self, before, now, logs):
    if passed(self._interval, before, now):
      self.validate(now)

  def validate(self, iteration: int) -> None:
    require_finite(self.model, iteration)
    self.latest = self._evaluated()
    if self.latest is None:
      return
    not_finite = where_not_finite(self.latest)
    if not_finite is not None:
      outputs.say(f'Validation after iteration {iteration}: {not_finite} is not finite, in at '
                  'least one task; the checkpoint is not the best one.')
    if self._summaries is not None:
      self._summaries.write_results(VALIDATION, iteration, self.latest)
    self._checkpoints.offer_best(iteration, score(self.latest, self._evaluator.measure))

  def _evaluated(self) -> Optional[TaskResults]:
    if self._signals is None:
      return self._evaluator()
    try:
      return self._evaluator(progress=self._signals.watched)
    except Left:
      return None


class RecordHistory(IterationCallback):
  """Adds to the history after every execution, and writes a line after every validation.

  Args:
    first_iteration: see `IterationCallback`.
    history: of the run.
    interval: of the validation, in iterations.
    validation: comes before this one in the list of callbacks.
  """

  def __init__(self, first_iteration: int, history: History, interval: int,
               validation: Validation):
    super().__init__(first_iteration)
    self._history = history
    self._interval = interval
    self._validation = validation

  def on_train_begin(self, logs=None):
    self._history.start_clock()

  def after_iterations(self, before, now, logs):
    self._history.add(now - before, logs)
    if passed(self._interval, before, now) and self._validation.latest is not None:
      self._history.write(now, self._validation.latest)
