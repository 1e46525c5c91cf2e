"""The files below a folder."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Union

from data_scripts.file_names import DEEPEST_FOLDER, is_junk, is_printable
from data_scripts.source_items import HONEST, Item, Limits, bounded_item
from maml_tf.errors import DataError

_IMAGENET_CLASS = re.compile(r'n\d{8}')


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
               limits: Limits = HONEST, known: Collection[str] = ()):
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
      raise DataError(f'Of the folder {str(self.path)!r} {", ".join(unreadable)} cannot be '
                      'used: make these readable, or rename them.')
    return found

  def _walk(self, folder: Path, prefix: str, above: tuple, found: list[str],
            unreadable: list[str]) -> None:
    if len(above) > DEEPEST_FOLDER:
      unreadable.append(f'{prefix[:100]!r}... (more than {DEEPEST_FOLDER} folders deep)')
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
      if not is_printable(entry.name):   # also: what is not UTF-8
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
        return bounded_item(name, file, self._limits.file_bytes)
    except OSError as error:
      return Item(name, None, f'cannot be read: {error.strerror or error}')


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:   # reading it will say why
    return False
