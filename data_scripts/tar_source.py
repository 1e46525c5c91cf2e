"""The files of a tar archive, compressed or not."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Optional

from data_scripts.archive import (
  DAMAGE,
  REMEDY,
  Archive,
  Members,
  check_it_may_be_an_archive,
)
from data_scripts.file_names import normalised
from data_scripts.source_items import Item, bounded_item
from data_scripts.tar_stream import TAR_HEADER_BYTES, TarStream
from maml_tf.bounded import TooLargeError
from maml_tf.errors import DataError

_TAR_BLOCK_BYTES = 512


class TarSource(Archive):
  """The files of a tar archive, compressed or not; see `archive`."""

  def names(self) -> list[str]:
    check = Members(self.path, self._limits)
    for member, _ in self._iterate():
      if member.isdir():
        check.count_one_more()
      else:
        check.add(member.name, member.size, _tar_problem(member), None)
    return list(check.members())

  def _items(self, wanted: set) -> Iterator[Item]:
    for member, file in self._iterate():
      name = normalised(member.name)
      if member.isreg() and name in wanted:
        yield bounded_item(name, file, self._limits.file_bytes)

  def _iterate(self) -> Iterator[tuple[tarfile.TarInfo, Optional[BinaryIO]]]:
    """(member, its content) one by one; the contents of files only."""
    check_it_may_be_an_archive(self.path)
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
                      f'{REMEDY}.') from error
    except DAMAGE as error:
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
