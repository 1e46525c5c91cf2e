"""Reads the files of a folder, a zip or a tar archive, without extracting.

The three kinds of source have one interface: `names()` lists what there is, and
`read(names)` yields the bytes, in the order in which they are stored. Archives
come from the internet: a member with an absolute path, a '..', a link or a device
makes the whole archive suspect and is refused, and sizes are bounded, whatever
an archive claims about itself.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional, Union

from maml_tf.sources.image_set import DataError

ARCHIVE_SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
_JUNK = {'__MACOSX', '.DS_Store', 'Thumbs.db', 'desktop.ini'}
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
           OSError, NotImplementedError, RuntimeError, ValueError)
# Of a message that names members of an archive.
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Limits:
  """What an honest source does not exceed.

  The defaults leave mini-ImageNet at ILSVRC size (60,000 files, about 7 GB, the
  largest some 15 MB) ample room.
  """
  files: int = 500_000
  file_bytes: int = 64 << 20
  total_bytes: int = 64 << 30


@dataclass(frozen=True)
class Item:
  """One file of a source.

  Attributes:
    name: as in `names()`.
    data: its bytes; None where it could not be read.
    problem: why not, as a phrase; None where it could.
  """
  name: str
  data: Optional[bytes]
  problem: Optional[str] = None


class FolderSource:
  """The files below a folder.

  Links to files and folders are followed: the folder is the user's own, and a data
  set is often linked together from several disks. Only regular files are read.

  Args:
    path: the folder.
    below: subfolders to restrict it to; empty: all of it.
    limits: bounds on what is read.
  """

  def __init__(self, path: Union[str, Path], below: Sequence[str] = (),
               limits: Limits = Limits()):
    self.path = Path(path)
    self._below = tuple(below)
    self._limits = limits

  def __str__(self) -> str:
    return str(self.path)

  def names(self) -> list[str]:
    """Paths of the files, relative to the folder, with '/', sorted.

    Raises:
      DataError: for a folder that cannot be listed, or too many files.
    """
    found: list[str] = []
    try:
      for below in self._below or ('',):
        self._walk(self.path / below, f'{below}/' if below else '', set(), found)
    except OSError as error:
      raise DataError(f'The folder {str(self.path)!r} cannot be listed ({error}): make it '
                      'readable.') from error
    return found

  def _walk(self, folder: Path, prefix: str, above: set, found: list[str]) -> None:
    identity = (os.stat(folder).st_dev, os.stat(folder).st_ino)
    if identity in above:   # a link to a folder that contains it
      return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
      if entry.name in _JUNK or entry.name.startswith('.'):
        continue
      if entry.is_dir():
        self._walk(folder / entry.name, f'{prefix}{entry.name}/', above | {identity}, found)
      else:
        found.append(prefix + entry.name)
        if len(found) > self._limits.files:
          raise DataError(f'The folder {str(self.path)!r} holds more than '
                          f'{self._limits.files} files, so it is not the data set alone: '
                          'name the folder of the data set.')

  def read(self, names: Collection[str]) -> Iterator[Item]:
    """The bytes of the files `names`, in sorted order."""
    for name in sorted(names):
      yield self._read_one(name)

  def _read_one(self, name: str) -> Item:
    path = self.path / name
    try:
      if not stat.S_ISREG(os.stat(path).st_mode):   # opening a pipe would wait for ever
        return Item(name, None, 'not a regular file')
      with open(path, 'rb') as file:
        return _bounded(name, file, self._limits.file_bytes)
    except OSError as error:
      return Item(name, None, f'cannot be read: {error.strerror or error}')


class ZipSource:
  """The files of a zip archive; see the module."""

  def __init__(self, path: Union[str, Path], limits: Limits = Limits()):
    self.path = Path(path)
    self._limits = limits

  def __str__(self) -> str:
    return str(self.path)

  def names(self) -> list[str]:
    """Paths of the files in the archive, in stored order.

    Raises:
      DataError: for a file that is not a zip archive, is damaged, holds unsafe
        members, or exceeds the limits.
    """
    return list(self._members())

  def read(self, names: Collection[str]) -> Iterator[Item]:
    """The bytes of the files `names`, in stored order. Raises: as `names`."""
    wanted = set(names)
    members = self._members()
    read_bytes = 0
    with _opened_zip(self.path) as archive:
      for name, info in sorted(members.items(), key=lambda pair: pair[1].header_offset):
        if name in wanted:
          item = self._read_one(archive, name, info)
          read_bytes += len(item.data or b'')
          _check_total(self.path, read_bytes, self._limits)
          yield item

  def _read_one(self, archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Item:
    try:
      with archive.open(info) as file:
        return _bounded(name, file, self._limits.file_bytes)
    except _DAMAGE as error:
      return Item(name, None, f'damaged in the archive: {error}')

  def _members(self) -> dict[str, zipfile.ZipInfo]:
    with _opened_zip(self.path) as archive:
      infos = [info for info in archive.infolist() if not info.is_dir()]
    check = _MemberCheck(self.path, self._limits)
    for info in infos:
      kind = stat.S_IFMT(info.external_attr >> 16)
      problem = None
      if info.flag_bits & 1:
        problem = 'encrypted'
      elif kind not in (0, stat.S_IFREG):
        problem = 'a link or a device'
      check.add(info.filename, info.file_size, problem, info)
    return check.members()


class TarSource:
  """The files of a tar archive, compressed or not; see the module."""

  def __init__(self, path: Union[str, Path], limits: Limits = Limits()):
    self.path = Path(path)
    self._limits = limits

  def __str__(self) -> str:
    return str(self.path)

  def names(self) -> list[str]:
    """Paths of the files in the archive, in stored order.

    Raises:
      DataError: for a file that is not a tar archive, is damaged or cut off, holds
        unsafe members, or exceeds the limits.
    """
    check = _MemberCheck(self.path, self._limits)
    for member, _ in self._iterate():
      if not member.isdir():
        check.add(member.name, member.size,
                  None if member.isreg() else 'a link or a device', member)
    return list(check.members())

  def read(self, names: Collection[str]) -> Iterator[Item]:
    """The bytes of the files `names`, in stored order. Raises: as `names`."""
    wanted = set(names)
    read_bytes = 0
    for member, archive in self._iterate():
      name = _normalised(member.name)
      if member.isreg() and name in wanted:
        item = _bounded(name, archive.extractfile(member), self._limits.file_bytes)
        read_bytes += len(item.data or b'')
        _check_total(self.path, read_bytes, self._limits)
        yield item

  def _iterate(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    _check_it_may_be_an_archive(self.path)
    try:
      with tarfile.open(self.path, mode='r:*') as archive:
        for member in archive:
          yield member, archive
    except _DAMAGE as error:
      raise DataError(f'{str(self.path)!r} is not a whole tar archive ({error}): fetch it '
                      'again.') from error


Source = Union[FolderSource, ZipSource, TarSource]


def open_source(path: Union[str, Path], limits: Limits = Limits()) -> Source:
  """The source at a path: a folder, a zip archive, or a tar archive.

  Raises:
    DataError: for a path that does not exist, or a file of another kind.
  """
  path = Path(path)
  if path.is_dir():
    return FolderSource(path, limits=limits)
  if not path.exists():
    raise DataError(f'There is no file or folder {str(path)!r}: check the path.')
  if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
    raise DataError(f'{str(path)!r} is neither a folder nor an archive '
                    f'({", ".join(ARCHIVE_SUFFIXES)}): name one of these.')
  kind = ZipSource if path.name.lower().endswith('.zip') else TarSource
  return kind(path, limits)


def what_it_is_instead(start: bytes) -> Optional[str]:
  """What a file is that should hold data, judged by its first bytes, as a phrase.

  None: it may be what it should be. Failed downloads mostly leave one of these.
  """
  start = start.lstrip(b'\xef\xbb\xbf \t\r\n')
  if not start:
    return 'an empty file'
  if start[:15].lower().startswith((b'<!doctype', b'<html', b'<head', b'<?xml', b'<!--')):
    return 'a web page (mostly the error or login page of a failed download)'
  if start.startswith(b'version https://git-lfs'):
    return 'a Git LFS pointer (`git lfs pull` fetches the file itself)'
  return None


class _MemberCheck:
  """Collects the members of one archive, and everything that is wrong with them."""

  def __init__(self, path: Path, limits: Limits):
    self._path, self._limits = path, limits
    self._found: dict = {}
    self._problems: list[str] = []
    self._total_bytes = 0

  def add(self, name: str, size: int, problem: Optional[str], member) -> None:
    """Raises DataError at once where a limit is exceeded, else collects."""
    problem = problem or _name_problem(name)
    if problem:
      self._problems.append(f'{name!r} ({problem})')
      return
    name = _normalised(name)
    if _is_junk(name):
      return
    if name in self._found:
      self._problems.append(f'{name!r} (there twice)')
    self._found[name] = member
    self._total_bytes += size
    _check_total(self._path, self._total_bytes, self._limits)
    if len(self._found) > self._limits.files:
      raise DataError(f'{str(self._path)!r} holds more than {self._limits.files} files, so '
                      'it is not the data set: fetch the archive again.')

  def members(self) -> dict:
    """{name: member}. Raises DataError where a member is not safe."""
    if self._problems:
      count = len(self._problems)
      more = f' and {count - _NAMES_SHOWN} more' if count > _NAMES_SHOWN else ''
      raise DataError(
          f'{str(self._path)!r} has members that an honest archive of images does not have: '
          f'{", ".join(self._problems[:_NAMES_SHOWN])}{more}; fetch it from its official '
          'place, or pack it again.')
    return self._found


def _name_problem(name: str) -> Optional[str]:
  if name.startswith('/') or (len(name) > 1 and name[1] == ':'):
    return 'an absolute path'
  if '..' in name.split('/'):
    return "a path with '..'"
  if '\\' in name or '\0' in name:
    return 'a path with a backslash or a null'
  return None


def _normalised(name: str) -> str:
  return '/'.join(part for part in name.split('/') if part not in ('', '.'))


def _is_junk(name: str) -> bool:
  parts = name.split('/')
  return any(part in _JUNK for part in parts) or parts[-1].startswith('.')


def _bounded(name: str, file: BinaryIO, limit: int) -> Item:
  data = file.read(limit + 1)
  if len(data) > limit:
    return Item(name, None, f'larger than {limit >> 20} MiB')
  return Item(name, data)


def _check_total(path: Path, total_bytes: int, limits: Limits) -> None:
  if total_bytes > limits.total_bytes:
    raise DataError(f'{str(path)!r} unpacks to more than {limits.total_bytes >> 20} MiB, far '
                    'more than the data set has: fetch the archive again.')


def _check_it_may_be_an_archive(path: Path) -> None:
  try:
    with open(path, 'rb') as file:
      instead = what_it_is_instead(file.read(512))
  except OSError as error:
    raise DataError(f'{str(path)!r} cannot be read ({error.strerror}): check the '
                    'path.') from error
  if instead:
    raise DataError(f'{str(path)!r} is {instead} and not an archive: fetch it again.')


def _opened_zip(path: Path) -> zipfile.ZipFile:
  _check_it_may_be_an_archive(path)
  try:
    return zipfile.ZipFile(path)
  except _DAMAGE as error:
    raise DataError(f'{str(path)!r} is not a whole zip archive ({error}), as after a '
                    'download that broke off: fetch it again.') from error
