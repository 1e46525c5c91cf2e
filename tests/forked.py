"""Processes that are killed, without paying for TensorFlow's import each time.

`Forks` starts one process that imports TensorFlow and computes nothing; it forks itself
for every call. As a script this is that process: a line of JSON on stdin for each call.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LONGEST = 1200   # seconds of a process, on a machine that is busy


class Forks:
  """Use as a context manager."""

  def __enter__(self) -> 'Forks':
    self._process = subprocess.Popen(
        [sys.executable, __file__], cwd=REPOSITORY, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE)
    return self

  def __exit__(self, *_) -> None:
    self._process.stdin.close()   # ends it
    self._process.stdout.close()
    self._process.wait(LONGEST)

  def start(self, function: str, output, *arguments) -> 'Fork':
    """Calls 'module:function' with arguments that JSON can hold, in a process of its own.

    Its stdout and stderr go into the file `output`; its exit code is the function's
    result, 99 for an exception.
    """
    line = json.dumps([function, str(output), arguments])
    self._process.stdin.write(line + '\n')
    self._process.stdin.flush()
    return Fork(json.loads(self._process.stdout.readline()), self, output)

  def wait(self, pid) -> int:
    self._process.stdin.write(json.dumps(pid) + '\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())


class Fork:

  def __init__(self, pid, forks, output):
    self.pid = pid
    self._forks = forks
    self.output = Path(output)

  @property
  def alive(self) -> bool:
    """Until it ends; it is a zombie then, and keeps its number."""
    text = Path(f'/proc/{self.pid}/stat').read_text()
    return text.rpartition(')')[2].split()[0] != 'Z'

  def output_text(self) -> str:
    return self.output.read_text() if self.output.exists() else ''

  def signal(self, number) -> None:
    os.kill(self.pid, number)

  def kill(self) -> None:
    self.signal(signal.SIGKILL)

  def wait(self) -> int:
    """The exit code, or minus the signal that ended it."""
    deadline = time.monotonic() + LONGEST
    while self.alive:
      if time.monotonic() > deadline:
        self.kill()
      time.sleep(0.005)
    return self._forks.wait(self.pid)


def _serve() -> None:
  import maml_tf.application  # noqa: F401
  importlib.import_module('faults')
  for line in sys.stdin:
    command = json.loads(line)
    if isinstance(command, int):
      _, status = os.waitpid(command, 0)
      answer = os.waitstatus_to_exitcode(status)
    else:
      answer = os.fork()
      if answer == 0:
        os._exit(_call(*command))
    print(json.dumps(answer), flush=True)


def _call(function: str, output: str, arguments) -> int:
  file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
  for number in (1, 2):
    os.dup2(file, number)
  module, _, name = function.partition(':')
  try:
    return getattr(importlib.import_module(module), name)(*arguments) or 0
  except BaseException:
    traceback.print_exc()
    return 99
  finally:
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == '__main__':
  sys.path.insert(0, str(REPOSITORY))   # this file's folder stays the second
  from maml_tf.before_tensorflow import set_environment
  set_environment()
  _serve()
