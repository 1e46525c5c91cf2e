"""Finds out which file of a source is an image of which class, and of which split.

Three forms: tables (train.csv, ...) that name files and classes; class folders below
train/, val/ and test/, whatever these are called; class folders alone.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from data_scripts import archives, tables
from data_scripts.file_names import shortened
from data_scripts.folder_source import FolderSource
from data_scripts.image_files import (
  Classes,
  File,
  ImageFiles,
  class_in_name,
  has_start,
  spelled_alike,
  stem,
)
from data_scripts.plan import paths_of, sorted_classes, what_is_there
from data_scripts.problems import Problems
from data_scripts.source_items import Limits
from data_scripts.split_names import split_of
from data_scripts.table_classes import classes_of_tables, read_tables
from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources.image_set import SPLITS


def sources_of(source: str, known_classes: Collection[str] = (),
               most_files: int = Limits.files) -> list[archives.Source]:
  """What to read: archives, and folders with those archives in them that hold what is
  not there.

  Args:
    source: a folder or an archive, or several, separated by commas.
    known_classes: where a folder has some of these, its others are passed over.
    most_files: in a folder.

  Raises:
    DataError: see `archives.open_source`.
  """
  return [each for path in paths_of(source)
          for each in _sources_at(Path(path), known_classes, most_files)]


def _sources_at(path: Path, known_classes: Collection[str], most_files: int
                ) -> list[archives.Source]:
  if not path.is_dir():
    return [archives.open_source(path)]
  source = FolderSource(path, known=known_classes,
                                 limits=Limits(files=most_files))
  names = source.names()
  folders = [name.split('/')[:-1] for name in names if tables.is_image(name) and '/' in name]
  present = {split_of(part) for parts in folders for part in parts[:-1]} - {None}
  lacking = {split for split in SPLITS if present and split not in present}
  packed = [name for name in names if name.lower().endswith(archives.ARCHIVE_SUFFIXES)
            and (not folders or split_of(stem(name)) in lacking)]
  return [source, *(archives.open_source(path / name) for name in packed)]


def note_other_files(names: Sequence[Sequence[str]], problems: Problems) -> None:
  """Says which files in folders are not taken for images, and which folders for no class."""
  every = [name for names_of_source in names for name in names_of_source if '/' in name]
  problems.note(list(filter(tables.may_be_image, every)),
                'their names do not end as those of images')
  images = sorted(filter(tables.is_image, every))
  problems.note([folder for folder in sorted(set(map(posixpath.dirname, every)))
                 if not has_start(images, f'{folder}/')],
                'no file in them is an image that is read')


def note_unopened(sources: Sequence[archives.Source], names: Sequence[Sequence[str]],
                  problems: Problems) -> None:
  """Says which archives among the files `sources_of` did not open."""
  opened = {source.path for source in sources}
  problems.note([name for source, names_of_source in zip(sources, names)
                 for name in names_of_source if source.path / name not in opened
                 and name.lower().endswith(archives.ARCHIVE_SUFFIXES)],
                'archives beside folders of images, or in archives, are not opened (unpack '
                'what belongs to the set)')


def classes_of_folders(files: ImageFiles, problems: Problems) -> Classes:
  """The classes below folders whose names mean the splits.

  {split: []} where none does, or one alone, which then means something else.
  """
  found: dict[str, list[tuple[str, File]]] = {split: [] for split in SPLITS}
  names: dict[str, set[str]] = {split: set() for split in SPLITS}
  stray, twice, seen = [], [], set()
  for place in files.places:
    level, label = files.split_and_class(place)
    if not label:
      stray.append(place[1])
      continue
    split = split_of(level)
    key = (split, label, place[1].partition(f'{label}/')[2])
    twice += [place[1]] if key in seen else []
    seen.add(key)
    names[split].add(level)
    found[split].append((label, place))
  if sum(map(bool, found.values())) < 2:
    return {split: [] for split in SPLITS}
  _check_one_name(names, problems)
  problems.note(stray, 'they are not in train/CLASS, val/CLASS or test/CLASS')
  for name in twice:
    problems.add(name, 'there twice', remedy='leave one of each')
  _note_inner_folders(files, [one for split in SPLITS for one in found[split]], problems)
  return {split: sorted_classes(found[split]) for split in SPLITS}


def _note_inner_folders(files: ImageFiles, labelled: Iterable[tuple[str, File]],
                        problems: Problems) -> None:
  """Says which folders lie in a class folder: whoever made a hierarchy of classes, as of
  genera and species, may have meant the inner ones."""
  inner = sorted({files.folder_in_class(place, label) for label, place in labelled} - {''})
  if inner:
    were = 'was' if len(inner) == 1 else 'were'
    problems.notes.append(
        f'{counted(len(inner), "folder")} in class folders {were} taken as a part of their '
        f'class, as {inner[0]} (where each of them is a class, leave the folders around them '
        'out)')


def _check_one_name(names: Mapping[str, set[str]], problems: Problems) -> None:
  for split, of_split in names.items():
    if len(of_split) > 1:
      problems.add(f'split {split}', f'{" and ".join(sorted(of_split))} both mean it',
                   remedy='leave one folder for each split')


def classes_of(sources: Sequence[archives.Source], names: Sequence[Sequence[str]],
               files: ImageFiles, problems: Problems) -> tuple[Classes, str]:
  """The classes as tables, else folders have them, and the form of the source.

  Without either: three splits without classes, and ''.

  Raises:
    DataError: see `read_tables`; and for tables without images.
  """
  rows = read_tables(sources, names, problems)
  if rows and not files.places:
    raise DataError('The source has the CSV files, but no images: put the folder images/, or '
                    f'images.zip or images-*.zip, beside them; {what_is_there(names)}.')
  if rows:
    is_folder = len(sources) == 1 and isinstance(sources[0], FolderSource)
    return (classes_of_tables(files, rows, problems),
            'CSV files and ' + ('an images folder' if is_folder else 'archives'))
  classes = classes_of_folders(files, problems)
  return classes, 'class folders' if any(classes.values()) else ''


def classes_without_split(files: ImageFiles) -> dict[str, list[File]]:
  """{class: files}, by the names of ImageNet's images, else by the innermost folder."""
  labels = ((class_in_name(place) or files.class_folder(place), place)
            for place in files.places)
  return dict(sorted_classes((label, place) for label, place in labels if label))


def check_disjoint(classes: Classes, problems: Problems) -> None:
  """Adds a problem for each class that is in two splits, in whatever spelling."""
  seen: dict[str, tuple[str, str]] = {}
  for split in SPLITS:
    for name, _ in classes[split]:
      first, other = seen.setdefault(spelled_alike(name), (name, split))
      if other != split:
        where = other if first == name else f'{other}, as {first},'
        problems.add(f'class {name}', f'both in {where} and in {split}',
                     kind='two splits', remedy='leave a class in one split, since those of '
                     'the three must differ')


def note_spellings(splits: Iterable[Iterable[str]], problems: Problems) -> None:
  """Notes names in a split that may be of one class, or not, as of the letters a and A."""
  pairs = []
  for names in splits:
    seen: dict[str, str] = {}
    for name in names:
      first = seen.setdefault(spelled_alike(name), name)
      pairs += [f'{first} and {name}'] if first != name else []
  if pairs:
    problems.notes.append(
        'Taken as two classes, though only case or Unicode form tells them apart: '
        f'{shortened(pairs)} (where they are one, give it one name, or it is to be '
        'told from itself, and may be trained and tested on)')


def in_splits(classes: Mapping[str, list[File]], splits: Mapping[str, Iterable[str]]
              ) -> Classes:
  """Class folders, in the splits that name them."""
  return {split: [(name, classes[name]) for name in sorted(splits[split]) if name in classes]
          for split in SPLITS}


def top_folders(files: ImageFiles, problems: Problems) -> dict[str, list[File]]:
  """{class: files} of class folders: the first ones below the folders that all share.

  Where all images lie in the same folder, that is the class.
  """
  in_folders = [place for place in files.places if '/' in place[1]]
  every = [place[1].split('/')[:-1] for place in in_folders]
  shared = os.path.commonprefix(every)
  if every and shared == max(every, key=len):
    return dict(sorted_classes((files.class_folder(place), place) for place in in_folders))
  problems.note([place[1] for place in files.places
                 if len(place[1].split('/')) - 1 <= len(shared)],
                'they are not in a class folder')
  labelled = [(folders[len(shared)], place) for folders, place in zip(every, in_folders)
              if len(folders) > len(shared)]
  _note_inner_folders(files, labelled, problems)
  return dict(sorted_classes(labelled))
