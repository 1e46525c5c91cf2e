"""One turn of a row in `--train-all`: some minutes of training, and what is kept of them.

It happens in a process of its own (`turn_process`). The test tasks are looked at when the
run is finished, and not before: a turn that ends earlier keeps the run without a test.
"""

from __future__ import annotations

import dataclasses
import functools
import signal
import time
from typing import Callable, Optional

from maml_tf.config import TO_ZERO, Config
from maml_tf.training import history
from maml_tf.training.callbacks import passed
from maml_tf.training.run_folder import experiment_folder
from maml_tf.verification import cells, early_end, runs, spans
from maml_tf.verification.plan import Job, is_finished


def take(job: Job, config: Config, results: str, is_stopped: Callable[[], bool],
         seconds_between_lines: float = 60.0) -> None:
  """Goes on with a run until a signal, its last iteration, or its early end.

  Args:
    job: of the plan.
    config: of the row's flagfile, with the seed and folders.
    results: folder of the result files.
    is_stopped: whether a signal was received outside of training.
    seconds_between_lines: about the progress.

  Raises:
    ConfigError, CheckpointError, NotFiniteError, WriteError: see `runs.train_row`.
  """
  if is_finished(job, results):   # by a turn that was left behind, and waited for
    print(f'{job.name}: finished meanwhile', flush=True)
    return
  watched = validated_on_enough(config)
  runs.go_on_with_what_was_kept(job.row, watched, results, further=True)
  folder = experiment_folder(watched)
  goal = min(job.iterations, config.total_iterations)
  watch = Watch(job.name, watched, folder, goal, is_stopped, seconds_between_lines,
                tested=runs.tested(job.row, job.seed, results))
  reached = runs.done(folder)
  if not watch.ends_early(reached) and not is_stopped():
    reached = runs.train(watched, goal, watch).iteration
  if watch.ends_early(reached):
    print(f'{job.name}: ended early, '
          f'{early_end.rule(config.problem.early_end_tasks)}', flush=True)
    runs.test_row(job.row, config, results, ended_early=True)
  elif reached >= goal:
    runs.test_row(job.row, config, results)
  elif reached:
    runs.keep_row(job.row, watched, results)


def validated_on_enough(config: Config) -> Config:
  """With as many validation tasks as the rule of `early_end` wants."""
  training = config.training
  tasks = max(training.num_validation_tasks, config.problem.early_end_tasks)
  return dataclasses.replace(
      config, training=dataclasses.replace(training, num_validation_tasks=tasks))


class Watch:
  """Prints a line a minute, and ends the training where the rule of `early_end` says so.

  Args:
    name: of the run.
    config: of the run.
    folder: of the experiment.
    goal: the iteration up to which it is trained.
    is_stopped, seconds_between_lines: see `take`.
    tested: after how many iterations the run was tested as a part: it is not tested again
      there.
  """

  def __init__(self, name: str, config: Config, folder: str, goal: int,
               is_stopped: Callable[[], bool], seconds_between_lines: float = 60.0,
               tested: int = 0):
    self._name = name
    self._config = config
    self._folder = folder
    self._goal = goal
    self._is_stopped = is_stopped
    self._between = seconds_between_lines
    self._tested = tested
    # Set at the first steps, which tracing makes slow.
    self._started: Optional[float] = None
    self._first = 0
    self._next_line = 0.0

  def __call__(self, before: int, now: int) -> None:
    """After an execution of steps; see `trainer.Watch`."""
    moment = time.monotonic()
    if self._started is None:
      self._started, self._first = moment, now
      self._next_line = moment + self._between
    elif moment >= self._next_line:
      self._next_line = moment + self._between
      print(self._line(now, (now - self._first) / (moment - self._started)), flush=True)
    interval = self._config.training.validation_interval
    # A signal may have come before the training looked for it.
    if self._is_stopped() or (passed(interval, before, now) and self.ends_early(now)):
      signal.raise_signal(signal.SIGTERM)   # the training saves, and ends

  def ends_early(self, iteration: int) -> bool:
    """Whether the rule says so of the run up to that iteration, which is neither its last nor
    tested."""
    if (self._config.training.meta_lr_schedule in TO_ZERO
        or not self._tested < iteration < self._config.total_iterations):
      return False
    known = spans.read(self._folder)
    tasks = self._config.problem.early_end_tasks
    # Where no span says which tasks, these need not be drawn to be compared.
    on = self._validated_on if any(span.validated_on for span in known) else None
    since = spans.validated_since(known, tasks, on)
    lines = [line for line in history.of_run(self._folder) if line['iteration'] <= iteration]
    return early_end.is_due(lines, self._config.total_iterations, since,
                            self._config.problem.measure)

  @functools.cached_property
  def _validated_on(self) -> str:
    return runs.validated_on(self._config)

  def _line(self, iteration: int, speed: float) -> str:
    hours = (self._goal - iteration) / speed / 3600
    validation = early_end.score_text(history.of_run(self._folder),
                                      self._config.problem.measure)
    return (f'{time.strftime("%H:%M")} {self._name}: {iteration:,} of {self._goal:,}, '
            f'{cells.three_digits(speed)} iterations/s, validation {validation}, '
            f'{hours:.1f} h to go')
