"""A lock that the system gives back when the process ends, however it ends.

On a file system without locks a file with a heartbeat stands in for one, see `heartbeat`.
Where there is no `flock`, on Windows, it is filelock's. Elsewhere it is not, since filelock
leaves its file behind, empties it in an attempt, so that nobody knows who holds it, and on a
file system without locks takes every lock for held (3.19), or makes a file that outlives a
killed process (3.29).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Iterator, Optional

from maml_tf.heartbeat import HeldError, beating, name_of_this_process

try:
  import fcntl
except ImportError:   # Windows
  fcntl = None

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
  """Holds the lock on a file, which is made, and removed at the end: one that a killed
  process has left behind locks nothing.

  Raises:
    HeldError: while another process, or another `locked`, holds it.
    OSError: where the file cannot be written.
  """
  if fcntl is None:
    with _locked_by_filelock(path):
      yield
    return
  try:
    number = _acquire(path)
  except BlockingIOError as error:
    raise HeldError(_holder(path)) from error
  if number is None:
    with beating(path):
      yield
    return
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      os.remove(path)   # while it is locked
    os.close(number)


@contextlib.contextmanager
def _locked_by_filelock(path: str) -> Iterator[None]:
  from filelock import FileLock, Timeout
  lock = FileLock(path)
  try:
    lock.acquire(blocking=False)
  except Timeout as error:
    raise HeldError('which one is not known') from error
  try:
    yield
  finally:
    lock.release()


def _acquire(path: str) -> Optional[int]:
  """The locked file's number; None on a file system that has no locks."""
  while True:
    is_new = not os.path.exists(path)
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(number, path):   # and was not removed by its last holder just now
        with contextlib.suppress(OSError):   # a name is not worth failing for
          os.ftruncate(number, 0)
          os.write(number, name_of_this_process().encode())
        return number
    except OSError as error:
      os.close(number)
      if error.errno in _NO_LOCKS:
        if is_new and not os.path.getsize(path):
          os.remove(path)
        return None
      raise
    os.close(number)


def _is_at(number: int, path: str) -> bool:
  try:
    return os.path.samestat(os.fstat(number), os.stat(path))
  except FileNotFoundError:
    return False


def _holder(path: str) -> str:
  with contextlib.suppress(OSError, UnicodeDecodeError):
    with open(path, encoding='utf-8') as file:
      return file.read(200).strip() or 'which one is not known'
  return 'which one is not known'
