"""One process at a time trains in an experiment's folder."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from typing import Iterator, Optional

from maml_tf.config import ConfigError

try:
  import fcntl
except ImportError:   # Windows
  fcntl = None

ENDING = '.lock'
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
UNLOCKED = ('This system has no file locks here: nothing keeps a second process from training '
            'in the same folder, so start one only.')


@contextlib.contextmanager
def run_lock(folder: str) -> Iterator[None]:
  """Holds the lock on a folder, which need not exist: `folder` + '.lock', beside it.

  The system gives the lock back when the process ends, however it ends: a file that was
  left behind by a killed one locks nothing.

  Raises:
    ConfigError: while another process holds it, or where it cannot be written.
  """
  path = folder + ENDING
  try:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    number = _acquire(path) if fcntl is not None else None
  except BlockingIOError as error:
    raise ConfigError(
        f'Another process ({_holder(path)}) is training in {folder}: wait until it ends, or '
        'choose another --logdir.') from error
  except OSError as error:
    raise ConfigError(f'{path} cannot be written ({error.strerror}): choose another '
                      '--logdir.') from error
  if number is None:
    print(UNLOCKED, file=sys.stderr)
  try:
    yield
  finally:
    if number is not None:
      with contextlib.suppress(OSError):
        os.remove(path)   # while it is locked
      os.close(number)


def _acquire(path: str) -> Optional[int]:
  """The locked file's number; None on a file system that has no locks."""
  while True:
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(number, path):   # and was not removed by its last holder just now
        with contextlib.suppress(OSError):   # a name is not worth failing for
          os.ftruncate(number, 0)
          os.write(number, f'process {os.getpid()} on {socket.gethostname()}'.encode())
        return number
    except OSError as error:
      os.close(number)
      if error.errno in _NO_LOCKS:
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
