"""Reads the files of a folder, a zip or a tar archive, without extracting.

The three kinds of source have one interface: `names()` lists what there is, and
`read(names)` yields the bytes, in the order in which they are stored. Archives
come from the internet: a member with an absolute path, a '..', a link or a device
makes the whole archive suspect and is refused, and sizes are bounded, whatever
an archive claims about itself: the number and the size of the files, of their names,
of the tables of contents, and of what a decompressor may take. No archive makes
Python take more than 1 GiB.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ContextManager, Optional, Union

from data_scripts.tar_stream import TAR_HEADER_BYTES, TarStream
from maml_tf.bounded import BoundedReads, TooLargeError
from maml_tf.errors import DataError

ARCHIVE_SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')
# What systems, disks and tools leave in a folder, in lower case, beside hidden files:
# macOS, Windows, network disks (Synology, QNAP), file system checks, Python.
_JUNK = {'__macosx', 'icon\r', 'icon\uf00d', 'network trash folder', 'temporary items',
         'thumbs.db', 'ehthumbs.db', 'desktop.ini', '$recycle.bin',
         'system volume information', '@eadir', '@recycle', '@recently-snapshot', '#recycle',
         '#snapshot', 'lost+found', 'found.000', '__pycache__'}
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
           OSError, NotImplementedError, RuntimeError, ValueError)
_REMEDY = 'fetch the archive again, or unpack what belongs to the set and name the folder'
# Of a message that names members of an archive, or folders.
_NAMES_SHOWN = 5
_LONGEST_NAME = 500       # characters
_DEEPEST_FOLDER = 32
_TAR_BLOCK_BYTES = 512
_IMAGENET_CLASS = re.compile(r'n\d{8}')
_UTF8 = 1 << 11   # of a zip member's flags: what its name is written in
_JOINERS = '\u200c\u200d'


@dataclass(frozen=True)
class Limits:
  """What an honest source does not exceed.

  The defaults leave mini-ImageNet at ILSVRC size (60,000 files, about 7 GB, the
  largest some 15 MB) ample room.

  Attributes:
    files: files and folders.
    file_bytes: of one file, unpacked.
    total_bytes: of all files, unpacked.
    directory_bytes: of a zip archive's table of contents; 60,000 files have about
      7 MiB.
  """
  files: int = 200_000
  file_bytes: int = 64 << 20
  total_bytes: int = 64 << 30
  directory_bytes: int = 16 << 20


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

  Links to files and folders are followed, also out of the folder: it is the user's
  own, and a data set is often linked together from several disks. Only regular files
  are read.

  Args:
    path: the folder.
    below: subfolders to restrict it to; empty: all of it.
    known: where a folder holds some of these, it is one of class folders, and others that
      are named as ImageNet's classes are passed over.
    limits: bounds on what is read.

  Attributes:
    links_out: 'name -> target' of the links that lead out of the folder, after
      `names`.
    passed_over: the folders that are, because of `known`; after `names`.
  """

  def __init__(self, path: Union[str, Path], below: Sequence[str] = (),
               limits: Limits = Limits(), known: Collection[str] = ()):
    self.path = Path(path)
    self.links_out: list[str] = []
    self.passed_over: list[str] = []
    self._below = tuple(below)
    self._known = frozenset(known)
    self._limits = limits
    self._entries = 0
    self._home = ''

  def __str__(self) -> str:
    return str(self.path)

  def names(self) -> list[str]:
    """Paths of the files, relative to the folder, with '/', sorted.

    Raises:
      DataError: for folders that cannot be listed and names that are not printable
        text (all of them together), or too many files.
    """
    found: list[str] = []
    unreadable: list[str] = []
    self._entries, self.links_out, self.passed_over = 0, [], []
    self._home = os.path.realpath(self.path)
    for below in self._below or ('',):
      self._walk(self.path / below, f'{below}/' if below else '', (), found, unreadable)
    if unreadable:
      raise DataError(f'Of the folder {str(self.path)!r} {shortened(unreadable)} cannot be '
                      'used: make these readable, or rename them.')
    return found

  def _walk(self, folder: Path, prefix: str, above: tuple, found: list[str],
            unreadable: list[str]) -> None:
    if len(above) > _DEEPEST_FOLDER:
      unreadable.append(f'{prefix[:100]!r}... (more than {_DEEPEST_FOLDER} folders deep)')
      return
    try:
      identity = (os.stat(folder).st_dev, os.stat(folder).st_ino)
      if identity in above:   # a link to a folder that contains it
        return
      entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
      unreadable.append(f'{prefix or str(folder)!r} ({error.strerror})')
      return
    has_known = any(entry.name in self._known for entry in entries)
    for entry in entries:
      if is_junk(entry.name):
        continue
      if (has_known and entry.name not in self._known
          and _IMAGENET_CLASS.fullmatch(entry.name)):
        self.passed_over.append(prefix + entry.name)
        continue
      self._count_one_more()
      if entry.is_symlink():
        self._note_if_outside(entry, prefix + entry.name)
      if not _is_printable(entry.name):   # also: what is not UTF-8
        unreadable.append(f'{prefix + entry.name!a} (a name with unprintable characters)')
      elif _is_folder(entry):
        self._walk(folder / entry.name, f'{prefix}{entry.name}/', (*above, identity), found,
                   unreadable)
      else:
        found.append(prefix + entry.name)

  def _count_one_more(self) -> None:
    self._entries += 1
    if self._entries > self._limits.files:
      raise DataError(f'The folder {str(self.path)!r} holds more than {self._limits.files} '
                      'files and folders, so it is not the data set alone: name the folder '
                      'of the data set.')

  def _note_if_outside(self, entry: os.DirEntry, name: str) -> None:
    target = os.path.realpath(entry.path)
    # Not by `commonpath`, which fails on two disks of Windows.
    if not f'{target}{os.sep}'.startswith(os.path.join(self._home, '')):
      self.links_out.append(f'{name} -> {target}')

  @contextlib.contextmanager
  def opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """One file of any size, to be read bit by bit, and its bytes."""
    path = self.path / name
    if not stat.S_ISREG(os.stat(path).st_mode):   # opening a pipe would wait for ever
      raise DataError(f'{str(path)!r} is not a regular file: put the file itself there.')
    with open(path, 'rb') as file:
      yield file, os.fstat(file.fileno()).st_size

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


class _Archive:
  """What zip and tar archives have in common."""

  def __init__(self, path: Union[str, Path], limits: Limits = Limits()):
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
      _check_total(self.path, read_bytes, self._limits)
      yield item

  def _items(self, wanted: set) -> Iterator[Item]:
    raise NotImplementedError


class ZipSource(_Archive):
  """The files of a zip archive; see the module."""

  def names(self) -> list[str]:
    with self._opened() as archive:
      return list(self._members(archive))

  @contextlib.contextmanager
  def opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
    with self._opened() as archive:
      info = self._members(archive)[name]
      with archive.open(info) as file:
        yield file, info.file_size

  def _items(self, wanted: set) -> Iterator[Item]:
    with self._opened() as archive:
      members = self._members(archive)
      for name, info in sorted(members.items(), key=lambda pair: pair[1].header_offset):
        if name in wanted:
          yield self._read_one(archive, name, info)

  def _read_one(self, archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Item:
    try:
      with archive.open(info) as file:
        return _bounded(name, file, self._limits.file_bytes)
    except _DAMAGE as error:
      return Item(name, None, f'damaged in the archive: {error}')

  def _members(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    check = _MemberCheck(self.path, self._limits)
    for info in archive.infolist():
      if info.filename.endswith('/'):   # `is_dir` fails where there is no name
        check.count_one_more()
      else:
        check.add(_name_of(info), info.file_size, _zip_problem(info), info)
    return check.members()

  @contextlib.contextmanager
  def _opened(self) -> Iterator[zipfile.ZipFile]:
    _check_it_may_be_an_archive(self.path)
    with BoundedReads(self.path, most=self._limits.directory_bytes) as file:
      try:
        archive = zipfile.ZipFile(file)
      except TooLargeError as error:
        raise DataError(f'{str(self.path)!r} is not the data set, since {error}: '
                        f'{_REMEDY}.') from error
      except _DAMAGE as error:
        raise DataError(f'{str(self.path)!r} is not a whole zip archive ({error}), as after '
                        'a download that broke off: fetch it again.') from error
      file.most = None   # the members have limits of their own
      with archive:
        yield archive


def _name_of(info: zipfile.ZipInfo) -> str:
  """The name of a member. Some programs write UTF-8 without saying so, and `zipfile` takes
  what nobody says anything of for the code page of DOS."""
  try:
    return info.filename if info.flag_bits & _UTF8 else (
        info.filename.encode('cp437').decode('utf-8'))
  except UnicodeError:
    return info.filename


def _zip_problem(info: zipfile.ZipInfo) -> Optional[str]:
  if info.flag_bits & 1:
    return 'encrypted'
  if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
    return 'a link or a device'
  # The others are rare, and LZMA takes as much memory as the archive asks for.
  if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    return f'compressed by method {info.compress_type} and not by deflate'
  return None


class TarSource(_Archive):
  """The files of a tar archive, compressed or not; see the module."""

  def names(self) -> list[str]:
    check = _MemberCheck(self.path, self._limits)
    for member, _ in self._iterate():
      if member.isdir():
        check.count_one_more()
      else:
        check.add(member.name, member.size, _tar_problem(member), None)
    return list(check.members())

  def _items(self, wanted: set) -> Iterator[Item]:
    for member, file in self._iterate():
      name = _normalised(member.name)
      if member.isreg() and name in wanted:
        yield _bounded(name, file, self._limits.file_bytes)

  def _iterate(self) -> Iterator[tuple[tarfile.TarInfo, Optional[BinaryIO]]]:
    """(member, its content) one by one; the contents of files only."""
    _check_it_may_be_an_archive(self.path)
    try:
      with open(self.path, 'rb') as file:
        stream = TarStream(file, self._limits.total_bytes)
        with tarfile.TarFile(fileobj=stream, mode='r') as archive:
          for member in _members_of(archive, stream):
            stream.allowance = self._limits.file_bytes + (1 << 16)   # `tarfile` reads ahead
            yield member, archive.extractfile(member) if member.isreg() else None
        if stream.last_read != bytes(_TAR_BLOCK_BYTES):
          raise tarfile.ReadError(f'it breaks off, or is damaged, at byte {stream.tell()}')
        stream.check_to_the_end()
    except TooLargeError as error:
      raise DataError(f'{str(self.path)!r} is not the data set, since {error}: '
                      f'{_REMEDY}.') from error
    except _DAMAGE as error:
      raise DataError(f'{str(self.path)!r} is not a whole tar archive ({error}): fetch it '
                      'again.') from error


def _members_of(archive: tarfile.TarFile, stream: TarStream) -> Iterator[tarfile.TarInfo]:
  while True:
    stream.allowance = TAR_HEADER_BYTES
    member = archive.next()
    if member is None:
      return
    yield member
    # `tarfile` keeps all members, and attributes that hold for all that follow.
    archive.members.clear()
    archive.pax_headers.clear()


def _tar_problem(member: tarfile.TarInfo) -> Optional[str]:
  if member.issparse():
    return 'a file with holes'
  return None if member.isreg() else 'a link or a device'


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
                    f'({", ".join(ARCHIVE_SUFFIXES)}): name one of these, or the folder that '
                    'it is in, unpacked where it is packed otherwise.')
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
    self._count = 0
    self._total_bytes = 0

  def count_one_more(self) -> None:
    """For every member, folders too. Raises DataError where there are too many."""
    self._count += 1
    if self._count > self._limits.files:
      raise DataError(f'{str(self._path)!r} holds more than {self._limits.files} files, so '
                      f'it is not the data set: {_REMEDY}.')

  def add(self, name: str, size: int, problem: Optional[str], member) -> None:
    """Raises DataError at once where a limit is exceeded, else collects."""
    self.count_one_more()
    is_left_out = is_junk(_normalised(name))
    problem = _path_problem(name) or (
        None if is_left_out else problem or _characters_problem(name))
    if problem:
      self._problems.append(f'{name[:100]!a} ({problem})')
      return
    if is_left_out:
      return
    name = _normalised(name)
    if name in self._found:
      self._problems.append(f'{name[:100]!a} (there twice)')
    self._found[name] = member
    self._total_bytes += size
    _check_total(self._path, self._total_bytes, self._limits)

  def members(self) -> dict:
    """{name: member}. Raises DataError where a member is not safe."""
    if self._problems:
      raise DataError(
          f'{str(self._path)!r} has members that an honest archive of images does not have: '
          f'{shortened(self._problems)}; fetch it from its official place, or pack it '
          'again.')
    return self._found


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:   # reading it will say why
    return False


def shortened(texts: Sequence[str]) -> str:
  """The first few of a list, and how many more there are."""
  more = len(texts) - _NAMES_SHOWN
  return ', '.join(texts[:_NAMES_SHOWN]) + (f' and {more} more' if more > 0 else '')


def _path_problem(name: str) -> Optional[str]:
  if not _normalised(name):
    return 'no name'
  if name.startswith(('/', '\\')) or (len(name) > 1 and name[1] == ':'):
    return 'an absolute path'
  if '..' in name.replace('\\', '/').split('/'):
    return "a path with '..'"
  if len(name) > _LONGEST_NAME:
    return f'a path of more than {_LONGEST_NAME} characters'
  if _normalised(name).count('/') > _DEEPEST_FOLDER:
    return f'more than {_DEEPEST_FOLDER} folders deep'
  return None


def _characters_problem(name: str) -> Optional[str]:
  # Also what is not UTF-8.
  return None if _is_printable(name) else 'a path with unprintable characters'


def _is_printable(name: str) -> bool:
  """Whether it has neither what moves a terminal's cursor nor what is no text. Python has no
  space printable but one, and macOS names screenshots with another; joiners are in words of
  Persian and Hindi."""
  return all(character.isprintable() or unicodedata.category(character) == 'Zs'
             or character in _JOINERS for character in name)


def _normalised(name: str) -> str:
  # Some programs of Windows pack paths with its own separator.
  return '/'.join(part for part in name.replace('\\', '/').split('/')
                  if part not in ('', '.'))


def is_junk(name: str) -> bool:
  """Whether a path is, or is in, what systems leave behind, and no part of a data set."""
  return any(part.lower() in _JUNK or (part.startswith('.') and part != '..')
             for part in name.split('/'))


def _bounded(name: str, file: BinaryIO, limit: int) -> Item:
  data = file.read(limit + 1)
  if len(data) > limit:
    return Item(name, None, f'larger than {limit >> 20} MiB')
  return Item(name, data)


def _check_total(path: Path, total_bytes: int, limits: Limits) -> None:
  if total_bytes > limits.total_bytes:
    raise DataError(f'{str(path)!r} unpacks to more than {limits.total_bytes >> 20} MiB, far '
                    f'more than the data set has: {_REMEDY}.')


def _check_it_may_be_an_archive(path: Path) -> None:
  try:
    with open(path, 'rb') as file:
      instead = what_it_is_instead(file.read(512))
  except OSError as error:
    raise DataError(f'{str(path)!r} cannot be read ({error.strerror}): check the '
                    'path.') from error
  if instead:
    raise DataError(f'{str(path)!r} is {instead} and not an archive: fetch it again.')
