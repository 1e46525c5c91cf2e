"""Reading files that nobody has to trust, with a bound on what they may take.

A small file can ask for much: JSON that is nested a million times, a number with
a million digits, a zip archive whose table of contents has a gigabyte.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tokenize
import zipfile
import zlib
from typing import Any, Dict, Optional, Union

import numpy as np

# `[{},{},...` becomes some thirty times as large in memory as it is on disk.
MOST_JSON_BYTES = 8 << 20
_MOST_DIGITS = 1000
_MOST_ARRAYS = 10_000   # of an npz file: NumPy looks each of them up in a list
_MOST_NPZ_DIRECTORY_BYTES = 4 << 20
# Everything that reading a damaged zip or array can end with.
DAMAGED_NPZ = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError,
               OverflowError, SyntaxError, AttributeError, struct.error,
               tokenize.TokenError, zipfile.BadZipFile, zlib.error)


class TooLargeError(ValueError):
  """More than the bound; the message is a phrase: what is larger than what."""


def parse_json(text: Union[str, bytes], most: int = MOST_JSON_BYTES) -> Any:
  """What `json.loads` gives, in a bounded amount of memory and time.

  Args:
    text: JSON; bytes are UTF-8.
    most: characters or bytes that `text` may have.

  Raises:
    ValueError: for text that is not JSON, is longer than `most`, is nested too
      deeply, or has a number of more than 1,000 digits.
  """
  if len(text) > most:
    raise TooLargeError(f'it is larger than {_size_in_words(most)}')
  try:
    return json.loads(text, parse_int=_bounded_int)
  except RecursionError:
    raise ValueError('it is nested too deeply') from None


def read_json(path: Union[str, 'os.PathLike[str]'], most: int = MOST_JSON_BYTES) -> Any:
  """`parse_json` of a file.

  Raises:
    OSError: for a file that cannot be read.
    ValueError: see `parse_json`.
  """
  with open(path, 'rb') as file:
    return parse_json(file.read(most + 1), most)


def _bounded_int(digits: str) -> int:
  if len(digits) > _MOST_DIGITS:
    raise ValueError(f'it has a number of {len(digits)} digits')
  return int(digits)


def read_npz(path: Union[str, 'os.PathLike[str]'], most: int) -> Dict[str, np.ndarray]:
  """The arrays of an npz file; pickles are refused.

  Args:
    path: of the file.
    most: bytes of all arrays, unpacked.

  Raises:
    one of `DAMAGED_NPZ`: for a file that is missing, damaged, too large or something else.
  """
  with BoundedReads(path, most=_MOST_NPZ_DIRECTORY_BYTES) as file:
    if file.read(6) == b'\x93NUMPY':
      raise ValueError('it is a single array')
    with zipfile.ZipFile(file) as archive:
      members = archive.infolist()
    if sum(member.file_size for member in members) > most:
      raise TooLargeError(f'it unpacks to more than {_size_in_words(most)}')
    if len(members) > _MOST_ARRAYS:
      raise TooLargeError(f'it has more than {_MOST_ARRAYS} arrays')
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
           for member in members):
      raise ValueError('it is compressed in another way than NumPy does')
    file.seek(0)
    file.most = None
    loaded = np.load(file, allow_pickle=False)
    arrays = {name: loaded[name] for name in loaded.files}
  if not all(isinstance(array, np.ndarray) for array in arrays.values()):
    raise ValueError('a member is no array')
  return arrays


class BoundedReads(io.BufferedReader):
  """A file of which no single read gives more than a number of bytes.

  `zipfile` reads the table of contents in one piece, of whatever size an archive
  claims, and keeps some ten times as much of it.

  Args:
    path: of the file.
    most: bytes of one read; None: any number. May be changed later.
  """

  def __init__(self, path: Union[str, 'os.PathLike[str]'], most: Optional[int]):
    super().__init__(io.FileIO(path))
    self.most = most

  def read(self, size: Optional[int] = -1) -> bytes:
    """Raises: TooLargeError: where `size` is above the bound."""
    everything = size is None or size < 0
    if self.most is None:
      return super().read(size)
    if not everything and size > self.most:
      raise TooLargeError(f'its table of contents is larger than {_size_in_words(self.most)}')
    data = super().read(self.most + 1 if everything else size)
    if len(data) > self.most:
      raise TooLargeError(f'its table of contents is larger than {_size_in_words(self.most)}')
    return data


def _size_in_words(size: int) -> str:
  return f'{size >> 20} MiB' if size >= 1 << 20 else f'{size} bytes'
