"""A tar archive, compressed or not, unpacked forwards and in bounded portions."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import BinaryIO

from maml_tf.bounded import TooLargeError

# What a tar archive may spend on the headers of one member: long names, attributes.
TAR_HEADER_BYTES = 1 << 20
_XZ_MEMORY_BYTES = 128 << 20    # `xz -9` needs 65 MiB


class TarStream:
  """A tar archive, unpacked as it is read: forwards, and in bounded portions.

  `tarfile` reads long names and attributes in one piece, of whatever size a header
  claims, and any number of them.

  Args:
    file: the archive; whether and how it is compressed is seen from its first bytes.
    most: bytes that it may unpack to, beside a twentieth for headers.

  Attributes:
    allowance: bytes that may be read from here on; to be renewed for each member.
    last_read: what the last read gave.
  """

  def __init__(self, file: BinaryIO, most: int):
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b'\x1f\x8b'):
      self._file = gzip.GzipFile(fileobj=file)
    elif magic.startswith(b'BZh'):
      self._file = bz2.BZ2File(file)
    elif magic == b'\xfd7zXZ\0':
      self._file = _XzReader(file)
    else:
      self._file = file
    self._is_compressed = self._file is not file
    self._most = most + most // 20 + (1 << 20)
    self.allowance = TAR_HEADER_BYTES
    self.last_read = b''

  def read(self, size: int) -> bytes:
    """Raises: TooLargeError: beyond the allowance."""
    if size > self.allowance:
      raise TooLargeError('a member has more attributes than any file of it')
    self.allowance -= size
    self.last_read = self._file.read(size)
    return self.last_read

  def seek(self, place: int) -> int:
    """Raises: TooLargeError: beyond all that it may unpack to."""
    if place > self._most:
      raise TooLargeError(f'it unpacks to more than {self._most >> 20} MiB')
    return self._file.seek(place)

  def tell(self) -> int:
    return self._file.tell()

  def check_to_the_end(self) -> None:
    """Reads what follows: checksums of compressed files stand at their end."""
    if self._is_compressed:
      while self._file.read(1 << 16):
        self.seek(self.tell())   # within what it may unpack to


class _XzReader(io.RawIOBase):
  """An xz file, unpacked forwards. `lzma.LZMAFile` knows no bound on its memory."""

  def __init__(self, file: BinaryIO):
    self._file = file
    self._decompressor = self._new_decompressor()
    self._place = 0

  @staticmethod
  def _new_decompressor() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

  def read(self, size: int) -> bytes:
    """`size` bytes, or less at the end. Raises: LZMAError, EOFError."""
    parts, missing = [], size
    while missing and (part := self._some(missing)):
      parts.append(part)
      missing -= len(part)
    return b''.join(parts)

  def _some(self, most: int) -> bytes:
    while True:
      packed = b''
      if self._decompressor.eof:   # another stream may follow
        packed = self._decompressor.unused_data.lstrip(b'\0') or self._file.read(1 << 16)
        if not packed.lstrip(b'\0'):
          return b''
        self._decompressor = self._new_decompressor()
      elif self._decompressor.needs_input:
        packed = self._file.read(1 << 16)
        if not packed:
          raise EOFError('it breaks off')
      try:
        data = self._decompressor.decompress(packed, most)
      except lzma.LZMAError as error:
        if 'emory' not in str(error):
          raise
        raise TooLargeError('it asks for more than '
                            f'{_XZ_MEMORY_BYTES >> 20} MiB to be unpacked') from error
      if data:
        self._place += len(data)
        return data

  def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
    """Forwards only."""
    if whence != io.SEEK_SET or place < self._place:
      raise io.UnsupportedOperation('an xz file is read forwards only')
    while self._place < place and self._some(min(place - self._place, 1 << 16)):
      pass
    return self._place

  def tell(self) -> int:
    return self._place
