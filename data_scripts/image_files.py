"""The image files of a source, and what their folders and names say of them."""

from __future__ import annotations

import bisect
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence

from data_scripts import archives, tables
from data_scripts.folder_source import FolderSource
from data_scripts.split_names import split_of

_OF_IMAGENET = re.compile(r'(n\d{8})(?:_\d+|\d{8})')
_IN_BETWEEN = ('images', 'image', 'img', 'imgs')   # CLASS/images/FILE

File = tuple[int, str]                               # (source, name in it)
Classes = dict[str, list[tuple[str, list[File]]]]    # as in `plan.Plan`


def has_start(texts: Sequence[str], start: str) -> bool:
  """Whether one of sorted texts starts so."""
  place = bisect.bisect_left(texts, start)
  return place < len(texts) and texts[place].startswith(start)


def spelled_alike(name: str) -> str:
  """The same for names that one system or program holds for the same, and another not."""
  return unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())


def stem(name: str) -> str:
  """The base name without its suffix, or suffixes where it is an archive's."""
  base = name.rsplit('/', 1)[-1]
  known = next((suffix for suffix in sorted(archives.ARCHIVE_SUFFIXES, key=len, reverse=True)
                if base.lower().endswith(suffix)), None)
  return base[:-len(known)] if known else os.path.splitext(base)[0]


def _folder_name(source: archives.Source) -> str:
  """That of the folder which a source is, or is as."""
  if isinstance(source, FolderSource):
    return os.path.basename(os.path.abspath(source.path))
  return stem(str(source.path))


def class_in_name(place: File) -> str:
  """The class in the name of an image of ImageNet, its own or of the tables; else ''."""
  match = _OF_IMAGENET.fullmatch(stem(place[1]))
  return match.group(1) if match else ''


def _without_in_between(folders: Iterable[str]) -> list[str]:
  return [name for name in folders if name.lower() not in _IN_BETWEEN]


class ImageFiles:
  """The image files of all sources.

  Args:
    sources: what is read.
    names: of the files in each of them.
    suffixes: of images.

  Attributes:
    places: (source, name) of each image.
  """

  def __init__(self, sources: Sequence[archives.Source], names: Sequence[Sequence[str]],
               suffixes: tuple[str, ...] = tables.IMAGE_SUFFIXES):
    self.places: list[File] = [(source, name) for source, names_of_source in enumerate(names)
                               for name in names_of_source if name.lower().endswith(suffixes)]
    # An archive's name counts as a folder: train.zip is as train/. So does that of a folder
    # beside others; of one alone, and of what lies around it, nobody has said anything.
    folders = [source for source in sources if isinstance(source, FolderSource)]
    self._packed = [[] if folders == [source] else [_folder_name(source)]
                    for source in sources]
    self._by_stem: dict[str, list[File]] = {}
    self._by_class: dict[str, list[File]] = {}
    for place in self.places:
      self._by_stem.setdefault(spelled_alike(stem(place[1])), []).append(place)
      for label in {spelled_alike(name)
                    for name in (self.class_folder(place), class_in_name(place))}:
        self._by_class.setdefault(label, []).append(place)
    self._shared = {source: self._shared_folders(source)
                    for source, packed in enumerate(self._packed) if packed}
    # Of all folders of images, from the end: a set of all ends may be as large as one likes.
    self._backwards = sorted({f'{self._folder_path(place)}/'[::-1] for place in self.places})

  def folders(self, place: File) -> list[str]:
    """The folders that a file is in, the outermost first."""
    return [*self._packed[place[0]], *place[1].split('/')[:-1]]

  def _folder_path(self, place: File) -> str:
    """That of a file's folder, in one spelling and with '/' in front."""
    return spelled_alike(''.join(f'/{name}' for name in self.folders(place)))

  def class_folder(self, place: File) -> str:
    """The name of the folder that a file is in; '' where it is in none."""
    names = self.folders(place)
    if len(names) > 1 and names[-1].lower() in _IN_BETWEEN:
      names.pop()
    return names[-1] if names else ''

  def split_and_class(self, place: File) -> tuple[str, str]:
    """The innermost folder around classes that means a split, and the class; '' for none."""
    folders = self.folders(place)
    for level in range(len(folders) - 2, -1, -1):
      if split_of(folders[level]):
        inner = _without_in_between(folders[level + 1:])
        if level < len(self._packed[place[0]]):   # the archive, of any folders around classes
          inner = inner[self._shared[place[0]]:]
        return folders[level], inner[0] if inner else ''
    return '', ''

  def _shared_folders(self, source: int) -> int:
    """How many folders around classes all images of a source share that are in any."""
    every = [folders for of, name in self.places if of == source
             and (folders := _without_in_between(name.split('/')[:-1]))]
    shared = os.path.commonprefix(every)
    is_class = bool(every) and shared == max(every, key=len)   # all images lie in it
    return len(shared) - is_class

  def folder_in_class(self, place: File, label: str) -> str:
    """The path of a file's folder where that is another one, in the folder of its class."""
    folders = place[1].split('/')[:-1]
    levels = [level for level, name in enumerate(folders) if name == label]
    inner = folders[levels[-1] + 1:] if levels else []
    return '/'.join(folders) if set(map(str.lower, inner)) - set(_IN_BETWEEN) else ''

  def of_class(self, label: str) -> list[File]:
    """Those that its folder, or their own names, say to be of a class."""
    return self._by_class.get(spelled_alike(label), [])

  def of_row(self, file: str, label: str, labels: frozenset[str]) -> list[File]:
    """The files that a table's row can mean, in whatever spelling, folder and image format.

    Args:
      file: as the table has it.
      label: of the row.
      labels: all labels of the tables, in one spelling: in the folder of another class is
        another image.
    """
    exact = posixpath.normpath(file.replace('\\', '/')).lstrip('./')
    path, label = spelled_alike(exact), spelled_alike(label)
    path = path if not tables.is_image(path) else os.path.splitext(path)[0]
    folder = f'/{path}'.rpartition('/')[0]
    found = [place for place in self._by_stem.get(path.rsplit('/', 1)[-1], [])
             if (folder_of := spelled_alike(self.class_folder(place))) in {label, ''}
             or folder_of not in labels]
    if has_start(self._backwards, f'{folder}/'[::-1]):   # elsewhere is another of that name
      found = [place for place in found if f'{folder}/' in f'{self._folder_path(place)}/']
    # 1.JPG and 1.jpg, or 1.jpg and 1.png, may be two images.
    found = [place for place in found if f'/{place[1]}'.endswith(f'/{exact}')] or found
    for narrower in (lambda name: f'/{name}'.endswith(f'/{path}'),
                     lambda name: f'/{label}/' in f'/{name}'):
      if len(found) > 1:
        found = [place for place in found
                 if narrower(os.path.splitext(spelled_alike(place[1]))[0])] or found
    return found
