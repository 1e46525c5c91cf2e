"""The process of a turn: `python -m maml_tf.verification.turn_process JSON`.

`train_all` starts it in the folder of a fixed commit. It ends its turn when its standard
input ends: when it is told to, and also when the process that started it is killed. So no
training goes on that nobody looks after, and what it has reached is saved and kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping

from maml_tf import interruptions, outputs
from maml_tf.before_tensorflow import load_tensorflow
from maml_tf.command_line import exit_code
from maml_tf.config import ConfigError
from maml_tf.locks import HeldError
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import Row
from maml_tf.training.run_lock import run_lock
from maml_tf.verification.plan import Job

_THREADS = ('OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS')


def main(argv: List[str]) -> int:
  """The exit code: 0 a turn was taken, 1 it failed, 2 it was refused."""
  task = json.loads(argv[1])
  with outputs.lasting():   # a closed terminal is no reason to lose what was trained
    stop = Stop()
    pin(task['cores'])
    load_tensorflow()
    return exit_code('maml_tf.verify', lambda: _take(task, stop))


def task_of(job: Job, logdir: str, data_dir: str, results: str, lock: str, cores: int,
            seconds_between_lines: float) -> Dict[str, Any]:
  """What `main` is given, as JSON can hold it; all paths are absolute."""
  row = job.row
  return {'row': {**vars(row), 'identity': dict(row.identity), 'paper': dict(row.paper)},
          'seed': job.seed, 'iterations': job.iterations, 'priority': job.priority,
          'logdir': logdir, 'data_dir': data_dir, 'results': results, 'lock': lock,
          'cores': cores, 'seconds_between_lines': seconds_between_lines}


def _take(task: Mapping[str, Any], stop: 'Stop') -> None:
  from maml_tf import devices, experiment
  from maml_tf.verification import turn
  job = _job(task)
  config = row_config(job.row, seed=job.seed, logdir=task['logdir'],
                      data_dir=task['data_dir'])
  devices.set_up(experiment.side_by_side(config))
  with _lock_when_free(task['lock'], stop):
    turn.take(job, config, task['results'], lambda: stop.received,
              task['seconds_between_lines'])


def _job(task: Mapping[str, Any]) -> Job:
  fields = dict(task['row'])
  fields['paper'] = {int(updates): value for updates, value in fields['paper'].items()}
  return Job(Row(**fields), task['seed'], task['iterations'], task['priority'])


class Stop:
  """Notes the signals that end a turn, and the end of standard input, from now on.

  While it trains, `training.signals.Signals` receives them instead, and saves. What must not
  be half done (a test, what is kept) goes on to its end.

  Attributes:
    received: whether there was one.
  """

  def __init__(self):
    self.received = False
    for number in interruptions.heeded():
      signal.signal(number, self._receive)
    threading.Thread(target=self._wait_for_the_end, daemon=True).start()

  def _receive(self, number, frame) -> None:
    self.received = True

  @staticmethod
  def _wait_for_the_end() -> None:
    while os.read(0, 4096):   # not `sys.stdin`, whose lock would be held at the exit
      pass
    signal.raise_signal(signal.SIGTERM)


def pin(cores: int) -> None:
  """Leaves this process, and the threads that it starts, so many of the cores it may use;
  0: all. Where the system has no such call, TensorFlow gets as many threads."""
  if not cores:
    return
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return
  for name in _THREADS:
    os.environ.setdefault(name, str(cores))


@contextlib.contextmanager
def _lock_when_free(path: str, stop: Stop, sleep: Callable[[float], None] = time.sleep
                    ) -> Iterator[None]:
  """Waits while a turn that was left behind saves and keeps its run."""
  with contextlib.ExitStack() as stack:
    said = False
    while True:
      try:
        stack.enter_context(run_lock(path))
        break
      except ConfigError as error:
        if stop.received or not isinstance(error.__cause__, HeldError):
          raise
        if not said:
          print('Waiting for the turn before, which saves its run.', flush=True)
          said = True
        sleep(1.0)
    yield


if __name__ == '__main__':
  sys.exit(main(sys.argv))
