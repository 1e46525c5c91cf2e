"""Decodes image files that may be damaged or hostile, and resizes them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Optional

import numpy as np
from PIL import Image

from data_scripts import archives

# The largest image of ILSVRC 2012 has some 20 million pixels.
MAX_PIXELS = 64_000_000
OMNIGLOT_SIZE = (105, 105)
_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError,
           OverflowError, MemoryError, struct.error, zlib.error)


class ImageError(Exception):
  """A file that is not a whole image. The message is a phrase: what it is instead."""


def decode(data: bytes, formats: Sequence[str],
           size: Optional[tuple[int, int]] = None) -> Image.Image:
  """The image in a file's bytes, completely decoded.

  Its header is judged before anything is decoded, so that no file takes more memory
  than an image of `MAX_PIXELS` in four bytes a pixel, and its copy: 512 MB.

  Args:
    data: the file.
    formats: the Pillow formats that are accepted: 'PNG', 'JPEG'.
    size: the only width and height that is accepted; None: any.

  Returns:
    The image, in the mode it is stored in. An orientation in the metadata is not
    applied: the TF1 code, and the published sets, take pixels as they are stored.

  Raises:
    ImageError: for a file that is empty, of another format, damaged, cut off, too
      large, of another size, or of an unusual pixel format. Bytes changed inside a
      JPEG cannot be noticed: it has no checksum. A PNG has, and it is checked.
  """
  instead = archives.what_it_is_instead(data[:512])
  if instead:
    raise ImageError(instead)
  try:
    image = _opened(data, formats)
    _check_form(image, size)
    if image.format == 'PNG':
      image.verify()   # the checksums, which decoding passes over
      image = _opened(data, formats)
    image.load()
  except Image.DecompressionBombError as error:
    raise ImageError('more pixels than any image of the set') from error
  except Image.UnidentifiedImageError as error:
    raise ImageError(f'not a {" or ".join(formats)} image') from error
  except _DAMAGE as error:
    raise ImageError(f'damaged or cut off: {error}') from error
  return image


def _opened(data: bytes, formats: Sequence[str]) -> Image.Image:
  with warnings.catch_warnings():   # of many pixels; `_check_form` refuses them
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    return Image.open(io.BytesIO(data), formats=tuple(formats))


def _check_form(image: Image.Image, size: Optional[tuple[int, int]]) -> None:
  width, height = image.size
  if size not in (None, image.size):
    raise ImageError(f'{width} x {height} pixels, expected {size[0]} x {size[1]}')
  if width * height > MAX_PIXELS:
    raise ImageError(f'{width} x {height} pixels, more than any image of the set')
  if image.mode not in _MODES:
    raise ImageError(f'pixels of the kind {image.mode!r}, not 8-bit grey or colour')


def omniglot_pixels(data: bytes, side: int, image_filter: str,
                    size: tuple[int, int] = OMNIGLOT_SIZE) -> np.ndarray:
  """A drawing as the net sees it.

  Args:
    data: the PNG file, ink is black.
    side: height and width of the result in pixels.
    image_filter: 'nearest' or 'lanczos'.
    size: the width and height that it must have. A drawing of the size of the result,
      as the TF1 code keeps them, is taken as it is.

  Returns:
    uint8 `[side, side, 1]`, inverted: ink is 255.

  Source: the TF1 code asks for Lanczos, but Pillow resizes a 1-bit image by nearest
  neighbour whatever is asked for: its images are those of 'nearest', and binary.

  Raises:
    ImageError: see `decode`; also for another size.
  """
  image = decode(data, ('PNG',), size=size)
  resample = {'nearest': Image.Resampling.NEAREST,
              'lanczos': Image.Resampling.LANCZOS}[image_filter]
  grey = np.asarray(image.convert('L').resize((side, side), resample))   # a copy at `side`
  return (255 - grey)[:, :, np.newaxis]


def miniimagenet_pixels(data: bytes, side: int) -> tuple[np.ndarray, Optional[str]]:
  """A photograph as the net sees it.

  Args:
    data: the JPEG file. (Some of ILSVRC's '.JPEG' files are PNGs: accepted.)
    side: height and width of the result in pixels.

  Returns:
    uint8 RGB `[side, side, 3]`, and the stored mode where it was not RGB, else None.
    An image that has the size already is not resampled, any other one is resized
    with Lanczos, without regard to its proportions, as the TF1 code does. (The TF1
    code saved the resized image as a JPEG once more; that loss is not repeated.)

  Raises:
    ImageError: see `decode`.
  """
  image = decode(data, ('JPEG', 'PNG'))
  note = None if image.mode == 'RGB' else image.mode
  try:
    image = image.convert('RGB')
    if image.size != (side, side):
      image = image.resize((side, side), Image.Resampling.LANCZOS)
  except _DAMAGE as error:
    raise ImageError(f'cannot be converted to RGB: {error}') from error
  return np.asarray(image), note
