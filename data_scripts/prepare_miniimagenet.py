"""Prepares mini-ImageNet: 64 / 16 / 20 classes of ILSVRC 2012, 600 images each.

  python data_scripts/prepare_miniimagenet.py --source=FOLDER --out=data/miniimagenet

There is no --download: ImageNet's terms (non-commercial research) do not allow it
to be redistributed, so no public place offers it. You have it from a colleague, or from
ImageNet itself. --source is one of

  a folder with images and train.csv, val.csv, test.csv (columns filename,label);
  a folder with these and images.zip or images-*.zip (or .tar) in place of images/;
  a folder with train/, val/ and test/, with one folder for each class;
  a folder of the 100 class folders alone, which Ravi and Larochelle's split divides;
  a zip or tar archive of any of these;
  a folder, or a zip archive, with one pickle for each split: mini-imagenet-cache-SPLIT.pkl
  or miniImageNet_category_split_SPLIT.pickle. They are read without executing
  anything; this needs about 2 GB of memory.

The splits may have other usual names (validation, novel, ...), and the tables other
columns, delimiters and encodings. With ImageNet's own files, give the 100 complete class
folders of ILSVRC 2012's training images (CLASS/CLASS_NUMBER.JPEG) beside Ravi and
Larochelle's tables: the number in a name there is the position in the class's files,
sorted by ImageNet's number, as mini-imagenet-tools has it.

Images of another size than 84 x 84 are resized with Lanczos.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

if not __package__:   # run as a file: the folder above is where the packages are
  sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

import numpy as np

from data_scripts import (
  archives,
  class_files,
  image_files,
  images,
  npy_pickle,
  preparation,
  published_split,
)
from data_scripts.file_names import shortened
from data_scripts.plan import (
  Layout,
  Plan,
  check_counts,
  listed,
  sorted_classes,
  what_is_there,
)
from data_scripts.problems import Problems
from data_scripts.source_items import Item
from data_scripts.split_names import split_of
from maml_tf import paths
from maml_tf.errors import DataError
from maml_tf.sources import image_set

NAME = 'miniimagenet'
LAYOUT = Layout(train=64, val=16, test=20, images_per_class=600)
# With --skip_damaged: 5-shot training takes 5 + 15 images of a class, so that
# with 40 an episode is still one of many.
LEAST_PER_CLASS = 40
_IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
_PICKLE_SUFFIXES = ('.pkl', '.pickle')
# What pickles call the images, and the class of each.
_IMAGES = ('image_data', 'data', 'images')
_LABELS = ('labels', 'label')


def main(argv: Optional[Sequence[str]] = None,
         layout: Layout = LAYOUT) -> int:
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
  parser.add_argument('--source', required=True, type=paths.argument,
                      help='folder or archive; see above for what it may hold')
  parser.add_argument('--out', type=paths.argument, default=preparation.default_out(NAME),
                      help='folder for the prepared set (default: %(default)s)')
  parser.add_argument('--overwrite', action='store_true',
                      help='replace a prepared set in --out')
  parser.add_argument('--skip_damaged', action='store_true',
                      help='leave damaged and missing images out instead of stopping; a '
                      f'class must keep {LEAST_PER_CLASS}, which is enough for episodes of '
                      '5 shots and 15 queries')
  return parser.parse_args(argv)


def _prepare(arguments: argparse.Namespace, layout: Layout) -> None:
  request = preparation.Request(
      name=NAME, source=arguments.source, out=arguments.out, overwrite=arguments.overwrite,
      options={'size': image_set.IMAGE_SHAPES[NAME][0], 'image_filter': 'lanczos',
               'skip_damaged': arguments.skip_damaged},
      least_per_class=LEAST_PER_CLASS, skip_damaged=arguments.skip_damaged)
  if preparation.is_done_already(request):
    return
  problems = Problems()
  plan = make_plan(arguments.source, problems)
  check_counts(plan, layout, problems, LEAST_PER_CLASS)
  preparation.prepare(request, plan, decoded, problems)


def decoded(content: Any) -> tuple[np.ndarray, Optional[str]]:
  """The image of a file, or the image itself where it comes out of a pickle."""
  if isinstance(content, np.ndarray):
    return content, None
  return images.miniimagenet_pixels(content, image_set.IMAGE_SHAPES[NAME][0])


def make_plan(source: str, problems: Problems) -> Plan:
  """Finds the form of a source, and the place of each of its images.

  Args:
    source: a folder or an archive.
    problems: receives what is wrong with single files and rows. The counts are not
      checked here.

  Raises:
    DataError: for a source that cannot be listed, or is of no known form.
  """
  sources = class_files.sources_of(source, published_split.ALL)
  names = listed(sources, f'The source {source!r}')
  problems.note([name for each in sources for name in getattr(each, 'passed_over', ())],
                'they are none of the classes of the set')
  class_files.note_unopened(sources, names, problems)
  files = image_files.ImageFiles(sources, names, _IMAGE_SUFFIXES)
  pickles = _pickles(sources, names)
  if pickles and (len(pickles) == len(image_set.SPLITS) or not files.places):
    return _plan_of_pickles(source, pickles)
  classes, form = class_files.classes_of(sources, names, files, problems)
  if not form:
    classes = _in_published_split(source, files, names, problems)
    form = 'class folders without a split'
  class_files.check_disjoint(classes, problems)
  return Plan(classes, sources, form)


def _in_published_split(source: str, files: image_files.ImageFiles,
                        names: Sequence[Sequence[str]], problems: Problems
                        ) -> image_files.Classes:
  """Class folders without train/, val/ and test/, if they have the set's names.

  Raises:
    DataError: for other folders, and for a source without any.
  """
  folders = class_files.classes_without_split(files)
  classes = class_files.in_splits(folders, published_split.CLASSES)
  if any(classes.values()):
    problems.notes.append("Divided by Ravi and Larochelle's published split")
    problems.note(sorted(set(folders) - published_split.ALL),
                  'they are none of the classes of the set')
    return classes
  if folders:
    raise DataError(f'The source {source!r} has class folders without a split '
                    f'({shortened(list(folders))}), and these are not the names of '
                    "mini-ImageNet's classes: move them into train/, val/ and test/, or put "
                    'train.csv, val.csv and test.csv beside them.')
  raise DataError(f'The source {source!r} has none of the forms of mini-ImageNet; '
                  f'{what_is_there(names)}: it must hold train.csv, val.csv and '
                  'test.csv with images/ or images*.zip, or train/, val/ and test/ with class '
                  'folders, or mini-imagenet-cache-train.pkl and so on; see --help.')


def _pickles(sources: Sequence[archives.Source], names: Sequence[Sequence[str]]
             ) -> dict[str, PickleSource]:
  """{split: its pickle}. Raises DataError where there are two of a split."""
  found: dict[str, PickleSource] = {}
  for source, names_of_source in zip(sources, names):
    for name in names_of_source:
      split = split_of(image_files.stem(name))
      if not name.lower().endswith(_PICKLE_SUFFIXES) or split is None:
        continue
      pickle = PickleSource(source, name, split)
      if split in found:
        raise DataError(f'{str(found[split])!r} and {str(pickle)!r} are both of the split '
                        f'{split}: leave one of them.')
      found[split] = pickle
  return found


class PickleSource:
  """The images of the pickle of one split.

  The file is loaded twice, for `classes` and for `read`, rather than kept: the three
  together take more memory than many machines can spare.

  Args:
    source: the folder or archive that it is in.
    name: in the source.
    split: 'train', 'val' or 'test'.
  """

  def __init__(self, source: archives.Source, name: str, split: str):
    self._source, self._name, self._split = source, name, split

  def __str__(self) -> str:
    return os.path.join(str(self._source), self._name)

  def classes(self) -> dict[str, list[str]]:
    """{class: names of its images, in the order of their index}. Raises: as `_load`."""
    base = self._name.rsplit('/', 1)[-1]
    return {label: [f'{base} image {index:06}' for index in indices]
            for label, indices in self._load()[1].items()}

  def read(self, names) -> Iterator[Item]:
    """The images, as arrays in place of bytes. Raises: as `_load`."""
    image_data, _ = self._load()
    for name in sorted(names):
      yield Item(name, image_data[int(name.rsplit(' ', 1)[1])])

  def _load(self) -> tuple[np.ndarray, dict[str, list[int]]]:
    """The images and {class: sorted indices}.

    Raises:
      DataError: for a file that is unsafe, or holds something else.
    """
    with self._source.opened(self._name) as (file, size):
      content = npy_pickle.load_file(file, size, str(self))
    try:
      return _images_and_classes(content, self._split)
    except _FormError as error:
      raise DataError(f'{str(self)!r} {error}: expected is a dict with image_data (uint8, '
                      'images x 84 x 84 x 3) and class_dict (label -> indices), or with data '
                      'and labels; fetch it again.') from error


class _FormError(Exception):
  """What is wrong with a pickle's content, to follow its path in a sentence."""


def _images_and_classes(content: Any, split: str) -> tuple[np.ndarray, dict[str, list[int]]]:
  """The images and {class: sorted indices} of either form. Raises: _FormError."""
  keys = set(content) if isinstance(content, dict) else set()
  images_key = next((key for key in _IMAGES if key in keys), None)
  labels_key = next((key for key in _LABELS if key in keys), None)
  if images_key is None or not ('class_dict' in keys or labels_key):
    found = sorted(map(str, keys))[:5] if keys else type(content).__name__
    raise _FormError(f'does not hold image_data and class_dict (it holds {found})')
  image_data = content[images_key]
  if not (isinstance(image_data, np.ndarray) and image_data.dtype == np.uint8
          and image_data.ndim == 4 and image_data.shape[1:] == image_set.IMAGE_SHAPES[NAME]):
    received = (f'{image_data.dtype} {image_data.shape}'
                if isinstance(image_data, np.ndarray) else type(image_data).__name__)
    raise _FormError(f'holds {images_key} of the form {received}')
  if 'class_dict' in keys:
    return image_data, _checked(content['class_dict'], len(image_data))
  return image_data, _by_label(content, content[labels_key], len(image_data), split)


def _checked(class_dict: Any, count: int) -> dict[str, list[int]]:
  if not (isinstance(class_dict, dict) and all(
      isinstance(label, str) and _are_integers(indices)
      for label, indices in class_dict.items())):
    raise _FormError('holds a class_dict that is not one of lists of indices')
  # The lengths first: a list of Python's numbers is much larger than an array of bytes.
  if sum(map(len, class_dict.values())) != count or sorted(
      int(index) for each in class_dict.values() for index in each) != list(range(count)):
    raise _FormError('has images that belong to no class, or to two, or classes without '
                     'their images')
  return {label: sorted(int(index) for index in indices)
          for label, indices in class_dict.items()}


def _by_label(content: dict, labels: Any, count: int, split: str) -> dict[str, list[int]]:
  """The classes of a pickle with one label an image, by the names that it has for them."""
  if not _are_integers(labels) or len(labels) != count:
    raise _FormError(f'holds labels that are not {count} numbers')
  names = content.get('label2catname')
  if not isinstance(names, dict):
    by_name = content.get('catname2label')
    names = {number: name for name, number in by_name.items()
             if isinstance(number, int)} if isinstance(by_name, dict) else {}
  classes: dict[str, list[int]] = {}
  for index, label in enumerate(map(int, labels)):
    name = names.get(label)
    classes.setdefault(name if isinstance(name, str) else f'{split} {label:03}',
                       []).append(index)
  return classes


def _are_integers(value: Any) -> bool:
  if isinstance(value, np.ndarray):
    return value.ndim == 1 and value.dtype.kind in 'iu'
  return isinstance(value, (list, tuple)) and all(type(each) is int for each in value)


def _plan_of_pickles(source: str, pickles: Mapping[str, PickleSource]) -> Plan:
  missing = [split for split in image_set.SPLITS if split not in pickles]
  if missing:
    there = ' and '.join(str(pickle) for pickle in pickles.values())
    raise DataError(f'The source {source!r} has no file for {" and ".join(missing)}, and '
                    f'has {there}: the pickles of train, val and test are all needed.')
  sources = [pickles[split] for split in image_set.SPLITS]
  classes = {
      split: sorted_classes(
          (label, (index, name)) for label, names in pickle.classes().items()
          for name in names)
      for index, (split, pickle) in enumerate(zip(image_set.SPLITS, sources))}
  problems = Problems()
  class_files.check_disjoint(classes, problems)
  problems.raise_if_any(f'The source {source!r}')
  return Plan(classes, sources, 'pickles')


if __name__ == '__main__':
  sys.exit(main())
