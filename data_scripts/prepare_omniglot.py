"""Prepares Omniglot: 1,623 characters of 50 alphabets, drawn 20 times each.

  python data_scripts/prepare_omniglot.py --download
  python data_scripts/prepare_omniglot.py --source=FOLDER_OR_ZIPS --out=data/omniglot

--source is a folder with images_background.zip and images_evaluation.zip, or with
the two extracted, or with the alphabets of both; or the two zips or folders,
separated by a comma. --download fetches the zips from the authors' repository into
--source (default: the folder OUT-download), but for those that are there.

The images become 28 x 28 and are inverted (ink is 255). The characters are split at
random into 1,100 / 100 / 423 for training, validation and testing, as in the paper,
which does not say which they were.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_scripts import archives, downloads, images, preparation  # noqa: E402
from maml_tf.sources import image_set  # noqa: E402
from maml_tf.sources.image_set import DataError  # noqa: E402

NAME = 'omniglot'
LAYOUT = preparation.Layout(train=1100, val=100, test=423, images_per_class=20)
PARTS = ('images_background', 'images_evaluation')
DEFAULT_SEED = 1
FILTERS = ('nearest', 'lanczos')
BASE_URL = 'https://raw.githubusercontent.com/brendenlake/omniglot/master/python'
# {archive: MD5}, of the official archives.
DOWNLOADS = {'images_background.zip': '68d2efa1b9178cc56df9314c21c6e718',
             'images_evaluation.zip': '6b91aef0f799c5bb55b94e3f2daec811'}
_DRAWING = re.compile(r'(?:^|/)([^/]+/character\d{2,3})/[^/]+\.png$', re.IGNORECASE)


def main(argv: Optional[Sequence[str]] = None, layout: preparation.Layout = LAYOUT,
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


def split_classes(names: Sequence[str], layout: preparation.Layout, seed: int
                  ) -> dict[str, list[str]]:
  """A random split of the classes, the same on every machine.

  The classes are ordered by a hash of seed and name and not by a random generator,
  whose results may change with the version of Python or NumPy.

  Args:
    names: of all classes, in any order.
    layout: the number of classes of each split; the last one takes the rest.
    seed: 0 or more.

  Returns:
    {split: sorted class names}.
  """
  order = sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())
  first, second = layout.train, layout.train + layout.val
  return {'train': sorted(order[:first]), 'val': sorted(order[first:second]),
          'test': sorted(order[second:])}


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
  parser = preparation.argument_parser(__doc__)
  parser.add_argument('--source', help='folder, or comma-separated zips or folders')
  parser.add_argument('--out', default=preparation.default_out(NAME),
                      help='folder for the prepared set (default: %(default)s)')
  parser.add_argument('--download', action='store_true',
                      help='fetch the two zips first (about 15 MB)')
  parser.add_argument('--base_url', default=BASE_URL,
                      help='where to fetch them (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  parser.add_argument('--seed', type=preparation.not_negative, default=DEFAULT_SEED,
                      help='of the split (default: %(default)s)')
  parser.add_argument('--image_filter', choices=FILTERS, default=FILTERS[0],
                      help="of the resizing; nearest (default) gives the TF1 code's "
                      'binary images, lanczos gives grey levels')
  arguments = parser.parse_args(argv)
  if not arguments.source and not arguments.download:
    parser.error('--source is missing: name the folder or the zips that you have, or let '
                 '--download fetch them')
  return arguments


def _prepare(arguments: argparse.Namespace, layout: preparation.Layout,
             archive_md5s: Mapping[str, str]) -> None:
  source = arguments.source or f'{arguments.out.rstrip("/")}-download'
  request = preparation.Request(
      name=NAME, source=source, out=arguments.out, overwrite=arguments.overwrite,
      options={'seed': arguments.seed, 'image_filter': arguments.image_filter})
  if preparation.is_done_already(request):
    return
  if arguments.download:
    downloads.fetch_all(arguments.base_url, archive_md5s, source)
  problems = preparation.Problems()
  plan = make_plan(source, layout, arguments.seed, problems)
  preparation.prepare(request, plan, decoder(arguments.image_filter), problems)


def decoder(image_filter: str) -> preparation.Decoder:
  """Turns the bytes of a drawing into its image; `image_filter`: one of `FILTERS`."""
  side = image_set.IMAGE_SHAPES[NAME][0]
  return lambda data: (images.omniglot_pixels(data, side, image_filter), None)


def make_plan(source: str, layout: preparation.Layout, seed: int,
              problems: preparation.Problems) -> preparation.Plan:
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
  names = preparation.listed(sources, f'The source {source!r}')
  drawings = _drawings(names, problems)
  if not drawings:
    raise DataError(f'The source {source!r} holds no drawings ALPHABET/characterNN/*.png: '
                    'name the folder with images_background.zip and images_evaluation.zip, '
                    'or with the two extracted.')
  classes = dict(preparation.sorted_classes(drawings))
  _check_numbering(classes, problems)
  split = split_classes(list(classes), layout, seed)
  plan = preparation.Plan(
      {part: [(name, classes[name]) for name in split[part]] for part in image_set.SPLITS},
      sources, form)
  total = layout.train + layout.val + layout.test
  if len(classes) != total:   # the split of another number of classes says nothing
    problems.add('the set', f'{len(classes)} characters, expected {total}')
    for name, files in classes.items():
      if len(files) != layout.images_per_class:
        problems.add(f'class {name}', f'{len(files)} images, expected '
                                      f'{layout.images_per_class}')
  else:
    preparation.check_counts(plan, layout, problems)
  return plan


def _sources(source: str) -> tuple[list[archives.Source], str]:
  """The sources behind --source, and the name of their form."""
  if Path(source).is_dir():
    return _sources_in_folder(Path(source))
  sources = [archives.open_source(path) for path in preparation.paths_of(source)]
  kinds = {'folder' if isinstance(each, archives.FolderSource) else 'archive'
           for each in sources}
  return sources, f'listed {" and ".join(sorted(kinds))}s'


def _sources_in_folder(folder: Path) -> tuple[list[archives.Source], str]:
  zips = [folder / f'{part}.zip' for part in PARTS]
  if all(path.is_file() for path in zips):
    return [archives.ZipSource(path) for path in zips], 'two zips'
  extracted = [part for part in PARTS if (folder / part).is_dir()]
  if len(extracted) == len(PARTS):
    return [archives.FolderSource(folder, below=PARTS)], 'two extracted folders'
  found = [path.name for path in zips if path.is_file()] + extracted
  if found:
    raise DataError(f'The folder {str(folder)!r} holds {", ".join(found)} alone, and Omniglot '
                    f'is {" and ".join(PARTS)}, both as zips or both extracted: add the '
                    'other one, or fetch both with --download.')
  return [archives.FolderSource(folder)], 'folder of alphabets'


def _drawings(names: Sequence[Sequence[str]], problems: preparation.Problems
              ) -> list[tuple[str, tuple[int, str]]]:
  """(class, (source, name)) of each drawing."""
  drawings, seen = [], set()
  for source, names_of_source in enumerate(names):
    for name in names_of_source:
      match = _DRAWING.search(name)
      if not match:
        if name.lower().endswith('.png'):
          problems.add(name, 'not in a folder ALPHABET/characterNN')
        continue
      key = (match.group(1), name.rsplit('/', 1)[-1])
      if key in seen:
        problems.add('/'.join(key), 'there twice')
        continue
      seen.add(key)
      drawings.append((match.group(1), (source, name)))
  return drawings


def _check_numbering(classes: Mapping[str, object], problems: preparation.Problems) -> None:
  """The characters of an alphabet are numbered from 1: a gap names what is missing."""
  numbers: dict[str, set[int]] = {}
  for name in classes:
    alphabet, character = name.split('/')
    numbers.setdefault(alphabet, set()).add(int(character[len('character'):]))
  for alphabet, present in sorted(numbers.items()):
    for number in sorted(set(range(1, max(present))) - present):
      problems.add(f'{alphabet}/character{number:02}', 'missing')


if __name__ == '__main__':
  sys.exit(main())
