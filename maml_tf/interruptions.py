"""Signals outside of training: one sentence, and the exit code that a shell makes of them.

Within training they are noted, and the run is saved; see `training.signals.Signals`. No
TensorFlow here, nor what takes long to import: a command begins with this.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Callable, Iterator, List, Optional

# What ends a run: the first two at once where they come again; of a closed terminal and of
# batch systems several may come, as from the shell and the system.
ENDING = (signal.SIGINT, signal.SIGTERM)
REPEATED = tuple(getattr(signal, name) for name in ('SIGHUP', 'SIGUSR1')
                 if hasattr(signal, name))   # not on Windows
# What ends a process, by whoever sends it. Ctrl-C is an exception of Python's own.
_ENDING = (signal.SIGTERM, *REPEATED)


class Stopped(KeyboardInterrupt):
  """A signal other than Ctrl-C; the text is its name."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.number = number


class _Raise:
  def __call__(self, number, frame):
    raise Stopped(number)


class _EndAtOnce:
  """Without an exception, which a library that is being imported may not let through."""

  def __init__(self, program: str):
    self._program = program

  def __call__(self, number, frame):
    by = '' if number == signal.SIGINT else f' by {signal.Signals(number).name}'
    with contextlib.suppress(OSError):
      os.write(2, f'{self._program}: interrupted{by}; nothing was begun.\n'.encode())
    os._exit(128 + number)


@contextlib.contextmanager
def ending_at_once(program: str) -> Iterator[None]:
  """While a command is loaded, and nothing is written yet: a signal ends it on the spot."""
  with _handled(_EndAtOnce(program), (signal.SIGINT, *_ENDING)):
    yield


@contextlib.contextmanager
def raised() -> Iterator[None]:
  """Signals are `Stopped` meanwhile, so that what is held is given back; but for those that
  are ignored, or that somebody else takes care of."""
  with _handled(_Raise(), _ENDING):
    yield


def heeded() -> List[signal.Signals]:
  """The signals that end a run: all, but those of `REPEATED` that are ignored, as SIGHUP is
  under nohup."""
  return [*ENDING, *(number for number in REPEATED
                     if signal.getsignal(number) is not signal.SIG_IGN)]


@contextlib.contextmanager
def put_off() -> Iterator[None]:
  """A signal takes its effect at the end: for several files that belong together."""
  received = []
  with contextlib.ExitStack() as stack:
    if _in_main_thread():
      for number in (signal.SIGINT, *_ENDING):
        if callable(signal.getsignal(number)):
          stack.callback(signal.signal, number, signal.signal(
              number, lambda number, frame: received.append(number)))
    yield
  for number in received[:1]:
    signal.raise_signal(number)


@contextlib.contextmanager
def leaving(what: Callable[[], str]) -> Iterator[None]:
  """What stands after an interruption in here, in a phrase, is said with it."""
  try:
    yield
  except KeyboardInterrupt as interruption:
    if not hasattr(interruption, 'what'):
      interruption.what = what()
    raise


def sentence_of(interruption: KeyboardInterrupt) -> str:
  """'interrupted by SIGTERM; ...'."""
  by = f' by {interruption}' if isinstance(interruption, Stopped) else ''
  what = getattr(interruption, 'what',
                 'the same command goes on from the last checkpoint, if there is one')
  return f'interrupted{by}; {what}.'


def exit_code_of(interruption: KeyboardInterrupt) -> int:
  """What a shell makes of a process that the signal ended."""
  return 128 + getattr(interruption, 'number', int(signal.SIGINT))


@contextlib.contextmanager
def _handled(handler: Callable, numbers) -> Iterator[None]:
  with contextlib.ExitStack() as stack:
    for number in numbers if _in_main_thread() else ():
      if _is_free(signal.getsignal(number)):
        stack.callback(signal.signal, number, signal.signal(number, handler))
    yield


def _is_free(handler: Optional[object]) -> bool:
  return (handler in (signal.SIG_DFL, signal.default_int_handler) or
          isinstance(handler, (_Raise, _EndAtOnce)))


def _in_main_thread() -> bool:
  return threading.current_thread() is threading.main_thread()
