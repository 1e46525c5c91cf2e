"""The files of a zip archive."""

from __future__ import annotations

import contextlib
import stat
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Optional

from data_scripts.archive import (
  DAMAGE,
  REMEDY,
  Archive,
  Members,
  check_it_may_be_an_archive,
)
from data_scripts.source_items import Item, bounded_item
from maml_tf.bounded import BoundedReads, TooLargeError
from maml_tf.errors import DataError

_UTF8 = 1 << 11   # of a member's flags: what its name is written in


class ZipSource(Archive):
  """The files of a zip archive; see `archive`."""

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
        return bounded_item(name, file, self._limits.file_bytes)
    except DAMAGE as error:
      return Item(name, None, f'damaged in the archive: {error}')

  def _members(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    check = Members(self.path, self._limits)
    for info in archive.infolist():
      if info.filename.endswith('/'):   # `is_dir` fails where there is no name
        check.count_one_more()
      else:
        check.add(_name_of(info), info.file_size, _zip_problem(info), info)
    return check.members()

  @contextlib.contextmanager
  def _opened(self) -> Iterator[zipfile.ZipFile]:
    check_it_may_be_an_archive(self.path)
    with BoundedReads(self.path, most=self._limits.directory_bytes) as file:
      try:
        archive = zipfile.ZipFile(file)
      except TooLargeError as error:
        raise DataError(f'{str(self.path)!r} is not the data set, since {error}: '
                        f'{REMEDY}.') from error
      except DAMAGE as error:
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
