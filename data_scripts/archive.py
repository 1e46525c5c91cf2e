"""What zip and tar archives have in common: how they are read, and what an honest one holds.

Archives come from the internet: a member with an absolute path, a '..', a link or a
device makes the whole archive suspect and is refused, and sizes are bounded, whatever an
archive claims about itself: the number and the size of the files, of their names, of the
tables of contents, and of what a decompressor may take. No archive makes Python take more
than 1 GiB.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, ContextManager, Optional, Union

from data_scripts.file_names import (
  DEEPEST_FOLDER,
  is_junk,
  is_printable,
  normalised,
  shortened,
)
from data_scripts.source_items import HONEST, Item, Limits, what_it_is_instead
from maml_tf.errors import DataError

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
          OSError, NotImplementedError, RuntimeError, ValueError)
REMEDY = 'fetch the archive again, or unpack what belongs to the set and name the folder'
_LONGEST_NAME = 500       # characters


class Archive:
  """What zip and tar archives have in common."""

  def __init__(self, path: Union[str, Path], limits: Limits = HONEST):
    self.path = Path(path)
    self._limits = limits

  def __str__(self) -> str:
    return str(self.path)

  def names(self) -> list[str]:
    """Paths of the files in the archive, in stored order.

    Raises:
      DataError: for a file that is not such an archive, is damaged or cut off, holds
        unsafe members, or exceeds the limits.
    """
    raise NotImplementedError

  def opened(self, name: str) -> ContextManager[tuple[BinaryIO, int]]:
    """One file of any size, to be read bit by bit, and its bytes.

    Raises:
      DataError: as `names`, and where this kind of archive can only be read forwards.
    """
    raise DataError(f'{name} in {str(self.path)!r} can only be read unpacked: unpack the '
                    'archive, and name the folder.')

  def read(self, names: Collection[str]) -> Iterator[Item]:
    """The bytes of the files `names`, in stored order. Raises: as `names`."""
    read_bytes = 0
    for item in self._items(set(names)):
      read_bytes += len(item.data or b'')
      check_total(self.path, read_bytes, self._limits)
      yield item

  def _items(self, wanted: set) -> Iterator[Item]:
    raise NotImplementedError


class Members:
  """Collects the members of one archive, and everything that is wrong with them."""

  def __init__(self, path: Path, limits: Limits):
    self._path, self._limits = path, limits
    self._found: dict = {}
    self._problems: list[str] = []
    self._count = 0
    self._total_bytes = 0

  def count_one_more(self) -> None:
    """For every member, folders too. Raises DataError where there are too many."""
    self._count += 1
    if self._count > self._limits.files:
      raise DataError(f'{str(self._path)!r} holds more than {self._limits.files} files, so '
                      f'it is not the data set: {REMEDY}.')

  def add(self, name: str, size: int, problem: Optional[str], member) -> None:
    """Raises DataError at once where a limit is exceeded, else collects."""
    self.count_one_more()
    is_left_out = is_junk(normalised(name))
    problem = _path_problem(name) or (
        None if is_left_out else problem or _characters_problem(name))
    if problem:
      self._problems.append(f'{name[:100]!a} ({problem})')
      return
    if is_left_out:
      return
    name = normalised(name)
    if name in self._found:
      self._problems.append(f'{name[:100]!a} (there twice)')
    self._found[name] = member
    self._total_bytes += size
    check_total(self._path, self._total_bytes, self._limits)

  def members(self) -> dict:
    """{name: member}. Raises DataError where a member is not safe."""
    if self._problems:
      raise DataError(
          f'{str(self._path)!r} has members that an honest archive of images does not have: '
          f'{shortened(self._problems)}; fetch it from its official place, or pack it '
          'again.')
    return self._found


def _path_problem(name: str) -> Optional[str]:
  if not normalised(name):
    return 'no name'
  if name.startswith(('/', '\\')) or (len(name) > 1 and name[1] == ':'):
    return 'an absolute path'
  if '..' in name.replace('\\', '/').split('/'):
    return "a path with '..'"
  if len(name) > _LONGEST_NAME:
    return f'a path of more than {_LONGEST_NAME} characters'
  if normalised(name).count('/') > DEEPEST_FOLDER:
    return f'more than {DEEPEST_FOLDER} folders deep'
  return None


def _characters_problem(name: str) -> Optional[str]:
  # Also what is not UTF-8.
  return None if is_printable(name) else 'a path with unprintable characters'


def check_total(path: Path, total_bytes: int, limits: Limits) -> None:
  if total_bytes > limits.total_bytes:
    raise DataError(f'{str(path)!r} unpacks to more than {limits.total_bytes >> 20} MiB, far '
                    f'more than the data set has: {REMEDY}.')


def check_it_may_be_an_archive(path: Path) -> None:
  try:
    with open(path, 'rb') as file:
      instead = what_it_is_instead(file.read(512))
  except OSError as error:
    raise DataError(f'{str(path)!r} cannot be read ({error.strerror}): check the '
                    'path.') from error
  if instead:
    raise DataError(f'{str(path)!r} is {instead} and not an archive: fetch it again.')
