"""Writes the prepared form of an image data set, which `maml_tf.sources.image_set` reads."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional

import numpy as np

from maml_tf.errors import DataError
from maml_tf.files import as_json, make_written, sha256_of_file, write_whole
from maml_tf.locks import HeldError, locked
from maml_tf.sources.image_set import (
  FORMAT,
  IMAGE_SHAPES,
  LEFT_BY_SYSTEMS,
  MANIFEST,
  PREPARED_FILES,
  SPLITS,
  VERSION,
  PathLike,
  load_split,
)

# Room to leave on the disk beyond the images themselves: the manifest, the log.
_SPARE_BYTES = 16 << 20


class ImageSetWriter:
  """Writes a prepared set so that its folder appears whole or not at all.

  Everything is written into a staging folder beside the target and renamed into
  place by `finish`. An interrupted run leaves at most a staging folder, which
  the next run empties; a lock beside it tells a dead run from a living one.

      with ImageSetWriter('data/omniglot', 'omniglot') as writer:
        for split, classes in ...:          # classes: [(name, number of images)]
          with writer.split(split, classes) as images:
            images.put(index, image)        # in any order
        writer.finish(preparation)

  Args:
    out_dir: the target folder. Its parents are made.
    name: a key of `IMAGE_SHAPES`, or `OWN_IMAGES`.
    overwrite: replace a prepared set in the target, whole or damaged. A folder
      that holds anything else is never replaced.
    image_shape: [height, width, channels]; None: that of the set's name.

  Raises:
    DataError: at entry, where the target cannot be written or another run is
      preparing it.
  """

  def __init__(self, out_dir: PathLike, name: str, overwrite: bool = False,
               image_shape: Optional[tuple[int, ...]] = None):
    # A target that is a link stays one: what it points to is replaced.
    self._target = Path(os.path.realpath(out_dir))
    self._name = name
    self._image_shape = image_shape or IMAGE_SHAPES[name]
    self._overwrite = overwrite
    self._staging = self._target.parent / f'.{self._target.name}.preparing'
    self._replaced = self._target.parent / f'.{self._target.name}.replaced'
    self._lock = contextlib.ExitStack()
    self._splits: dict[str, dict[str, Any]] = {}
    self._to_come: dict[str, int] = {}   # bytes of the splits that are being written

  def __enter__(self) -> 'ImageSetWriter':
    self._target.parent.mkdir(parents=True, exist_ok=True)
    try:
      self._lock.enter_context(locked(f'{self._staging}.lock'))
    except HeldError as holder:
      raise DataError(f'Another run ({holder}) is preparing {str(self._target)!r} at this '
                      'moment: wait until it ends, or choose another --out.') from holder
    try:
      self._staging.mkdir(exist_ok=True)
      self._recover_interrupted_replacement()
      self._check_target()
      for leftover in self._staging.iterdir():
        leftover.unlink()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_) -> None:
    shutil.rmtree(self._staging, ignore_errors=True)
    self._lock.close()

  def split(self, split: str, classes: Sequence[tuple[str, int]]) -> 'SplitWriter':
    """The writer of one split, to be used as a context manager.

    Args:
      split: 'train', 'val' or 'test'.
      classes: (name, images) of each class, in sorted order.

    Raises:
      DataError: at entry, where the disk has no room for it and the others that are
        being written.
    """
    return SplitWriter(self._staging, split, classes, self._image_shape, self._splits,
                       self._to_come)

  def finish(self, preparation: Mapping[str, Any]) -> None:
    """Writes the manifest, checks the whole set, and puts it in place.

    Args:
      preparation: JSON values: the options and the source form it was made with.

    Raises:
      DataError: where a split is missing or the target cannot be replaced.
    """
    manifest = {'format': FORMAT, 'version': VERSION, 'name': self._name,
                'image_shape': list(self._image_shape),
                'splits': {split: self._splits.get(split) for split in SPLITS},
                'preparation': dict(preparation)}
    write_whole(str(self._staging / MANIFEST), as_json(manifest, indent=1))
    for split in SPLITS:
      load_split(self._staging, self._name, split)
    self._check_target()
    self._put_in_place()

  def _check_target(self) -> None:
    if not self._target.exists():
      return
    if not self._target.is_dir():
      raise DataError(f'{str(self._target)!r} is a file, and a folder is needed: choose '
                      'another --out.')
    found = {entry.name for entry in self._target.iterdir()}
    foreign = sorted(found - PREPARED_FILES - LEFT_BY_SYSTEMS)
    if foreign:
      raise DataError(f'The folder {str(self._target)!r} holds other things than a prepared '
                      f'image set ({", ".join(foreign[:3])}), so it is not replaced: choose '
                      'another --out.')
    if found - LEFT_BY_SYSTEMS and not self._overwrite:
      raise DataError(f'The folder {str(self._target)!r} already holds a prepared set or '
                      'parts of one: choose another --out, or replace it with --overwrite.')

  def _recover_interrupted_replacement(self) -> None:
    if self._replaced.is_dir():
      if self._target.exists():
        shutil.rmtree(self._replaced)
      else:
        os.replace(self._replaced, self._target)

  def _put_in_place(self) -> None:
    # A folder cannot be renamed over another one that has files. Between the
    # two renames there is no target; `_recover_...` undoes an interruption there.
    if self._target.exists():
      os.replace(self._target, self._replaced)
    try:
      os.replace(self._staging, self._target)
    except BaseException:
      self._recover_interrupted_replacement()
      raise
    shutil.rmtree(self._replaced, ignore_errors=True)


class SplitWriter:
  """Writes the images of one split, in any order; see `ImageSetWriter`.

  The images go straight to their place in the .npy file, by ordinary writes and
  not through a writable memory map: a full disk is then an `OSError`, and not the
  end of the process by a bus error.
  """

  def __init__(self, folder: Path, split: str, classes: Sequence[tuple[str, int]],
               image_shape: tuple[int, ...], finished: dict[str, dict[str, Any]],
               to_come: dict[str, int]):
    self._path = folder / f'{split}.npy'
    self._split = split
    self._classes = list(classes)
    self._image_shape = image_shape
    self._image_bytes = int(np.prod(image_shape))
    self._finished = finished
    self._to_come = to_come
    self._written = np.zeros(sum(count for _, count in classes), dtype=bool)
    self._file: Optional[BinaryIO] = None
    self._first_byte = 0

  def __enter__(self) -> 'SplitWriter':
    self._to_come[self._split] = len(self._written) * self._image_bytes
    needed = sum(self._to_come.values()) + _SPARE_BYTES
    free = shutil.disk_usage(self._path.parent).free
    if free < needed:
      raise DataError(f'The disk of {str(self._path.parent.parent)!r} has {free >> 20} MiB '
                      f'left, and the images of {" and ".join(self._to_come)} need '
                      f'{needed >> 20} MiB: make room, or choose an --out on another disk.')
    self._file = open(self._path, 'wb')
    self._first_byte = _write_header(self._file, (len(self._written), *self._image_shape))
    self._file.truncate(self._first_byte + len(self._written) * self._image_bytes)
    return self

  def put(self, index: int, image: np.ndarray) -> None:
    """Writes one image, uint8 `[height, width, channels]`, at its index in the split."""
    if image.dtype != np.uint8 or image.shape != self._image_shape:
      raise ValueError(f'An image must be uint8 {self._image_shape}; received '
                       f'{image.dtype} {image.shape}.')
    self._file.seek(self._first_byte + index * self._image_bytes)
    self._file.write(image.tobytes())
    self._written[index] = True

  def __exit__(self, error_type, *_) -> None:
    try:
      if error_type is None:
        make_written(self._file)
    finally:
      self._file.close()
      del self._to_come[self._split]
    if error_type is None:
      if not self._written.all():
        self._close_gaps()
      counts = self._written_of_each_class()
      self._finished[self._split] = {
          'file': self._path.name, 'sha256': sha256_of_file(self._path),
          'classes': [{'name': name, 'count': count}
                      for (name, _), count in zip(self._classes, counts)]}

  def _written_of_each_class(self) -> list[int]:
    ends = np.cumsum([count for _, count in self._classes])
    return [int(part.sum()) for part in np.split(self._written, ends[:-1])]

  def _close_gaps(self) -> None:
    """Leaves out the images that were never put: those of damaged files."""
    images = np.load(self._path, mmap_mode='r', allow_pickle=False)
    dense = self._path.with_suffix('.dense')
    with open(dense, 'wb') as file:
      _write_header(file, (int(self._written.sum()), *self._image_shape))
      file.writelines(images[index].tobytes() for index in np.flatnonzero(self._written))
      make_written(file)
    del images
    os.replace(dense, self._path)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
  """Writes the .npy header of a uint8 array; returns the position of its first byte."""
  np.lib.format.write_array_header_1_0(
      file, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
  return file.tell()
