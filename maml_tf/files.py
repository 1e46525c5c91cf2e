"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from typing import IO, Any, Callable, Iterator, Mapping, Union

from maml_tf.errors import ConfigError, WriteError

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def whole_file(path: str, mode: str = 'w', **options) -> Iterator[IO]:
  """Like `open`, but what is at `path` is replaced at the end, and only if all went well.

  The new file is written aside (`path` + '.PROCESS.tmp'), and is on the disk before it
  gets its name.

  Args:
    path: of the file.
    mode: 'w' (UTF-8) or 'wb'.
    **options: of `open`.

  Raises:
    OSError: when it cannot be written; nothing is left aside then.
  """
  if 'b' not in mode:
    options = {'encoding': 'utf-8', **options}
  aside = f'{path}.{os.getpid()}.tmp'
  try:
    with open(aside, mode, **options) as file:
      yield file
      make_written(file)
    os.replace(aside, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.remove(aside)
    raise


@contextlib.contextmanager
def reported(path: str) -> Iterator[None]:
  """Makes a `WriteError` of what goes wrong when `path` is written."""
  try:
    yield
  except OSError as error:
    raise WriteError(f'{path} cannot be written ({error.strerror or error}). '
                     f'{remedy(error)}, or choose another folder; the same command goes on '
                     'from there.') from error


@contextlib.contextmanager
def writable(path: str, flag: str = 'logdir') -> Iterator[None]:
  """Makes a `ConfigError` of what goes wrong when `path`, in what a flag names, is written."""
  try:
    yield
  except OSError as error:
    raise ConfigError(f'{path} cannot be written ({error.strerror}): choose another '
                      f'--{flag}.') from error


def remedy(error: Exception) -> str:
  """What to do where something cannot be written."""
  number = getattr(error, 'errno', None)
  if number in (errno.EACCES, errno.EPERM, errno.EROFS):
    return 'Take its write protection away'
  if number in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
    return 'Put its folder back, if that was moved or removed'
  if number in (errno.EISDIR, errno.EEXIST):
    return 'Another thing has that name: move it'
  return 'Free some space'


def as_json(value: Any, indent: int) -> str:
  """JSON as everything reads it: null for what is not finite, which has no word in it."""
  return json.dumps(_finite(value), indent=indent, allow_nan=False) + '\n'


def _finite(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _finite(one) for name, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(one) for one in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: str, content) -> None:
  """Text or bytes, as a whole file."""
  with whole_file(path, 'wb' if isinstance(content, bytes) else 'w') as file:
    file.write(content)


def make_written(file: IO) -> None:
  """What was written to an open file is on the disk after this."""
  file.flush()
  os.fsync(file.fileno())


def make_lasting(path: str) -> None:
  """What was written to a file, or the names in a folder, are on the disk after this."""
  try:
    number = os.open(path, os.O_RDONLY)
  except PermissionError:   # Windows opens no folders
    return
  try:
    os.fsync(number)
  except OSError as error:
    # Some file systems cannot do this to a folder, or a file that is open to read.
    if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
      raise
  finally:
    os.close(number)


def sha256_of_file(path: Union[str, os.PathLike]) -> str:
  """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
  with open(path, 'rb', buffering=0) as file:
    return sha256_of(lambda chunk, _: file.readinto(chunk))


def sha256_of(read: Callable[[memoryview, int], int]) -> str:
  """The SHA-256 of bytes that are read piece by piece.

  Args:
    read: fills what it is given with the bytes from a place on, as far as there are some;
      how many.
  """
  digest, place = hashlib.sha256(), 0
  chunk = memoryview(bytearray(_CHUNK_BYTES))
  while True:
    count = read(chunk, place)
    if not count:
      return digest.hexdigest()
    digest.update(chunk[:count])
    place += count
