"""Signals while a run trains: they are noted, and what is in hand is done to its end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import Any, Iterable, Iterator, Optional

from maml_tf import interruptions


class Left(Exception):
  """Something was not done to its end, since a signal came."""


class Signals:
  """Notes what ends a run from outside, while it is entered: Ctrl-C, SIGTERM, SIGHUP (a
  closed terminal), SIGUSR1 (with which batch systems warn).

  A second Ctrl-C or SIGTERM ends the run at once; the others may come several times, as
  from the shell and the system. SIGHUP that is ignored, as under nohup, stays so.

  Python gives signals to the main thread alone: elsewhere, as in notebooks and servers that
  train in a thread of their own, it notes nothing, and leaves them to whoever has them.

  Attributes:
    received: the signal; None where there was none.
  """

  def __init__(self):
    self.received: Optional[signal.Signals] = None
    self._handlers = {}

  def __enter__(self) -> 'Signals':
    if threading.current_thread() is threading.main_thread():
      for number in interruptions.heeded():
        self._handlers[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._handlers.items():
      signal.signal(number, handler)

  def watched(self, elements: Iterable[Any]) -> Iterator[Any]:
    """The elements, up to a signal.

    Raises:
      Left: before the next one, once a signal has been received.
    """
    for element in elements:
      if self.received is not None:
        raise Left
      yield element

  def _receive(self, number, frame) -> None:
    if self.received is None:
      self.received = signal.Signals(number)
      with contextlib.suppress(OSError):   # the terminal may be gone
        print(f'\n{self.received.name}: stopping after this step', file=sys.stderr)
    if number not in interruptions.REPEATED:
      signal.signal(number, self._handlers[number])
