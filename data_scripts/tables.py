"""Reads tables of images and their classes, in whatever dialect a program wrote them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from data_scripts import archives
from data_scripts.source_items import what_it_is_instead
from maml_tf.bounded import parse_json

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.gif', '.tif', '.tiff',
                  '.webp', '.ppm', '.pgm', '.pbm')
# Images that Pillow does not read by itself, as telephones and cameras make them.
OTHER_IMAGE_SUFFIXES = ('.heic', '.heif', '.avif', '.jp2', '.jxl', '.dng', '.cr2', '.nef',
                        '.arw', '.psd', '.svg')
# Lists, notes and annotations beside images.
_BESIDE_IMAGES = ('.txt', '.md', '.rst', '.csv', '.tsv', '.json', '.xml', '.xmp', '.aae',
                  '.yaml', '.yml', '.html', '.pdf', '.mat', '.log')
SUFFIXES = ('.csv', '.tsv')
MOST_BYTES = 4 << 20   # mini-ImageNet's train.csv has 1.2 MB
# By what the letters of a header's cells say; the first that is there counts.
_FILE_COLUMNS = ('filename', 'filenames', 'imagefilename', 'imagename', 'imagefile',
                 'imgname', 'fname', 'file', 'imagepath', 'imgpath', 'filepath', 'path',
                 'image', 'images', 'img', 'imageid', 'imgid', 'name')
_LABEL_COLUMNS = ('label', 'labels', 'classlabel', 'class', 'classes', 'classname', 'wnid',
                  'synset', 'category', 'categoryname', 'labelname', 'target', 'classid',
                  'labelid', 'categoryid')
_DELIMITERS = (',', ';', '\t', '|', ' ')
_WNID = re.compile(r'n\d{8}')
_CONTROL = re.compile('[\0-\x08\x0e-\x1f\x7f]')
_NEEDED = 'and the columns filename and label are needed'


class TableError(Exception):
  """A file that is no table of images. The message is a phrase: what it is instead."""


class Row(NamedTuple):
  """One image of a table.

  Attributes:
    line: its number, from 1.
    file: the image, as the table has it; None in a table that names classes alone.
    label: the class.
  """
  line: int
  file: Optional[str]
  label: str


def is_image(name: str) -> bool:
  return name.lower().endswith(IMAGE_SUFFIXES)


def may_be_image(name: str) -> bool:
  """Whether a file that is not read is perhaps an image under another name, as of the web."""
  return not name.lower().endswith((*IMAGE_SUFFIXES, *OTHER_IMAGE_SUFFIXES, *_BESIDE_IMAGES,
                                    *archives.ARCHIVE_SUFFIXES))


def read(data: bytes) -> tuple[list[Row], list[tuple[int, list[str]]]]:
  """The rows of a table.

  The encoding (UTF-8, UTF-16 with its mark, or Windows') and the delimiter are found
  out; so are the columns, by their names in any order and case, among others; without a
  header, by what stands in them.

  Args:
    data: the file.

  Returns:
    The rows, and (line, cells) of those that lack a cell.

  Raises:
    TableError: for another kind of file, or a header without the columns.
  """
  instead = what_it_is_instead(data[:512])
  if len(data) > MOST_BYTES:
    instead = (f'larger than {MOST_BYTES >> 20} MiB (for so many images make folders '
               'train/CLASS, val/CLASS and test/CLASS in place of the tables)')
  if instead:
    raise TableError(instead)
  if is_json_table(data):
    return _rows_of_json(data), []
  try:
    lines = list(_lines(_text(data)))
  except (UnicodeError, csv.Error) as error:
    raise TableError(f'not a text of comma-separated values ({error})') from error
  if not lines:
    raise TableError('an empty file')
  file, label, has_header = _columns(lines[0][1])
  rows, incomplete = [], []
  for number, cells in lines[has_header:]:
    wanted = [cells[place] if place < len(cells) else ''
              for place in (file, label) if place is not None]
    if not all(wanted):
      incomplete.append((number, cells))
    else:
      rows.append(Row(number, wanted[0] if file is not None else None, wanted[-1]))
  return rows, incomplete


def is_json_table(data: bytes) -> bool:
  """Whether it is of the form of base.json, val.json and novel.json in some projects."""
  return data.lstrip()[:1] == b'{' and b'"image_names"' in data and b'"image_labels"' in data


def _rows_of_json(data: bytes) -> list[Row]:
  """{"label_names": [...], "image_names": [path], "image_labels": [index of a name]}."""
  try:
    content = parse_json(data)
    files, labels, names = (content.get(key) for key in (
        'image_names', 'image_labels', 'label_names'))
    if len(files) != len(labels) or not all(isinstance(file, str) for file in files):
      raise ValueError('it needs one label for each image')
    if min(labels, default=0) < 0:
      raise ValueError('labels are counted from 0')
    return [Row(number, file, str(names[label] if isinstance(names, list) else label))
            for number, (file, label) in enumerate(zip(files, labels), start=1)]
  except (ValueError, TypeError, LookupError, AttributeError) as error:
    raise TableError(f'not a list of images in JSON ({error})') from error


def _text(data: bytes) -> str:
  if data.startswith((b'\xff\xfe', b'\xfe\xff')):
    text = data.decode('utf-16')
  else:
    try:
      text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
      text = data.decode('cp1252')
  if _CONTROL.search(text):
    raise UnicodeError('it has control characters')
  return text


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
  """(line number, cells) of the lines that are not blank."""
  start = re.match(r'sep=(.)\r?\n', text)   # a spreadsheet's note to itself
  delimiter = start.group(1) if start else _delimiter_of(text)
  for number, cells in enumerate(csv.reader(
      io.StringIO(text, newline=''), delimiter=delimiter, skipinitialspace=True), start=1):
    cells = [cell.strip() for cell in cells]
    if any(cells) and not (start and number == 1):
      yield number, cells


def _delimiter_of(text: str) -> str:
  """The first one that leaves the columns in the first line; else that divides it."""
  first = next(filter(str.strip, text.splitlines()), '')
  divided = {delimiter: next(csv.reader([first], delimiter=delimiter, skipinitialspace=True))
             for delimiter in _DELIMITERS}
  for is_right in (_has_columns, lambda cells: len(cells) > 1):
    for delimiter, cells in divided.items():
      if is_right(cells):
        return delimiter
  return _DELIMITERS[0]


def _has_columns(cells: Sequence[str]) -> bool:
  return None not in (_place(cells, _FILE_COLUMNS), _place(cells, _LABEL_COLUMNS))


def _place(cells: Sequence[str], wanted: Sequence[str]) -> Optional[int]:
  names = [re.sub('[^a-z]', '', cell.lower()) for cell in cells]
  return next((names.index(name) for name in wanted if name in names), None)


def _columns(first: Sequence[str]) -> tuple[Optional[int], int, bool]:
  """The places of file and label, and whether the first line is a header.

  Raises:
    TableError: where they cannot be told.
  """
  file, label = _place(first, _FILE_COLUMNS), _place(first, _LABEL_COLUMNS)
  if label is not None and (file is not None or len(first) == 1):
    return file, label, True
  shown = ','.join(first)[:100]
  images = [place for place, cell in enumerate(first) if is_image(cell)]
  if not images:
    if len(first) == 1 and _WNID.fullmatch(first[0]):   # a list of classes
      return None, 0, False
    raise TableError(f'without the header "filename,label" (its first line is "{shown}", '
                     f'{_NEEDED})')
  others = [place for place in range(len(first)) if place not in images]
  if len(others) > 1:
    others = [place for place in others if _WNID.fullmatch(first[place])]
  if len(others) != 1:
    raise TableError(f'without a header, and which column has the classes cannot be told '
                     f'from "{shown}": add a first line that names filename and label')
  return images[0], others[0], False
