"""Images of a file that is too large to be kept in memory, read as they are asked for.

A memory map would do it in one line. But where a file gets shorter under a map, by `cp` of
another one over it or by a network file system whose server is gone, the process ends by a
signal (SIGBUS), without a word. What `pread` cannot read is an error that can be told.

Nothing here needs TensorFlow.
"""

from __future__ import annotations

import os
import weakref
from typing import Tuple

import numpy as np

from maml_tf.errors import ChangedDataError
from maml_tf.files import sha256_of

# (bytes, time of the last change in nanoseconds) of a file.
_State = Tuple[int, int]

_SHORTER = 'it got shorter'


class ImageFile:
  """The images of a .npy file, uint8 `[images, height, width, channels]`, at their indices.

  The file stays open. One that is removed, or replaced by renaming another one into its
  place, is read to the end of the run; one that is written to is noticed at the next read.

  Args:
    path: of the file.
    sha256: of its bytes.
    first_byte: of the images, behind the header.
    shape: `[images, height, width, channels]`.

  Raises:
    OSError: where it cannot be opened.
  """

  def __init__(self, path: str, sha256: str, first_byte: int, shape: Tuple[int, ...]):
    self._path, self._sha256 = path, sha256
    self._first_byte, self._shape = first_byte, shape
    self._number = os.open(path, os.O_RDONLY)
    weakref.finalize(self, os.close, self._number)
    self._state = self._state_now()

  def __getitem__(self, indices: np.ndarray) -> np.ndarray:
    """uint8 `[*shape of indices, height, width, channels]`, in memory.

    Raises:
      ChangedDataError: where the file cannot be read, or is another one than it was.
    """
    images = np.empty((indices.size, *self._shape[1:]), np.uint8)
    try:
      for image, index in zip(images, indices.ravel()):
        self._read(memoryview(image).cast('B'), int(index))
      self._require_same()
    except OSError as error:
      raise ChangedDataError(f'{self._path!r} cannot be read any more '
                             f'({error.strerror or error}): {self._remedy}.') from error
    return images.reshape(*indices.shape, *self._shape[1:])

  def _read(self, image: memoryview, index: int) -> None:
    place = self._first_byte + index * len(image)
    while len(image):
      count = os.preadv(self._number, [image], place)
      if count == 0:
        raise OSError(_SHORTER)
      image, place = image[count:], place + count

  def _require_same(self) -> None:
    """After a read: what was written before it has changed the file's time by then."""
    state = self._state_now()
    if state == self._state:
      return
    if state[0] < self._state[0]:   # the same fault as a read that finds the end, just earlier
      raise OSError(_SHORTER)
    if self._sha256_now() != self._sha256:
      raise ChangedDataError(
          f'{self._path!r} was changed while it was in use: {self._remedy}.')
    self._state = state   # as by `touch`

  def _state_now(self) -> _State:
    status = os.fstat(self._number)
    return status.st_size, status.st_mtime_ns

  def _sha256_now(self) -> str:
    return sha256_of(lambda chunk, place: os.preadv(self._number, [chunk], place))

  @property
  def _remedy(self) -> str:
    return ('put it back as it was, or prepare the set again, and the same command goes on '
            'from the last checkpoint')
