"""Prepares images of your own: class folders become a set to train on.

  python data_scripts/prepare_images.py --source=FOLDER --out=data/images --size=84

--source is a folder, or a zip or tar archive, or several of these, separated by commas
(train.zip,val.zip,test.zip or folders of these names), with

  train/, val/ and test/ (or validation, novel, ...), with one folder for each class;
  or class folders alone, which are divided at random, by --shares and --seed;
  or train.csv, val.csv and test.csv (columns filename,label) and the images.

The classes of the three splits must differ: tasks are made of classes that training has
not seen. Folders in a class folder are taken as a part of its class.

An image may be JPEG, PNG, WebP, BMP, GIF, TIFF or PPM, of any size, grey, with a palette,
in CMYK, of 16 bits, or transparent (it is put on white); it is turned as its Exif says, and
resized with Lanczos to a square, without regard to its proportions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from data_scripts import class_files, image_files, images, preparation, tables
from data_scripts.file_names import shortened
from data_scripts.plan import Plan, listed, split_at_random, what_is_there
from data_scripts.problems import Problems
from maml_tf import paths
from maml_tf.argument_types import counts, whole
from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources import image_set

NAME = image_set.OWN_IMAGES
DEFAULT_SIZE = 84
DEFAULT_SHARES = (64, 16, 20)   # mini-ImageNet's
DEFAULT_SEED = 1
# In a folder. As many names as tieredImageNet has images, 779,165, took 0.7 GB of memory and a
# minute on a busy core until they were planned.
MOST_FILES = 2_000_000
LEAST_PER_CLASS = 2     # one to learn from, one to ask for
LEAST_CLASSES = 2       # of a split: a task of one class is none


def main(argv: Optional[Sequence[str]] = None) -> int:
  """The script. Args: argv, None: those of the process. Returns: the exit code."""
  arguments = _arguments(argv)
  return preparation.exit_code_of(lambda: _prepare(arguments))


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
  parser = preparation.argument_parser(__doc__)
  parser.add_argument('--source', type=paths.argument, required=True,
                      help='folder or archive; see above for what it may hold')
  parser.add_argument('--out', type=paths.argument, default=preparation.default_out(NAME),
                      help='folder for the prepared set (default: %(default)s)')
  parser.add_argument('--size', type=whole(1, image_set.LARGEST_SIDE), default=DEFAULT_SIZE,
                      help='height and width in pixels (default: %(default)s)')
  parser.add_argument('--channels', type=int, choices=(1, 3), default=3,
                      help='3: colour (default); 1: grey')
  parser.add_argument('--shares', type=counts(1, how_many=3), default=DEFAULT_SHARES,
                      metavar='TRAIN,VAL,TEST', help='of the classes, where the source does '
                      'not divide them (default: 64,16,20)')
  parser.add_argument('--seed', type=whole(0), default=DEFAULT_SEED,
                      help='of that division (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  parser.add_argument('--skip_damaged', action='store_true',
                      help='leave damaged images out instead of stopping; a class must keep '
                      f'{LEAST_PER_CLASS}')
  return parser.parse_args(argv)


def _prepare(arguments: argparse.Namespace) -> None:
  request = preparation.Request(
      name=NAME, source=arguments.source, out=arguments.out, overwrite=arguments.overwrite,
      options={'size': arguments.size, 'channels': arguments.channels,
               'image_filter': 'lanczos', 'shares': list(arguments.shares),
               'seed': arguments.seed, 'skip_damaged': arguments.skip_damaged},
      least_per_class=LEAST_PER_CLASS, skip_damaged=arguments.skip_damaged,
      image_shape=(arguments.size, arguments.size, arguments.channels), notes_twins=True)

  def plan_of(problems: Problems) -> Plan:
    return make_plan(arguments.source, arguments.shares, arguments.seed, problems)
  if preparation.is_done_already(request, lambda: plan_of(Problems())):
    return
  problems = Problems()
  plan = plan_of(problems)
  _check_enough(plan, problems)
  preparation.prepare(
      request, plan,
      lambda data: images.own_pixels(data, arguments.size, arguments.channels), problems)


def make_plan(source: str, shares: Sequence[int], seed: int, problems: Problems) -> Plan:
  """Finds the form of a source, and the place of each of its images.

  Args:
    source: a folder or an archive.
    shares: of train, val and test, where the source does not divide the classes.
    seed: of that division.
    problems: receives what is wrong with single files and rows.

  Raises:
    DataError: for a source that cannot be listed, or is of no known form.
  """
  sources = class_files.sources_of(source, most_files=MOST_FILES)
  names = listed(sources, f'The source {source!r}')
  class_files.note_unopened(sources, names, problems)
  problems.note([name for names_of_source in names for name in names_of_source
                 if name.lower().endswith(tables.OTHER_IMAGE_SUFFIXES)],
                'such files are not read (save them as JPEG or PNG)')
  class_files.note_other_files(names, problems)
  files = image_files.ImageFiles(sources, names)
  classes, form = class_files.classes_of(sources, names, files, problems)
  if not form:
    folders = class_files.top_folders(files, problems)
    if len(folders) < LEAST_CLASSES * len(image_set.SPLITS):
      raise DataError(
          f'The source {source!r} has {counted(len(folders), "class folder")} with images '
          f'({shortened(list(folders)) or what_is_there(names)}), and '
          f'training, validation and testing need {LEAST_CLASSES} each: make a folder for '
          'each class, and put its images there' + _other_tables(names) + '.'
          + ''.join(f' {note}.' for note in problems.notes))
    class_files.note_spellings([folders], problems)
    problems.notes.append('The classes were divided at random (--shares, --seed), since '
                          'neither folders nor tables say which are of train, val and test')
    classes = class_files.in_splits(folders, _divided(list(folders), shares, seed))
    return Plan(classes, sources, 'class folders, divided at random')
  class_files.check_disjoint(classes, problems)
  class_files.note_spellings(
      [[name for name, _ in of_split] for of_split in classes.values()], problems)
  return Plan(classes, sources, form)


def _other_tables(names: Sequence[Sequence[str]]) -> str:
  """What to do with tables that are not taken for those of a split, as a phrase."""
  found = [name for names_of_source in names for name in names_of_source
           if name.lower().endswith(tables.SUFFIXES)]
  return (f'; of tables those called train.csv, val.csv and test.csv are read, and not '
          f'{shortened(found)}: write these three, each with classes of its own'
          if found else '')


def _divided(names: Sequence[str], shares: Sequence[int], seed: int) -> dict[str, list[str]]:
  """{split: class names}, each of them with `LEAST_CLASSES` at least."""
  total = len(names)
  val, test = (max(LEAST_CLASSES, round(total * share / sum(shares))) for share in shares[1:])
  train = max(LEAST_CLASSES, total - val - test)
  return split_at_random(names, train, min(val, total - train - LEAST_CLASSES), seed)


def _check_enough(plan: Plan, problems: Problems) -> None:
  for split in image_set.SPLITS:
    classes = plan.counts(split)
    if len(classes) < LEAST_CLASSES:
      problems.add(f'split {split}', f'{counted(len(classes), "class")}, at least '
                   f'{LEAST_CLASSES} are needed',
                   remedy='move classes of another split there, or give class '
                   'folders without splits, which are divided at random')
    for name, count in classes:
      if count < LEAST_PER_CLASS:
        problems.add(f'class {name}', f'{counted(count, "image")}, at least '
                     f'{LEAST_PER_CLASS} are needed',
                     remedy='add images, or take the class away')


if __name__ == '__main__':
  sys.exit(main())
