"""Standard output and error that a run outlives. No TensorFlow here.

A terminal is closed, `tee` is killed, the disk of a log gets full, a service starts without
either of them: hours of training are not to end with that, and what is said last is to be
the last line of a log.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Iterator


@contextlib.contextmanager
def lasting() -> Iterator[None]:
  """While it is entered, writing to standard output and error never fails; what cannot be
  written is dropped, from the first time on. What is said on standard error comes behind
  what was printed before it."""
  before = sys.stdout, sys.stderr
  if not isinstance(sys.stderr, _Lasting):
    sys.stdout = _Lasting(sys.stdout)
    sys.stderr = _Lasting(sys.stderr, behind=sys.stdout)
  try:
    yield
  finally:
    sys.stdout.flush()
    sys.stdout, sys.stderr = before


def say(text: str) -> None:
  """A message on standard error, on a line of its own."""
  stream = sys.stderr
  if stream is None:
    return
  if not getattr(stream, 'at_the_start_of_a_line', True):
    stream.write('\n')
  print(text, file=stream, flush=True)


class _Lasting:
  """A text stream; None, for a closed one, is one that drops everything.

  Attributes:
    at_the_start_of_a_line: whether the last thing that was written ended one.
  """

  def __init__(self, stream: Any, behind: Any = None):
    self._stream = _nothing() if stream is None else stream
    self._behind = behind
    self.at_the_start_of_a_line = True

  def write(self, text: str) -> int:
    if self._behind is not None:
      self._behind.flush()
    if text:
      self.at_the_start_of_a_line = text.endswith('\n')
    try:
      self._stream.write(text)
    except UnicodeEncodeError:   # the names of files need not be text
      self._stream.write(text.encode('ascii', 'backslashreplace').decode())
    except (OSError, ValueError):   # ValueError: it was closed
      self._let_go()
    except RuntimeError:   # in a signal's handler, which came in the middle of a write
      pass
    return len(text)

  def flush(self) -> None:
    try:
      self._stream.flush()
    except (OSError, ValueError):
      self._let_go()
    except RuntimeError:
      pass

  def _let_go(self) -> None:
    """What libraries write there without Python fails no more, either."""
    nothing = _nothing()
    with contextlib.suppress(OSError, ValueError, AttributeError):
      os.dup2(nothing.fileno(), self._stream.fileno())
    self._stream = nothing

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)


def _nothing():
  return open(os.devnull, 'w', encoding='utf-8')   # noqa: SIM115  open to the end
