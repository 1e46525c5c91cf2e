"""In the place of a lock where the file system has none: a file that its holder rewrites.

Whoever finds the file watches it: one that changes is held, wherever its holder runs, and one
that stays as it is for `SILENCE` seconds was left behind. No clocks of two machines are
compared, and no process is looked for, whose number means nothing on another machine or in
another container. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
import time
from typing import Iterator, Optional

from maml_tf import outputs

BEAT = 5         # seconds between two signs of life
SILENCE = 60     # seconds without one, after which a file is taken over
_LOOK = 1        # seconds between two looks at the file of another


class HeldError(Exception):
  """Another process has the lock; the message says which one."""


def name_of_this_process() -> str:
  return f'process {os.getpid()} on {socket.gethostname()}'


@contextlib.contextmanager
def beating(path: str) -> Iterator[None]:
  """Holds the file while it is entered.

  Where another process took it over meanwhile, this one having been suspended for long, it
  says so and is told to stop, as by the system (SIGTERM).

  Raises:
    HeldError: when another process holds it; that takes up to `BEAT` seconds to be seen.
    OSError: where the file cannot be written.
  """
  own = f'{name_of_this_process()}\n{secrets.token_hex(8)}\n'
  _take(path, own)
  ended = threading.Event()
  thread = threading.Thread(target=_beat, args=(path, own, ended), daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    with contextlib.suppress(OSError):   # also of a server that is gone
      if _is_own(path, own):
        os.remove(path)


def _take(path: str, own: str) -> None:
  while not _made(path, own):
    found = _text(path)
    if found is not None and _is_silent(path, found):
      _set_aside(path, found)


def _made(path: str, own: str) -> bool:
  """Whether the file was made, which of several processes one can."""
  try:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
  except FileExistsError:
    return False
  with open(number, 'w', encoding='utf-8') as file:
    file.write(own)
  return True


def _is_silent(path: str, found: str) -> bool:
  """Whether a file stays as it is; False where it goes away.

  Raises:
    HeldError: where it changes.
  """
  outputs.say(f'{path} is there, of {_holder(found)}, and this system has no file locks: '
              f'waiting up to {SILENCE} s for a sign of life from it.')
  end = time.monotonic() + SILENCE
  while time.monotonic() < end:
    time.sleep(_LOOK)
    now = _text(path)
    if now is None:
      return False
    if now != found:
      raise HeldError(_holder(now))
  return True


def _set_aside(path: str, found: str) -> None:
  """Takes a file away that was left behind, unless it is that of somebody who did the same
  just now: that is put back.

  Raises:
    HeldError: in that case.
  """
  aside = f'{path}.{os.getpid()}.left'
  with contextlib.suppress(FileNotFoundError):
    os.replace(path, aside)
    now = _text(aside)
    if now == found:
      os.remove(aside)
      return
    _made(path, now or '')
    os.remove(aside)
    raise HeldError(_holder(now or ''))


def _beat(path: str, own: str, ended: threading.Event) -> None:
  count = 0
  while not ended.wait(BEAT):
    count += 1
    with contextlib.suppress(OSError):   # a server that is gone for a while
      if not _is_own(path, own) and not _made(path, own):
        outputs.say(f'{path} was taken over by {_holder(_text(path) or "")}, since this '
                    f'process gave no sign of life for {SILENCE} s: stopping.')
        os.kill(os.getpid(), signal.SIGTERM)
        return
      with open(path, 'r+', encoding='utf-8') as file:
        file.write(f'{own}{count}\n')


def _is_own(path: str, own: str) -> bool:
  return (_text(path) or '').startswith(own)


def _text(path: str) -> Optional[str]:
  """Of the file as it is on its server, since it is opened anew; None where there is none."""
  try:
    with open(path, encoding='utf-8', errors='replace') as file:
      return file.read(1000)
  except FileNotFoundError:
    return None


def _holder(text: str) -> str:
  return text.partition('\n')[0].strip() or 'a process that is not known'
