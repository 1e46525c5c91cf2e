"""`--train-all`: the rows of the plan, one after the other, as long as there is time.

The next turn is that of the unfinished run with the smallest priority; runs of the same
priority take turns. Each turn is a process (`turn_process`) with the code of a fixed commit
(`clone`). It resumes what is in the folder of runs or in the results, and leaves its run in
the results when it ends: untested (`kept_runs`), or, of a run that has all its iterations or
was ended by the rule of `early_end`, tested once. So nothing depends on this process: after
it was killed, the same command goes on. No TensorFlow here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from maml_tf import interruptions
from maml_tf.command_line import DONE, FAILED, INTERRUPTED
from maml_tf.errors import FailedError
from maml_tf.paper import records
from maml_tf.paper.rows import REPOSITORY
from maml_tf.training.run_lock import run_lock
from maml_tf.verification import cells, clone, turn_process
from maml_tf.verification.clone import Source
from maml_tf.verification.plan import Job, is_finished

FOLDER = 'train_all'   # in the folder of runs: the worktree, and locks
# A turn that would be shorter spends its time on starting.
SHORTEST_TURN = 60.0
_LOOK = 0.2

@dataclass(frozen=True)
class Settings:
  """How long, where and on what to train.

  Attributes:
    logdir: folder of the runs, with a folder per data source in it.
    data_dir: folder of the prepared data, with a folder per data source in it.
    results: folder of the result files.
    hours: to train; None: until the plan is done.
    turn: minutes of a turn.
    cores: that the training may use; 0: all.
    seconds_between_lines: about the progress.
    repository: whose commit is trained from.
  """
  logdir: str
  data_dir: str
  results: str
  hours: Optional[float] = None
  turn: float = 30.0
  cores: int = 0
  seconds_between_lines: float = 60.0
  repository: str = REPOSITORY


def run(jobs: Sequence[Job], settings: Settings) -> int:
  """Trains until all is done, the time is over, or a signal.

  Args:
    jobs: in the order of the plan.
    settings: see there.

  Returns:
    The exit code: 0, also after a signal; 1 where the turns of a run failed; 130 after a
    second Ctrl-C or SIGTERM, for which nothing was saved.

  Raises:
    ConfigError: where another such command trains, or git makes no worktree.
    FailedError: where a turn cannot be started.
  """
  folder = os.path.abspath(os.path.join(settings.logdir, FOLDER))
  with Stop() as stop:
    try:
      with run_lock(folder), clone.fixed_commit(folder, settings.repository) as source:
        print(source.describe(), flush=True)
        return _Turns(jobs, settings, source, folder, stop).take_all()
    except KeyboardInterrupt:
      print('Ended at once: the same command goes on from the last checkpoints.', flush=True)
      return INTERRUPTED


class Stop:
  """Notes the first Ctrl-C, SIGTERM, SIGHUP (a closed terminal) or SIGUSR1 (with which batch
  systems warn) while it is entered.

  A second Ctrl-C or SIGTERM is a `KeyboardInterrupt`. The others may come several times, and
  be followed by SIGTERM: what they began goes on then.

  Attributes:
    received: the signal; None where there was none.
  """

  def __init__(self):
    self.received: Optional[signal.Signals] = None
    self._is_told = False

  def __enter__(self) -> 'Stop':
    self._handlers = {number: signal.signal(number, self._receive)
                      for number in interruptions.heeded()}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._handlers.items():
      signal.signal(number, handler)

  def _receive(self, number, frame) -> None:
    self.received = self.received or signal.Signals(number)
    if number in interruptions.ENDING:
      if self._is_told:
        raise KeyboardInterrupt
      self._is_told = True


class _Turns:
  """The state of one command: see `run`, whose arguments these are."""

  def __init__(self, jobs: Sequence[Job], settings: Settings, source: Source, folder: str,
               stop: Stop):
    self._jobs = list(jobs)
    self._settings = settings
    self._source = source
    self._folder = folder
    self._stop = stop
    self._turns: Dict[str, int] = {}   # of this command
    self._killed: Dict[str, int] = {}
    self._failed: List[Job] = []
    self._end = (None if settings.hours is None
                 else time.monotonic() + 3600 * settings.hours)

  def take_all(self) -> int:
    while True:
      left = self._seconds_left()
      job = next_job(self._unfinished(), self._turns, self._share)
      if self._stop.received is not None or job is None or left <= 0:
        break
      self._turns[job.name] = number = self._turns.get(job.name, 0) + 1
      print(f'{job.name}: turn {number}, {_minutes(left)} min at most', flush=True)
      if not self._take(job, left):
        self._failed.append(job)
        print(f'{job.name}: left out from here on', flush=True)
    self._say_what_is_left()
    return FAILED if self._failed else DONE

  def _seconds_left(self) -> float:
    """Of the next turn; 0 where there is no time for one. The first one is always taken."""
    turn = 60 * self._settings.turn
    if self._end is None:
      return turn
    left = self._end - time.monotonic()
    return min(turn, left) if left >= SHORTEST_TURN or not self._turns else 0.0

  def _unfinished(self) -> List[Job]:
    return [job for job in self._jobs
            if job not in self._failed and not is_finished(job, self._settings.results)]

  def _share(self, job: Job) -> float:
    kept = records.kept_iteration(job.row, job.seed, self._settings.results)
    return kept / job.iterations

  def _take(self, job: Job, seconds: float) -> bool:
    """One turn; whether the run can have another one."""
    end = time.monotonic() + seconds
    with self._start(job) as process:
      try:
        told = False
        while process.poll() is None:
          if not told and (self._stop.received is not None or time.monotonic() >= end):
            told = True
            self._tell_why()
            process.stdin.close()   # `turn_process` then saves, keeps its run, and ends
          time.sleep(_LOOK)
      except KeyboardInterrupt:   # for anything else it saves and keeps its run
        process.kill()
        raise
    # Whatever became of this process: a turn that was left behind may have finished the run.
    if is_finished(job, self._settings.results):
      return True
    if process.returncode != 0:
      return self._can_be_repeated(job, process.returncode)
    return told   # a turn that ends by itself has finished its run, or does no more

  def _tell_why(self) -> None:
    if self._stop.received is not None:
      print(f'{self._stop.received.name}: the run is saved and kept; a second Ctrl-C or '
            'SIGTERM ends this at once.', flush=True)

  def _can_be_repeated(self, job: Job, code: int) -> bool:
    """A process that was killed (for its memory, or by hand) gets one more turn."""
    if code > 0:
      return False   # it said why
    print(f'{job.name}: its process was killed by signal {-code}.', flush=True)
    self._killed[job.name] = self._killed.get(job.name, 0) + 1
    return self._killed[job.name] == 1

  def _start(self, job: Job) -> subprocess.Popen:
    settings = self._settings
    datasource = job.row.identity['datasource']
    task = turn_process.task_of(
        job, os.path.abspath(os.path.join(settings.logdir, datasource)),
        os.path.abspath(os.path.join(settings.data_dir, datasource)),
        os.path.abspath(settings.results),
        os.path.join(self._folder, f'{job.row.name}.seed{job.seed}'), settings.cores,
        settings.seconds_between_lines)
    path = os.pathsep.join(filter(None, (self._source.folder, os.environ.get('PYTHONPATH'))))
    command = [sys.executable, '-m', turn_process.__name__, json.dumps(task)]
    try:
      return subprocess.Popen(
          command, cwd=self._source.folder,
          env={**os.environ, 'PYTHONPATH': path}, stdin=subprocess.PIPE,
          start_new_session=True)   # Ctrl-C is for this process alone
    except OSError as error:
      raise FailedError(
          f'No turn can be started in {self._source.folder} ({error.strerror}): put it back, '
          'if it was moved or removed; the same command goes on from there.') from error

  def _say_what_is_left(self) -> None:
    left = len(self._unfinished()) + len(self._failed)
    if not left:
      print('All runs of the plan are finished.', flush=True)
      return
    failed = ', '.join(job.name for job in self._failed)
    print(f'Not finished: {left} of {len(self._jobs)} runs of the plan'
          f'{f" (failed: {failed})" if failed else ""}. The same command goes on from there.',
          flush=True)


def next_job(jobs: Sequence[Job], turns: Mapping[str, int], share: Callable[[Job], float]
             ) -> Optional[Job]:
  """The job that has the next turn; None where there is none.

  Args:
    jobs: that are not finished.
    turns: {name: how many turns a job had}.
    share: of its iterations that a job has.

  Of those with the smallest priority the one that had the fewest turns; of these the one
  that has the smallest share of its iterations; of these the first.
  """
  if not jobs:
    return None
  priority = min(job.priority for job in jobs)
  return min((job for job in jobs if job.priority == priority),
             key=lambda job: (turns.get(job.name, 0), share(job)))


def _minutes(seconds: float) -> str:
  return cells.three_digits(seconds / 60)
