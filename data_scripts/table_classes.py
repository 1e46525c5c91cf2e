"""Which files are the images of which class, as tables (train.csv, ...) have it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from data_scripts import archives, tables
from data_scripts.file_names import shortened
from data_scripts.image_files import Classes, File, ImageFiles, spelled_alike, stem
from data_scripts.plan import sorted_classes
from data_scripts.problems import Problems
from data_scripts.split_names import split_of
from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources.image_set import SPLITS

_TABLE_SUFFIXES = (*tables.SUFFIXES, '.json')
_WNID = re.compile(r'(?<![A-Za-z])n\d{8}')   # not that of scan00000012.jpg


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
        f'classes in each ({shortened(shared)}): where the same number is the same '
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
    self._labels = frozenset(spelled_alike(row.label) for of_split in rows.values()
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
