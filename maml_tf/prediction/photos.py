"""The images of a task of one's own, read as training saw its images. No TensorFlow here."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, List, NamedTuple, Sequence, Tuple

import numpy as np

from maml_tf.errors import DataError
from maml_tf.measures import counted
from maml_tf.sources import class_folders

if TYPE_CHECKING:
  from maml_tf.config import Config

LEAST_CLASSES = 2
_SHOWN = 5   # problems in a message


class Photos(NamedTuple):
  """Images in their order.

  Attributes:
    names: of the files, as the user can find them.
    pixels: uint8 `[images, height, width, channels]`.
    left_out: sentences on files that were passed over.
  """
  names: List[str]
  pixels: np.ndarray
  left_out: Sequence[str] = ()


class Support(NamedTuple):
  """A task: the classes' names, and their images.

  Attributes:
    classes: sorted; the place of a class is its label.
    labels: int32 `[images]`, in the order of an episode.
    pixels: uint8 `[images, height, width, channels]`.
    left_out: sentences on files that were passed over.
  """
  classes: List[str]
  labels: np.ndarray
  pixels: np.ndarray
  left_out: Sequence[str] = ()

  @property
  def counts(self) -> List[int]:
    """Images of each class."""
    return np.bincount(self.labels, minlength=len(self.classes)).tolist()


def read_support(folder: str, config: 'Config') -> Support:
  """The photos in the class folders of `folder`, however many each has.

  Raises:
    DataError: where there are no two class folders with images, or a folder or files that
      cannot be read: all of these files are named.
  """
  if not os.path.isdir(folder):
    raise DataError(f'--support={folder} is not a folder: give one with a folder of photos '
                    'for each class.')
  from data_scripts.file_names import is_junk
  _, names, _ = next(os.walk(folder, onerror=_refuse))
  files = {name: image_files(os.path.join(folder, name)) for name in sorted(names)
           if not is_junk(name)}
  empty = [name for name, paths in files.items() if not paths]
  if empty or len(files) < LEAST_CLASSES:
    there = f'no image in {", ".join(empty[:_SHOWN])}' if empty else (
        counted(len(files), 'class folder'))
    raise DataError(f'--support={folder} has {there}: it must have a folder for each of '
                    f'{LEAST_CLASSES} classes or more, each with an image or more.')
  numbered = _as_episodes_have_them(list(files.values()))
  paths, labels = [path for path, _ in numbered], [label for _, label in numbered]
  return Support(list(files), np.array(labels, np.int32), _pixels(paths, config), [
      *_not_read([folder]), *class_folders.left_out(
          sorted(set(image_files(folder, deep=True)) - set(paths)),
          'they do not lie in a class folder itself: put them there')])


def _as_episodes_have_them(classes: Sequence[Sequence[str]]) -> List[Tuple[str, int]]:
  """(path, label): the first of each class, the second of each, and so on, as in training,
  since a method may depend on the order (matching nets with full context).

  Example:
    >>> _as_episodes_have_them([['a', 'b', 'c'], ['d']])
    [('a', 0), ('d', 1), ('b', 0), ('c', 0)]
  """
  by_place = itertools.zip_longest(*classes)
  return [(path, label) for of_place in by_place for label, path in enumerate(of_place)
          if path is not None]


def read_query(places: Sequence[str], config: 'Config') -> Photos:
  """The photos to be classified: files, and all in folders, with the folders in them.

  Raises:
    DataError: where there is none, a folder that cannot be read, or files: all of these
      are named.
  """
  paths: List[str] = []
  for place in places:
    if not os.path.exists(place):
      raise DataError(f'--query={place} does not exist: give files, or a folder with photos.')
    paths += image_files(place, deep=True) if os.path.isdir(place) else [place]
  if not paths:
    raise DataError(f'--query={" ".join(places)} has no image to classify: give files, or a '
                    'folder with photos.')
  return Photos(paths, _pixels(paths, config), _not_read(places))


def image_files(folder: str, deep: bool = False) -> List[str]:
  """The paths of the images in a folder, by the ends of their names, in sorted order."""
  from data_scripts.tables import IMAGE_SUFFIXES
  return _files(folder, IMAGE_SUFFIXES, deep)


def _files(folder: str, suffixes: Tuple[str, ...], deep: bool) -> List[str]:
  """The paths of the files in a folder with such an end of their names, in sorted order;
  `deep`: and of those in the folders in it, links to folders among them, each once."""
  from data_scripts.file_names import is_junk
  found, seen = [], set()
  for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
    home = os.path.realpath(place)
    if home in seen:
      folders.clear()
      continue
    seen.add(home)
    folders[:] = sorted(name for name in folders if deep and not is_junk(name))
    found += [os.path.join(place, name) for name in sorted(names)
              if name.lower().endswith(suffixes) and not is_junk(name)]
  return found


def _refuse(error: OSError) -> None:
  raise DataError(f'{error.filename} cannot be read ({error.strerror}): make it readable, or '
                  'take it away.') from error


def _not_read(places: Sequence[str]) -> List[str]:
  """A sentence on the files in these folders that are photos of another kind."""
  from data_scripts.tables import OTHER_IMAGE_SUFFIXES
  return class_folders.left_out([path for place in places if os.path.isdir(place)
                    for path in _files(place, OTHER_IMAGE_SUFFIXES, deep=True)],
                   'such files are not read: save them as JPEG or PNG')


def _pixels(paths: Sequence[str], config: 'Config') -> np.ndarray:
  images, problems = [], []
  for path in paths:
    try:
      with open(path, 'rb') as file:
        images.append(config.problem.pixels(file.read(), config))
    except OSError as error:
      problems.append(f'{path}: {error.strerror}')
    except DataError as error:
      problems.append(f'{path}: {error}')
  class_folders.require_readable(problems, len(paths))
  return np.stack(images)
