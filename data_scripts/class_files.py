"""Finds out which file of a source is an image of which class, and of which split.

Three forms: tables (train.csv, ...) that name files and classes; class folders below
train/, val/ and test/, whatever these are called; class folders alone.
"""

from __future__ import annotations

import bisect
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from data_scripts import archives, tables
from data_scripts.plan import paths_of, sorted_classes, what_is_there
from data_scripts.problems import Problems
from data_scripts.split_names import split_of
from maml_tf.measures import counted
from maml_tf.sources.image_set import SPLITS, DataError

_TABLE_SUFFIXES = ('.csv', '.tsv', '.json')
_OF_IMAGENET = re.compile(r'(n\d{8})(?:_\d+|\d{8})')
_WNID = re.compile(r'(?<![A-Za-z])n\d{8}')   # not that of scan00000012.jpg
_IN_BETWEEN = ('images', 'image', 'img', 'imgs')   # CLASS/images/FILE

File = tuple[int, str]                               # (source, name in it)
Classes = dict[str, list[tuple[str, list[File]]]]    # as in `plan.Plan`


def sources_of(source: str, known_classes: Collection[str] = (),
               most_files: int = archives.Limits.files) -> list[archives.Source]:
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
  source = archives.FolderSource(path, known=known_classes,
                                 limits=archives.Limits(files=most_files))
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
                 if not _has_start(images, f'{folder}/')],
                'no file in them is an image that is read')


def _has_start(texts: Sequence[str], start: str) -> bool:
  """Whether one of sorted texts starts so."""
  place = bisect.bisect_left(texts, start)
  return place < len(texts) and texts[place].startswith(start)


def note_unopened(sources: Sequence[archives.Source], names: Sequence[Sequence[str]],
                  problems: Problems) -> None:
  """Says which archives among the files `sources_of` did not open."""
  opened = {source.path for source in sources}
  problems.note([name for source, names_of_source in zip(sources, names)
                 for name in names_of_source if source.path / name not in opened
                 and name.lower().endswith(archives.ARCHIVE_SUFFIXES)],
                'archives beside folders of images, or in archives, are not opened (unpack '
                'what belongs to the set)')


def stem(name: str) -> str:
  """The base name without its suffix, or suffixes where it is an archive's."""
  base = name.rsplit('/', 1)[-1]
  known = next((suffix for suffix in sorted(archives.ARCHIVE_SUFFIXES, key=len, reverse=True)
                if base.lower().endswith(suffix)), None)
  return base[:-len(known)] if known else os.path.splitext(base)[0]


def _folder_name(source: archives.Source) -> str:
  """That of the folder which a source is, or is as."""
  if isinstance(source, archives.FolderSource):
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
    folders = [source for source in sources if isinstance(source, archives.FolderSource)]
    self._packed = [[] if folders == [source] else [_folder_name(source)]
                    for source in sources]
    self._by_stem: dict[str, list[File]] = {}
    self._by_class: dict[str, list[File]] = {}
    for place in self.places:
      self._by_stem.setdefault(_spelled_alike(stem(place[1])), []).append(place)
      for label in {_spelled_alike(name)
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
    return _spelled_alike(''.join(f'/{name}' for name in self.folders(place)))

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
    return self._by_class.get(_spelled_alike(label), [])

  def of_row(self, file: str, label: str, labels: frozenset[str]) -> list[File]:
    """The files that a table's row can mean, in whatever spelling, folder and image format.

    Args:
      file: as the table has it.
      label: of the row.
      labels: all labels of the tables, in one spelling: in the folder of another class is
        another image.
    """
    exact = posixpath.normpath(file.replace('\\', '/')).lstrip('./')
    path, label = _spelled_alike(exact), _spelled_alike(label)
    path = path if not tables.is_image(path) else os.path.splitext(path)[0]
    folder = f'/{path}'.rpartition('/')[0]
    found = [place for place in self._by_stem.get(path.rsplit('/', 1)[-1], [])
             if (folder_of := _spelled_alike(self.class_folder(place))) in {label, ''}
             or folder_of not in labels]
    if _has_start(self._backwards, f'{folder}/'[::-1]):   # elsewhere is another of that name
      found = [place for place in found if f'{folder}/' in f'{self._folder_path(place)}/']
    # 1.JPG and 1.jpg, or 1.jpg and 1.png, may be two images.
    found = [place for place in found if f'/{place[1]}'.endswith(f'/{exact}')] or found
    for narrower in (lambda name: f'/{name}'.endswith(f'/{path}'),
                     lambda name: f'/{label}/' in f'/{name}'):
      if len(found) > 1:
        found = [place for place in found
                 if narrower(os.path.splitext(_spelled_alike(place[1]))[0])] or found
    return found


def read_tables(sources: Sequence[archives.Source], names: Sequence[Sequence[str]],
                problems: Problems) -> dict[str, list[tables.Row]]:
  """{split: rows} of train.csv, val.csv and test.csv; empty where there is none.

  Raises:
    DataError: where some are missing, there twice, or cannot be read. What would follow
      from that is not looked for.
  """
  found: dict[str, tuple[str, bytes]] = {}
  for source, names_of_source in zip(sources, names):
    wanted = [name for name in names_of_source if split_of(stem(name))
              and name.lower().endswith(_TABLE_SUFFIXES)]
    for item in source.read(wanted):
      split = split_of(stem(item.name))
      if item.problem:
        raise DataError(f'{item.name} in {str(source)!r} is {item.problem}: fetch it again.')
      if item.name.lower().endswith('.json') and not tables.is_json_table(item.data):
        continue
      if split in found and found[split][1] != item.data:
        raise DataError(f'There are two different tables of the split {split}, '
                        f'{found[split][0]} and {item.name} in {str(source)!r}: leave the '
                        'right one.')
      found[split] = (item.name, item.data)
  missing = [f'{split}.csv' for split in SPLITS if split not in found]
  if found and missing:
    raise DataError(f'The source lacks {", ".join(missing)}: train.csv, val.csv and test.csv '
                    'belong together, and all three are needed.')
  return _parsed(found, problems)


def _parsed(found: Mapping[str, tuple[str, bytes]], problems: Problems
            ) -> dict[str, list[tables.Row]]:
  unreadable = Problems()
  rows: dict[str, list[tables.Row]] = {}
  for split, (name, data) in found.items():
    try:
      rows[split], incomplete = tables.read(data)
    except tables.TableError as error:
      unreadable.add(name, str(error), remedy='write it as a table with the columns '
                     'filename,label, or fetch it again')
    else:
      for line, cells in incomplete:
        problems.add(f'{name} line {line}', f'{cells} is not "filename,label"',
                     kind='not a row')
  unreadable.raise_if_any('The tables of the images')
  _note_shared_numbers(rows.values(), problems)
  return {split: _with_class_names(split, of_split) for split, of_split in rows.items()}


def _with_class_names(split: str, rows: list[tables.Row]) -> list[tables.Row]:
  """Rows whose classes are numbered from 0 in every split: what they mean."""
  if not _are_numbered(rows):
    return rows
  wnids = _wnids(rows)
  return [row._replace(label=wnids.get(int(row.label)) or f'{split} {int(row.label):03}')
          for row in rows]


def _are_numbered(rows: Sequence[tables.Row]) -> bool:
  return all(_number_behind('', row.label) >= 0 for row in rows)


def _wnids(rows: Sequence[tables.Row]) -> dict[int, str]:
  """{number: ImageNet's name of the class}, of the numbers whose files all have it in their
  names, and no others have it: n00000012.jpg may be anybody's twelfth image."""
  found: dict[int, set[str]] = {}
  for row in rows:
    match = _WNID.search(row.file or '')
    found.setdefault(int(row.label), set()).add(match.group() if match else '')
  wnids = {number: min(each) for number, each in found.items() if len(each) == 1}
  times = Counter(wnids.values())
  return {number: wnid for number, wnid in wnids.items() if wnid and times[wnid] == 1}


def _note_shared_numbers(rows: Iterable[Sequence[tables.Row]], problems: Problems) -> None:
  """Tables of tasks number the classes of each split from 0; those of a usual division into
  training and testing have the same classes in each, which nothing else would show."""
  numbers = Counter(number for of_split in rows if _are_numbered(of_split)
                    for number in {int(row.label) for row in of_split} - {*_wnids(of_split)})
  shared = [str(number) for number, splits in sorted(numbers.items()) if splits > 1]
  if shared:
    problems.notes.append(
        'Numbers of classes that are in the tables of several splits were taken as different '
        f'classes in each ({archives.shortened(shared)}): where the same number is the same '
        'class, the set cannot be used, since testing would meet what training saw')


def classes_of_tables(files: ImageFiles, rows: Mapping[str, Sequence[tables.Row]],
                      problems: Problems) -> Classes:
  """The classes as tables have them. Files in no table are passed over, and noted."""
  return _Assignment(files, rows, problems).classes()


class _Assignment:
  """Which file is the image of which row."""

  def __init__(self, files: ImageFiles, rows: Mapping[str, Sequence[tables.Row]],
               problems: Problems):
    self._files, self._rows, self._problems = files, rows, problems
    self._labels = frozenset(_spelled_alike(row.label) for of_split in rows.values()
                             for row in of_split)
    self._used: set[File] = set()
    self._renamed = 0

  def classes(self) -> Classes:
    classes: Classes = {}
    for split in SPLITS:
      by_label: dict[str, list[tables.Row]] = {}
      for row in self._rows[split]:
        by_label.setdefault(row.label, []).append(row)
      found = [(label, self._files_of(split, label, by_label[label]))
               for label in sorted(by_label)]
      classes[split] = [(label, files) for label, files in found if files]
    if self._renamed:
      renamed = counted(self._renamed, 'image')
      self._problems.notes.append(
          f'Taken from class folders by their order ({renamed}), since '
          'they have other names than in the tables, as ImageNet\'s own')
    self._problems.note([place[1] for place in self._files.places
                         if place not in self._used],
                        'they are in no CSV file')
    return classes

  def _files_of(self, split: str, label: str, rows: Sequence[tables.Row]) -> list[File]:
    """The files of one class, in their order."""
    named = [row for row in rows if row.file is not None]
    candidates = [self._files.of_row(row.file, label, self._labels) for row in named]
    in_folder = self._files.of_class(label)
    if not any(candidates) and in_folder:
      taken = self._of_other_names(split, label, named, in_folder)
      self._used.update(taken)
      self._renamed += len(taken) if named else 0
      return taken
    if not named:
      self._problems.add(f'{split}.csv', f'{label} has no folder', kind='no folder',
                         remedy='put the missing images there')
    taken = [place for row, places in zip(named, candidates)
             for place in self._of_row(split, row, places)]
    return sorted_classes((label, place) for place in taken)[0][1] if taken else []

  def _of_row(self, split: str, row: tables.Row, places: Sequence[File]) -> Sequence[File]:
    if not places:
      self._problems.add(f'{split}.csv', f'{row.file} has no file', kind='no file',
                         is_count=True, remedy='put the missing images there')
    elif len(places) > 1:
      self._problems.add(places[1][1], 'there twice', remedy='leave one of each')
      self._used.update(places)
    elif places[0] in self._used:
      self._problems.add(f'{split}.csv line {row.line}', f'{row.file} has a row already',
                         kind='two rows', remedy='leave one row of each image')
    else:
      self._used.update(places)
      return places
    return ()

  def _of_other_names(self, split: str, label: str, rows: Sequence[tables.Row],
                      in_folder: Sequence[File]) -> Sequence[File]:
    """The files of a class folder, where the table has other names for them, or none.

    ImageNet's own names end in a number; those of Ravi and Larochelle's tables in the
    position in the list of the class's files, sorted by that number.
    """
    numbered = [_number_behind(f'{label}_', stem(place[1])) for place in in_folder]
    files = [place for _, place in sorted(zip(numbered, in_folder))]
    positions = sorted(_number_behind(label, stem(row.file)) for row in rows)
    if not rows or len(files) <= len(rows):   # somebody chose them before
      return files
    if min(numbered) >= 0 and positions[0] > 0 and positions[-1] <= len(files):
      return [files[position - 1] for position in positions]
    self._problems.add(
        f'class {label}', f'{counted(len(files), "file")} of other names than the '
        f'{len(rows)} in {split}.csv, as {files[0][1]}', kind='other names',
        remedy='name the files as in the tables, or take the complete class folders of '
        'ILSVRC 2012')
    return files


def _number_behind(start: str, text: str) -> int:
  """Of 'n01532829_36' behind 'n01532829_' it is 36; -1 where the text is another."""
  digits = text[len(start):]
  is_one = text.startswith(start) and digits.isascii() and digits.isdigit()
  return int(digits) if is_one and len(digits) < 16 else -1


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
    is_folder = len(sources) == 1 and isinstance(sources[0], archives.FolderSource)
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
      first, other = seen.setdefault(_spelled_alike(name), (name, split))
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
      first = seen.setdefault(_spelled_alike(name), name)
      pairs += [f'{first} and {name}'] if first != name else []
  if pairs:
    problems.notes.append(
        'Taken as two classes, though only case or Unicode form tells them apart: '
        f'{archives.shortened(pairs)} (where they are one, give it one name, or it is to be '
        'told from itself, and may be trained and tested on)')


def _spelled_alike(name: str) -> str:
  """The same for names that one system or program holds for the same, and another not."""
  return unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())


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
