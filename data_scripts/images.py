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

from data_scripts.source_items import what_it_is_instead

# The largest image of ILSVRC 2012 has some 20 million pixels.
MAX_PIXELS = 64_000_000
OMNIGLOT_SIZE = (105, 105)
_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
# Of anybody's own images, which are converted.
OWN_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM')
_OWN_MODES = (*_MODES, 'I;16', 'I;16B', 'I;16L', 'I;16N', 'I')
_ORIENTATION = 0x0112   # of Exif: how a camera was held
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}
_SIDES_CHANGE = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
# Of cameras with 12 bits or fewer, whose numbers nobody spread over the 16 of the file.
NEARLY_BLACK = (' with no value above 4095 of 65535 (nearly black as 8 bits: scale such '
                'files to all of the range)')
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError,
           OverflowError, MemoryError, struct.error, zlib.error)


class ImageError(Exception):
  """A file that is not a whole image. The message is a phrase: what it is instead."""


def decode(data: bytes, formats: Sequence[str], size: Optional[tuple[int, int]] = None,
           modes: Sequence[str] = _MODES) -> Image.Image:
  """The image in a file's bytes, completely decoded.

  Its header is judged before anything is decoded, so that no file takes more memory
  than an image of `MAX_PIXELS` in four bytes a pixel, and its copy: 512 MB.

  Args:
    data: the file.
    formats: the Pillow formats that are accepted: 'PNG', 'JPEG'.
    size: the only width and height that is accepted; None: any.
    modes: the kinds of pixels that are accepted.

  Returns:
    The image, in the mode it is stored in. An orientation in the metadata is not
    applied: the TF1 code, and the published sets, take pixels as they are stored.

  Raises:
    ImageError: for a file that is empty, of another format, damaged, cut off, too
      large, of another size, or of an unusual pixel format. Bytes changed inside a
      JPEG cannot be noticed: it has no checksum. A PNG has, and it is checked.
  """
  instead = what_it_is_instead(data[:512])
  if instead:
    raise ImageError(instead)
  try:
    image = _opened(data, formats)
    _check_form(image, size, modes)
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


def _check_form(image: Image.Image, size: Optional[tuple[int, int]],
                modes: Sequence[str]) -> None:
  width, height = image.size
  if size not in (None, image.size):
    raise ImageError(f'{width} x {height} pixels, expected {size[0]} x {size[1]}')
  # The decoder of WebP keeps copies.
  if width * height > (MAX_PIXELS // 2 if image.format == 'WEBP' else MAX_PIXELS):
    raise ImageError(f'{width} x {height} pixels, more than any image of the set')
  if image.mode not in modes:
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
    uint8 `[side, side, 1]`, inverted: ink is 255. What is transparent is paper.

  Source: the TF1 code asks for Lanczos, but Pillow resizes a 1-bit image by nearest
  neighbour whatever is asked for: its images are those of 'nearest', and binary.

  Raises:
    ImageError: see `decode`; also for another size, for one colour alone, and for white on
      black.
  """
  grey = _resized(decode(data, ('PNG',), size=size), 'L', size)
  _require_ink_on_paper(np.asarray(grey))
  resample = {'nearest': Image.Resampling.NEAREST,
              'lanczos': Image.Resampling.LANCZOS}[image_filter]
  grey = np.asarray(grey.resize((side, side), resample))   # a copy at `side`
  return (255 - grey)[:, :, np.newaxis]


def _require_ink_on_paper(grey: np.ndarray) -> None:
  """Of Omniglot's drawings 0.2 to 22% are ink."""
  if grey.min() == grey.max():
    raise ImageError('one colour alone, and no drawing')
  if grey.mean() < 128:
    raise ImageError('more black than white, and ink is black')


def miniimagenet_pixels(data: bytes, side: int) -> tuple[np.ndarray, Optional[str]]:
  """A photograph as the net sees it.

  Args:
    data: the JPEG file. (Some of ILSVRC's '.JPEG' files are PNGs: accepted.)
    side: height and width of the result in pixels.

  Returns:
    uint8 RGB `[side, side, 3]`, and the stored mode where it was not RGB, else None.
    What is transparent is put on white.
    An image that has the size already is not resampled, any other one is resized
    with Lanczos, without regard to its proportions, as the TF1 code does. (The TF1
    code saved the resized image as a JPEG once more; that loss is not repeated.)

  Raises:
    ImageError: see `decode`.
  """
  image = decode(data, ('JPEG', 'PNG'))
  note = None if image.mode == 'RGB' else image.mode
  return np.asarray(_resized(image, 'RGB', (side, side))), note


def own_pixels(data: bytes, height: int, channels: int, width: Optional[int] = None
               ) -> tuple[np.ndarray, Optional[str]]:
  """Anybody's image as the net sees it.

  Args:
    data: a file of one of `OWN_FORMATS`; of several pictures in it, the first.
    height: of the result in pixels.
    channels: 3: RGB; 1: grey.
    width: of the result; None: as its height.

  Returns:
    uint8 `[height, width, channels]`, and how it was stored where that was something else.
    Of 16 bits the upper 8 are taken, what is transparent is put on white, and the image is
    turned as its Exif says. It is resized with Lanczos, without regard to its proportions.

  Raises:
    ImageError: see `decode`.
  """
  image = decode(data, OWN_FORMATS, modes=_OWN_MODES)
  wanted = 'RGB' if channels == 3 else 'L'
  width = height if width is None else width
  try:
    turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    size = (height, width) if turn in _SIDES_CHANGE else (width, height)
    stored = image.mode + (' turned by its Exif' if turn is not None else '')
    if image.mode.startswith('I'):
      image, brightest = _of_8_bits(image, size)
      stored += NEARLY_BLACK if brightest < 1 << 12 else ''
    image = _resized(image, wanted, size)
    if turn is not None:
      image = image.transpose(turn)
  except _DAMAGE as error:
    raise ImageError(f'cannot be converted to {wanted}: {error}') from error
  pixels = np.asarray(image).reshape(height, width, channels)
  return pixels, None if stored == wanted else stored


def _resized(image: Image.Image, mode: str, size: tuple[int, int]) -> Image.Image:
  """In that mode, 'RGB' or 'L', and size, by Lanczos; what is transparent is put on white.

  Raises:
    ImageError: where it cannot be converted.
  """
  is_transparent = 'A' in image.mode or 'transparency' in image.info
  wanted = 'RGBA' if is_transparent else mode
  try:
    if image.mode != wanted:   # else it would be copied
      image = image.convert(wanted)
    if image.size != size:   # small first, for the same reason
      image = image.resize(size, Image.Resampling.LANCZOS)
    if is_transparent:
      paper = Image.new('RGBA', image.size, 'white')
      image = Image.alpha_composite(paper, image).convert(mode)
  except _DAMAGE as error:
    raise ImageError(f'cannot be converted to {mode}: {error}') from error
  return image


def _of_8_bits(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, int]:
  """Grey of 16 bits, resized, and its largest value; Pillow would make 255 of all above it.

  Raises:
    ImageError: for more than 16 bits.
  """
  image = image.convert('I')
  low, high = image.getextrema()
  if low < 0 or high >= 1 << 16:
    raise ImageError('pixels of more than 16 bits, not grey or colour')
  if image.size != size:
    image = image.resize(size, Image.Resampling.LANCZOS)
  pixels = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
  return Image.fromarray(pixels), high
