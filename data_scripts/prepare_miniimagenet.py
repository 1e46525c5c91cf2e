"""Prepares mini-ImageNet: 64 / 16 / 20 classes of ILSVRC 2012, 600 images each.

  python data_scripts/prepare_miniimagenet.py --source=FOLDER --out=data/miniimagenet

There is no --download: ImageNet's terms (non-commercial research) do not allow it
to be redistributed, so no public place offers it. You have it from ImageNet itself
(ILSVRC 2012, with Ravi and Larochelle's train.csv, val.csv and test.csv, which say
which 60,000 files these are) or from a colleague. --source is one of

  a folder with images/ and train.csv, val.csv, test.csv (columns filename,label);
  a folder with these and images.zip or images-*.zip (or .tar) in place of images/;
  a folder with train/, val/ and test/, with one folder for each class;
  a zip or tar archive of any of these;
  a folder with mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl. They are read
  without executing anything; this needs about 2 GB of memory.

Images of another size than 84 x 84 are resized with Lanczos.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_scripts import archives, images, npy_pickle, preparation  # noqa: E402
from maml_tf.sources import image_set  # noqa: E402
from maml_tf.sources.image_set import DataError  # noqa: E402

NAME = 'miniimagenet'
LAYOUT = preparation.Layout(train=64, val=16, test=20, images_per_class=600)
# With --skip_damaged: 5-shot training takes 5 + 15 images of a class, so that
# with 40 an episode is still one of many.
LEAST_PER_CLASS = 40
CSV_HEADER = ['filename', 'label']
_MOST_CSV_BYTES = 4 << 20   # train.csv has 1.2 MB
_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
_CSVS = {f'{split}.csv': split for split in image_set.SPLITS}
_PICKLES = {split: f'mini-imagenet-cache-{split}.pkl' for split in image_set.SPLITS}
_IN_CLASS_FOLDER = re.compile(r'(?:^|/)(train|val|test)/([^/]+)/[^/]+$')


def main(argv: Optional[Sequence[str]] = None,
         layout: preparation.Layout = LAYOUT) -> int:
  """The script.

  Args:
    argv: the arguments; None: those of the process.
    layout: the counts that the source must have.

  Returns:
    The exit code: 0, 2 for an error that the user can put right, 130 if interrupted.
  """
  arguments = _arguments(argv)
  return preparation.exit_code_of(lambda: _prepare(arguments, layout))


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
  parser = preparation.argument_parser(__doc__)
  parser.add_argument('--source', required=True,
                      help='folder or archive; see above for what it may hold')
  parser.add_argument('--out', default=preparation.default_out(NAME),
                      help='folder for the prepared set (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  parser.add_argument('--skip_damaged', action='store_true',
                      help='leave damaged images out instead of stopping; a class must '
                      f'keep {LEAST_PER_CLASS}, which is enough for episodes of 5 shots and '
                      '15 queries')
  return parser.parse_args(argv)


def _prepare(arguments: argparse.Namespace, layout: preparation.Layout) -> None:
  request = preparation.Request(
      name=NAME, source=arguments.source, out=arguments.out, overwrite=arguments.overwrite,
      options={'size': image_set.IMAGE_SHAPES[NAME][0], 'image_filter': 'lanczos',
               'skip_damaged': arguments.skip_damaged},
      least_per_class=LEAST_PER_CLASS, skip_damaged=arguments.skip_damaged)
  if preparation.is_done_already(request):
    return
  problems = preparation.Problems()
  plan = make_plan(arguments.source, problems)
  preparation.check_counts(plan, layout, problems)
  preparation.prepare(request, plan, decoded, problems)


def decoded(content: Any) -> tuple[np.ndarray, Optional[str]]:
  """The image of a file, or the image itself where it comes out of a pickle."""
  if isinstance(content, np.ndarray):
    return content, None
  return images.miniimagenet_pixels(content, image_set.IMAGE_SHAPES[NAME][0])


def make_plan(source: str, problems: preparation.Problems) -> preparation.Plan:
  """Finds the form of a source, and the place of each of its images.

  Args:
    source: a folder or an archive.
    problems: receives what is wrong with single files and rows. The counts are not
      checked here.

  Raises:
    DataError: for a source that cannot be listed, or is of no known form.
  """
  path = Path(source)
  if path.is_dir() and any((path / name).exists() for name in _PICKLES.values()):
    return _plan_of_pickles(path)
  sources = _sources(path)
  names = preparation.listed(sources, f'The source {source!r}')
  csvs = _csvs(sources, names)
  if csvs:
    return _plan_of_csvs(source, sources, names, csvs, problems)
  return _plan_of_class_folders(source, sources, names, problems)


def _sources(path: Path) -> list[archives.Source]:
  """What to read: the folder itself, or the archives in it and its CSVs."""
  if not path.is_dir():
    return [archives.open_source(path)]
  if (path / 'images').is_dir() or all((path / split).is_dir() for split in image_set.SPLITS):
    return [archives.FolderSource(path)]
  packed = sorted(each for each in path.iterdir()
                  if each.name.lower().endswith(archives.ARCHIVE_SUFFIXES))
  return [archives.FolderSource(path), *map(archives.open_source, packed)]


def _is_image(name: str) -> bool:
  return name.lower().endswith(_IMAGE_SUFFIXES)


def _csvs(sources: Sequence[archives.Source], names: Sequence[Sequence[str]]
          ) -> dict[str, bytes]:
  """{split: the bytes of its CSV}; empty where there is none at all.

  Raises:
    DataError: where some are missing, there twice, or cannot be read.
  """
  found: dict[str, bytes] = {}
  for source, names_of_source in zip(sources, names):
    wanted = [name for name in names_of_source if name.rsplit('/', 1)[-1] in _CSVS]
    for item in source.read(wanted):
      split = _CSVS[item.name.rsplit('/', 1)[-1]]
      if item.problem:
        raise DataError(f'{item.name} in {str(source)!r} is {item.problem}: fetch it again.')
      if split in found and found[split] != item.data:
        raise DataError(f'There are two different {split}.csv, the second one as {item.name} '
                        f'in {str(source)!r}: leave the right one.')
      found[split] = item.data
  missing = [f'{split}.csv' for split in image_set.SPLITS if split not in found]
  if found and missing:
    raise DataError(f'The source lacks {", ".join(missing)}: Ravi and Larochelle published '
                    'train.csv, val.csv and test.csv together, and all three are needed.')
  return found


def _plan_of_csvs(source: str, sources: Sequence[archives.Source],
                  names: Sequence[Sequence[str]], csvs: Mapping[str, bytes],
                  problems: preparation.Problems) -> preparation.Plan:
  files = _files_by_base_name(names, problems)
  if not files:
    raise DataError(f'The source {source!r} has the CSV files, but no images: put the folder '
                    'images/, or images.zip or images-*.zip, beside them.')
  rows = _rows(csvs, problems)
  for name in sorted(set(rows) - set(files)):
    problems.add(f'{rows[name][0]}.csv', f'{name} has no file')
  for name in sorted(set(files) - set(rows)):
    problems.add(files[name][1], 'in no CSV file')
  classes = {
      split: preparation.sorted_classes(
          (label, files[name]) for name, (row_split, label) in rows.items()
          if row_split == split and name in files)
      for split in image_set.SPLITS}
  _check_classes_are_disjoint(classes, problems)
  form = 'CSV files and ' + ('an images folder' if len(sources) == 1 and isinstance(
      sources[0], archives.FolderSource) else 'archives')
  return preparation.Plan(classes, sources, form)


def _files_by_base_name(names: Sequence[Sequence[str]], problems: preparation.Problems
                        ) -> dict[str, tuple[int, str]]:
  """{base name: (source, name)} of all images."""
  files: dict[str, tuple[int, str]] = {}
  for source, names_of_source in enumerate(names):
    for name in filter(_is_image, names_of_source):
      base = name.rsplit('/', 1)[-1]
      if base in files:
        problems.add(name, 'there twice')
      else:
        files[base] = (source, name)
  return files


def _rows(csvs: Mapping[str, bytes], problems: preparation.Problems
          ) -> dict[str, tuple[str, str]]:
  """{file name: (split, label)} of all CSV files."""
  rows: dict[str, tuple[str, str]] = {}
  for split, data in csvs.items():
    for number, row in _csv_lines(split, data, problems):
      if len(row) != 2 or not all(row) or '/' in row[0]:
        problems.add(f'{split}.csv line {number}', f'{row} is not "filename,label"')
      elif row[0] in rows:
        problems.add(f'{split}.csv line {number}', f'{row[0]} has a row already')
      else:
        rows[row[0]] = (split, row[1])
  return rows


def _csv_lines(split: str, data: bytes, problems: preparation.Problems
               ) -> Iterator[tuple[int, list[str]]]:
  """(line number, cells) of the rows below the header; blank lines are passed over."""
  instead = archives.what_it_is_instead(data[:512])
  if len(data) > _MOST_CSV_BYTES:
    instead, data = f'larger than {_MOST_CSV_BYTES >> 20} MiB', b''
  try:
    lines = list(csv.reader(io.StringIO(data.decode('utf-8-sig'), newline='')))
  except (UnicodeDecodeError, csv.Error) as error:
    instead, lines = instead or f'not a text of comma-separated values ({error})', []
  if not instead and (not lines or [cell.strip() for cell in lines[0]] != CSV_HEADER):
    instead = f'without the header "{",".join(CSV_HEADER)}"'
  if instead:
    problems.add(f'{split}.csv', instead)
    return
  for number, row in enumerate(lines[1:], start=2):
    if row:
      yield number, [cell.strip() for cell in row]


def _plan_of_class_folders(source: str, sources: Sequence[archives.Source],
                           names: Sequence[Sequence[str]], problems: preparation.Problems
                           ) -> preparation.Plan:
  files: dict[str, list] = {split: [] for split in image_set.SPLITS}
  seen = set()
  for index, names_of_source in enumerate(names):
    for name in filter(_is_image, names_of_source):
      match = _IN_CLASS_FOLDER.search(name)
      if not match:
        problems.add(name, 'not in train/CLASS, val/CLASS or test/CLASS')
      elif (match.group(2), name.rsplit('/', 1)[-1]) in seen:
        problems.add(name, 'there twice')
      else:
        seen.add((match.group(2), name.rsplit('/', 1)[-1]))
        files[match.group(1)].append((match.group(2), (index, name)))
  if not any(files.values()):
    raise DataError(f'The source {source!r} has none of the forms of mini-ImageNet: it must '
                    'hold train.csv, val.csv and test.csv with images/ or images*.zip, or '
                    'train/, val/ and test/ with class folders, or '
                    f'{_PICKLES["train"]} and so on; see --help.')
  classes = {split: preparation.sorted_classes(files[split]) for split in image_set.SPLITS}
  _check_classes_are_disjoint(classes, problems)
  return preparation.Plan(classes, sources, 'class folders')


def _check_classes_are_disjoint(classes: Mapping[str, list], problems: preparation.Problems
                                ) -> None:
  split_of: dict[str, str] = {}
  for split in image_set.SPLITS:
    for name, _ in classes[split]:
      if name in split_of:
        problems.add(f'class {name}', f'both in {split_of[name]} and in {split}')
      split_of[name] = split


class PickleSource:
  """The images of one mini-imagenet-cache-SPLIT.pkl.

  The file is loaded twice, for `names` and for `read`, rather than kept: the three
  together take more memory than many machines can spare.
  """

  def __init__(self, path: Path):
    self.path = path

  def __str__(self) -> str:
    return str(self.path)

  def classes(self) -> dict[str, list[str]]:
    """{class: names of its images, in the order of their index}. Raises: as `_load`."""
    return {label: [f'{self.path.name} image {index:06}' for index in indices]
            for label, indices in self._load()[1].items()}

  def read(self, names) -> Iterator[archives.Item]:
    """The images, as arrays in place of bytes. Raises: as `_load`."""
    image_data, _ = self._load()
    for name in sorted(names):
      yield archives.Item(name, image_data[int(name.rsplit(' ', 1)[1])])

  def _load(self) -> tuple[np.ndarray, dict[str, list[int]]]:
    """The images and {class: sorted indices}.

    Raises:
      DataError: for a file that is missing or unsafe, or holds something else.
    """
    if not self.path.is_file():
      raise DataError(f'There is no file {str(self.path)!r}: all three of '
                      f'{", ".join(_PICKLES.values())} are needed.')
    content = npy_pickle.load(self.path)
    problem = _pickle_problem(content)
    if problem:
      raise DataError(f'{str(self.path)!r} {problem}: expected is a dict with image_data '
                      '(uint8, images x 84 x 84 x 3) and class_dict (label -> indices); '
                      'fetch it again.')
    return content['image_data'], {
        label: sorted(int(index) for index in indices)
        for label, indices in content['class_dict'].items()}


def _pickle_problem(content: Any) -> Optional[str]:
  """What is wrong with a pickle's content, to follow its path in a sentence; or None."""
  if not isinstance(content, dict) or not {'image_data', 'class_dict'} <= set(content):
    return 'does not hold image_data and class_dict'
  image_data, class_dict = content['image_data'], content['class_dict']
  if not (isinstance(image_data, np.ndarray) and image_data.dtype == np.uint8
          and image_data.ndim == 4 and image_data.shape[1:] == image_set.IMAGE_SHAPES[NAME]):
    received = (f'{image_data.dtype} {image_data.shape}'
                if isinstance(image_data, np.ndarray) else type(image_data).__name__)
    return f'holds image_data of the form {received}'
  if not (isinstance(class_dict, dict) and all(
      isinstance(label, str) and _are_indices(indices)
      for label, indices in class_dict.items())):
    return 'holds a class_dict that is not one of lists of indices'
  # The lengths first: a list of Python's numbers is much larger than an array of bytes.
  if sum(map(len, class_dict.values())) != len(image_data) or sorted(
      int(index) for each in class_dict.values() for index in each) != list(
          range(len(image_data))):
    return 'has images that belong to no class, or to two, or classes without their images'
  return None


def _are_indices(value: Any) -> bool:
  if isinstance(value, np.ndarray):
    return value.ndim == 1 and value.dtype.kind in 'iu'
  return isinstance(value, (list, tuple)) and all(type(each) is int for each in value)


def _plan_of_pickles(path: Path) -> preparation.Plan:
  sources = [PickleSource(path / _PICKLES[split]) for split in image_set.SPLITS]
  classes = {
      split: preparation.sorted_classes(
          (label, (index, name)) for label, names in source.classes().items()
          for name in names)
      for index, (split, source) in enumerate(zip(image_set.SPLITS, sources))}
  problems = preparation.Problems()
  _check_classes_are_disjoint(classes, problems)
  problems.raise_if_any(f'The source {str(path)!r}', 'fetch the pickles again')
  return preparation.Plan(classes, sources, 'pickles')


if __name__ == '__main__':
  sys.exit(main())
