"""One file of a source: its bytes, within limits, and what it may be instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Optional


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


HONEST = Limits()


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


def bounded_item(name: str, file: BinaryIO, limit: int) -> Item:
  data = file.read(limit + 1)
  if len(data) > limit:
    return Item(name, None, f'larger than {limit >> 20} MiB')
  return Item(name, data)


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
