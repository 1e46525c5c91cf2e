"""Prepares Omniglot: 1,623 characters of 50 alphabets, drawn 20 times each.

  python data_scripts/prepare_omniglot.py --download
  python data_scripts/prepare_omniglot.py --source=FOLDER_OR_ZIPS --out=data/omniglot

--source is a folder with images_background.zip and images_evaluation.zip, or with
the two extracted, or one of each, or with the alphabets of both, as the omniglot_resized
of the TF1 code; or the two zips or folders, separated by a comma. The folder may be the
authors' repository. --download fetches the zips from the authors' repository into
--source (default: the folder OUT-download): those that are not there, and those that are not
the published ones byte for byte, which it replaces.

The images become 28 x 28 and are inverted (ink is 255). The characters are split at
random into 1,100 / 100 / 423 for training, validation and testing, as in the paper,
which does not say which they were.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from data_scripts import archives, downloads, image_files, images, preparation
from data_scripts.folder_source import FolderSource
from data_scripts.plan import (
  Layout,
  Plan,
  check_counts,
  listed,
  paths_of,
  sorted_classes,
  split_at_random,
  what_is_there,
)
from data_scripts.problems import Problems
from maml_tf import paths
from maml_tf.argument_types import whole
from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources import image_set

NAME = 'omniglot'
LAYOUT = Layout(train=1100, val=100, test=423, images_per_class=20)
PARTS = ('images_background', 'images_evaluation')
DEFAULT_SEED = 1
FILTERS = ('nearest', 'lanczos')
DEFAULT_FILTER = FILTERS[0]
SIDE = image_set.IMAGE_SHAPES[NAME][0]
BASE_URL = 'https://raw.githubusercontent.com/brendenlake/omniglot/master/python'
# {archive: MD5}, of the official archives.
DOWNLOADS = {'images_background.zip': '68d2efa1b9178cc56df9314c21c6e718',
             'images_evaluation.zip': '6b91aef0f799c5bb55b94e3f2daec811'}
_DRAWING = re.compile(r'(?:^|/)([^/]+)/character(\d{1,3})/[^/]+\.png$', re.IGNORECASE)
# Browsers number what is fetched twice.
_ARCHIVE_OF_PART = re.compile(rf'({"|".join(PARTS)})(?: ?\(\d+\)| copy)?', re.IGNORECASE)
# Parts of images_background, which the authors offer beside it.
_SMALL_SETS = re.compile(r'images_background_small\d')
_SAMPLED = 5   # drawings that the size of all is seen from


def main(argv: Optional[Sequence[str]] = None, layout: Layout = LAYOUT,
         archive_md5s: Mapping[str, str] = DOWNLOADS) -> int:
  """The script.

  Args:
    argv: the arguments; None: those of the process.
    layout: the counts that the source must have.
    archive_md5s: {file to download: its MD5}.

  Returns:
    The exit code: 0, 2 for an error that the user can put right, 130 if interrupted.
  """
  arguments = _arguments(argv)
  return preparation.exit_code_of(lambda: _prepare(arguments, layout, archive_md5s))


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
  parser = preparation.argument_parser(__doc__)
  parser.add_argument('--source', type=paths.argument,
                      help='folder, or comma-separated zips or folders')
  parser.add_argument('--out', type=paths.argument, default=preparation.default_out(NAME),
                      help='folder for the prepared set (default: %(default)s)')
  parser.add_argument('--download', action='store_true',
                      help='fetch the two zips first (about 15 MB)')
  parser.add_argument('--base_url', default=BASE_URL,
                      help='where to fetch them (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  parser.add_argument('--seed', type=whole(0), default=DEFAULT_SEED,
                      help='of the split (default: %(default)s)')
  parser.add_argument('--image_filter', choices=FILTERS, default=DEFAULT_FILTER,
                      help="of the resizing; nearest (default) gives the TF1 code's "
                      'binary images, lanczos gives grey levels')
  arguments = parser.parse_args(argv)
  if not arguments.source and not arguments.download:
    parser.error('--source is missing: name the folder or the zips that you have, or let '
                 '--download fetch them')
  return arguments


def _prepare(arguments: argparse.Namespace, layout: Layout,
             archive_md5s: Mapping[str, str]) -> None:
  source = arguments.source or f'{arguments.out.rstrip("/")}-download'
  request = preparation.Request(
      name=NAME, source=source, out=arguments.out, overwrite=arguments.overwrite,
      options={'seed': arguments.seed, 'image_filter': arguments.image_filter})
  if preparation.is_done_already(request):
    return
  if arguments.download:
    downloads.fetch_all(arguments.base_url, archive_md5s, source)
  problems = Problems()
  plan = make_plan(source, layout, arguments.seed, problems)
  size = drawing_size(plan)
  if size != images.OMNIGLOT_SIZE and arguments.image_filter != DEFAULT_FILTER:
    raise DataError(f'The drawings of {source!r} are {size[0]} x {size[1]} already, so that '
                    f'--image_filter={arguments.image_filter} cannot make them: name the '
                    f'original ones, or leave --image_filter at {DEFAULT_FILTER}.')
  preparation.prepare(request, plan, decoder(arguments.image_filter, size), problems)


def decoder(image_filter: str, size: tuple[int, int] = images.OMNIGLOT_SIZE
            ) -> preparation.Decoder:
  """Turns the bytes of a drawing into its image; `image_filter`: one of `FILTERS`."""
  return lambda data: (images.omniglot_pixels(data, SIDE, image_filter, size), None)


def drawing_size(plan: Plan) -> tuple[int, int]:
  """(width, height) that all drawings must have: that of most of a few of them.

  The TF1 code's omniglot_resized has them in the size of the result, resized by nearest
  neighbour as here.
  """
  sizes: Counter = Counter()
  files = [file for classes in plan.classes.values() for _, files in classes
           for file in files]
  for index, source in enumerate(plan.sources):
    names = [name for place, name in files if place == index]
    for item in source.read(names[::max(1, len(names) // _SAMPLED)][:_SAMPLED]):
      with contextlib.suppress(images.ImageError):   # decoding all of them will say why
        sizes[images.decode(item.data or b'', ('PNG',)).size] += 1
  small = (SIDE, SIDE)
  return small if sizes[small] > sizes[images.OMNIGLOT_SIZE] else images.OMNIGLOT_SIZE


def make_plan(source: str, layout: Layout, seed: int, problems: Problems) -> Plan:
  """Finds the drawings in a source, and splits the classes.

  Args:
    source: a folder, or comma-separated archives or folders.
    layout: the counts that it must have.
    seed: of the split.
    problems: receives what is wrong with single files and with the counts.

  Raises:
    DataError: for a source that cannot be listed, or has no drawings.
  """
  sources, form = _sources(source)
  names = listed(sources, f'The source {source!r}')
  drawings = _drawings(names, problems)
  if not drawings:
    raise DataError(f'The source {source!r} holds no drawings ALPHABET/characterNN/*.png; '
                    f'{what_is_there(names)}: name the folder with '
                    'images_background.zip and images_evaluation.zip, or with the two '
                    'extracted.')
  classes = dict(sorted_classes(drawings))
  total = layout.train + layout.val + layout.test
  _check_parts(source, names, len(classes), total)
  _check_numbering(classes, problems)
  split = split_at_random(list(classes), layout.train, layout.val, seed)
  plan = Plan(
      {part: [(name, classes[name]) for name in split[part]] for part in image_set.SPLITS},
      sources, form)
  if len(classes) != total:   # the split of another number of classes says nothing
    problems.add('the set', f'{counted(len(classes), "character")}, expected {total}')
    for name, files in classes.items():
      if len(files) != layout.images_per_class:
        problems.add(f'class {name}', f'{counted(len(files), "image")}, expected '
                                      f'{layout.images_per_class}', kind='count')
  else:
    check_counts(plan, layout, problems)
  return plan


def _check_parts(source: str, names: Sequence[Sequence[str]], found: int, total: int) -> None:
  """Raises DataError where one of the two parts is not there at all."""
  every = [f'/{name}' for names_of_source in names for name in names_of_source]
  present = [part for part in PARTS if any(f'/{part}/' in name for name in every)]
  if found < total and len(present) == 1:
    missing, = set(PARTS) - set(present)
    raise DataError(f'The source {source!r} holds {present[0]} alone ({found} of {total} '
                    f'characters): add {missing}, packed or not, or fetch both with '
                    '--download.')


def _sources(source: str) -> tuple[list[archives.Source], str]:
  """The sources behind --source, and the name of their form."""
  if Path(source).is_dir():
    return _sources_in_folder(Path(source))
  sources = [archives.open_source(path) for path in paths_of(source)]
  kinds = {'folder' if isinstance(each, FolderSource) else 'archive'
           for each in sources}
  return sources, f'listed {" and ".join(sorted(kinds))}s'


def _sources_in_folder(folder: Path) -> tuple[list[archives.Source], str]:
  """Of each part the archive, else its folder, wherever below they are."""
  packed: dict[str, str] = {}
  names = FolderSource(folder).names()
  for name in sorted(names, key=len):
    part = _ARCHIVE_OF_PART.fullmatch(image_files.stem(name))
    if part and name.lower().endswith(archives.ARCHIVE_SUFFIXES):
      packed.setdefault(part.group(1).lower(), name)
  sources = [archives.open_source(folder / packed[part]) for part in PARTS if part in packed]
  if len(sources) == len(PARTS):
    return sources, 'two zips'
  extracted = {name[:name.index(f'{part}/') + len(part)] for part in set(PARTS) - set(packed)
               for name in names if f'/{part}/' in f'/{name}' and _DRAWING.search(name)}
  if sources and extracted:
    return [*sources, FolderSource(folder, below=sorted(extracted))], 'one zip'
  if sources:
    part, = packed
    other, = set(PARTS) - {part}
    raise DataError(f'The folder {str(folder)!r} holds {packed[part]} alone, and Omniglot is '
                    f'{" and ".join(PARTS)}, each packed or not: add {other}, or fetch both '
                    'with --download.')
  if len(extracted) == len(PARTS):
    return [FolderSource(folder, below=sorted(extracted))], 'two extracted folders'
  if any(map(_DRAWING.search, names)):
    return [FolderSource(folder)], 'folder of alphabets'
  others = [name for name in names if name.lower().endswith(archives.ARCHIVE_SUFFIXES)]
  return [FolderSource(folder),
          *(archives.open_source(folder / name) for name in others)], 'folder of archives'


def _drawings(names: Sequence[Sequence[str]], problems: Problems
              ) -> list[tuple[str, tuple[int, str]]]:
  """(class, (source, name)) of each drawing."""
  drawings, seen, stray, small = [], set(), [], []
  for source, names_of_source in enumerate(names):
    for name in names_of_source:
      match = _DRAWING.search(name)
      if not match:
        stray += [name] if name.lower().endswith('.png') else []
        continue
      if _SMALL_SETS.search(name):
        small.append(name)
        continue
      character = f'{match.group(1)}/character{int(match.group(2)):02}'
      key = (character, name.rsplit('/', 1)[-1])
      if key in seen:
        problems.add('/'.join(key), 'there twice', remedy='leave one of each')
        continue
      seen.add(key)
      drawings.append((character, (source, name)))
  problems.note(stray, 'they are not in a folder ALPHABET/characterNN')
  problems.note(small, 'they are in images_background as well')
  return drawings


def _check_numbering(classes: Mapping[str, object], problems: Problems) -> None:
  """The characters of an alphabet are numbered from 1: a gap names what is missing."""
  numbers: dict[str, set[int]] = {}
  for name in classes:
    alphabet, character = name.split('/')
    numbers.setdefault(alphabet, set()).add(int(character[len('character'):]))
  for alphabet, present in sorted(numbers.items()):
    for number in sorted(set(range(1, max(present))) - present):
      problems.add(f'{alphabet}/character{number:02}', 'missing',
                   remedy='complete the set, or fetch it with --download')


if __name__ == '__main__':
  sys.exit(main())
