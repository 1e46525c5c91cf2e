"""The images of class folders, in memory, read as `data_scripts/prepare_images.py` reads them.

No TensorFlow here.
"""

from __future__ import annotations

import os
import warnings
from typing import List, Sequence, Tuple

import numpy as np

from maml_tf.errors import DataError


def read(folder: str, size: Tuple[int, int], channels: int) -> Tuple[np.ndarray, List[str]]:
  """All images of FOLDER/CLASS/FILE, and the class of each.

  Args:
    folder: with a folder of images for each class.
    size: (height, width) of the result.
    channels: 3: RGB; 1: grey.

  Returns:
    uint8 `[images, height, width, channels]`, see `data_scripts.images.own_pixels`; and the
    names of their class folders.

  Raises:
    DataError: where there is no such folder, a class folder without an image, or images that
      cannot be read: all of them are named.

  Warns:
    UserWarning: of files that are left out, and of images of 16 bits that are nearly black.
  """
  from data_scripts import tables
  from data_scripts.folder_source import FolderSource
  if not os.path.isdir(folder):
    raise DataError(f'There is no folder of class folders. Received: {folder}.')
  source = FolderSource(folder)
  names = source.names()
  images = [name for name in names if name.count('/') == 1 and tables.is_image(name)]
  _require_no_empty_class(folder, images)
  _warn([name for name in names if tables.is_image(name) and name.count('/') != 1],
        'they do not lie in a class folder itself: put them there')
  _warn([name for name in names if name.lower().endswith(tables.OTHER_IMAGE_SUFFIXES)],
        'such files are not read: save them as JPEG or PNG')
  _warn([name for name in names if '/' in name and tables.may_be_image(name)],
        'their names do not end as those of images')
  return _pixels(source, images, size, channels), [
      name.partition('/')[0] for name in sorted(images)]


def _require_no_empty_class(folder: str, images: Sequence[str]) -> None:
  """So that no class is gone without a word, as one of files that are not read would be."""
  from data_scripts import tables
  from data_scripts.file_names import is_junk, shortened
  classes = {name for name in os.listdir(folder)
             if os.path.isdir(os.path.join(folder, name)) and not is_junk(name)}
  empty = sorted(classes - {name.partition('/')[0] for name in images})
  if empty or not classes:
    where = (f'the class folders {shortened(empty)} of {folder}' if empty else
             f'a class folder of {folder}')
    raise DataError(f'There is no image in {where}: expected {folder}/CLASS/FILE with a name '
                    f'that ends in {", ".join(tables.IMAGE_SUFFIXES)}.')


def left_out(names: Sequence[str], why: str) -> List[str]:
  """A sentence on files that are not read; none where there are none."""
  from data_scripts.file_names import shortened
  return [f'Left out, since {why} ({shortened(names)}).'] if names else []


def require_readable(problems: Sequence[str], images: int) -> None:
  """Raises: DataError: with what is wrong with some of so many images."""
  if problems:
    raise DataError(f'{len(problems)} of {images} images cannot be read: take them away or '
                    f'save them again ({"; ".join(problems)}).')


def _warn(names: Sequence[str], why: str) -> None:
  for sentence in left_out(names, why):   # for the line that calls `tasks_from_folder`
    warnings.warn(sentence, stacklevel=4)


def _pixels(source, names: Sequence[str], size: Tuple[int, int], channels: int) -> np.ndarray:
  """Of the files in sorted order."""
  from data_scripts.file_names import shortened
  from data_scripts.images import NEARLY_BLACK, ImageError, own_pixels
  height, width = size
  images, problems = np.empty((len(names), height, width, channels), np.uint8), []
  dark = []
  for index, item in enumerate(source.read(names)):
    try:
      if item.problem:
        raise ImageError(item.problem)
      images[index], stored = own_pixels(item.data, height, channels, width)
      dark += [item.name] if NEARLY_BLACK in (stored or '') else []
    except ImageError as error:
      problems.append(f'{os.path.join(str(source), item.name)}: {error}')
  require_readable(problems, len(names))
  if dark:   # for the line that calls `tasks_from_folder`
    warnings.warn(f'Images{NEARLY_BLACK}: {shortened(dark)}.', stacklevel=4)
  return images
