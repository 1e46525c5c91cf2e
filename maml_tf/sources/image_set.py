"""The prepared form of an image data set: a manifest and three NumPy arrays.

A prepared folder holds

    manifest.json   what the set is, how it was made, its classes, its hashes
    train.npy       uint8 `[images, height, width, channels]`
    val.npy         the same
    test.npy        the same

The images of a split are ordered by class name, and within a class by file name,
so that a class is one contiguous block and an image has the same index on every
machine. `data_scripts/image_set_writer.py` writes this form;
training and evaluation read it with `load_split`.

Nothing here needs TensorFlow.
"""

from __future__ import annotations

import functools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from maml_tf import paths
from maml_tf.bounded import read_json
from maml_tf.errors import DataError
from maml_tf.files import sha256_of_file
from maml_tf.sources.image_file import ImageFile

FORMAT = 'maml_tf image set'
VERSION = 1
MANIFEST = 'manifest.json'
SPLITS = ('train', 'val', 'test')
# {name of the set: shape of an image [height, width, channels]}.
IMAGE_SHAPES = {'omniglot': (28, 28, 1), 'miniimagenet': (84, 84, 3)}
# The name of anybody's own set, whose shape its manifest gives.
OWN_IMAGES = 'images'
LARGEST_SIDE = 1024   # of such a set's images

PREPARED_FILES = {MANIFEST} | {f'{split}.npy' for split in SPLITS}
# File managers write these into every folder that is looked at.
LEFT_BY_SYSTEMS = {'.DS_Store', 'Thumbs.db', 'desktop.ini', 'Icon\r'}
# A split up to this size is kept in memory, as Omniglot's are (17 MB); a larger one stays on
# the disk.
_READ_BYTES = 64 << 20

PathLike = Union[str, 'os.PathLike[str]']


@dataclass(frozen=True)
class ImageSplit:
  """The images of one split of one set.

  Attributes:
    name: of the set, a key of `IMAGE_SHAPES` or `OWN_IMAGES`.
    split: 'train', 'val' or 'test'.
    images: uint8 `[images, height, width, channels]`, not to be written to; memory-mapped
      where it is large: `read` what may change. 0 is black. Omniglot is stored inverted: ink
      is 255, paper is 0.
    class_names: sorted; the images of a class stand together, in this order.
    class_counts: int64 `[classes]`, images of each class.
    sha256: of the split's .npy file, 64 hexadecimal digits.
    file: what `read` reads; None: `images`, which are in memory.
  """
  name: str
  split: str
  images: np.ndarray
  class_names: tuple[str, ...]
  class_counts: np.ndarray
  sha256: str
  file: Optional[ImageFile] = None

  def read(self, indices: np.ndarray) -> np.ndarray:
    """Images of the split, `[*shape of indices, height, width, channels]`, a copy.

    Raises:
      DataError: where they are on the disk, and cannot be read, or were changed.
    """
    return (self.images if self.file is None else self.file)[indices]

  @property
  def class_starts(self) -> np.ndarray:
    """int64 `[classes]`: the index of the first image of each class."""
    return np.cumsum(self.class_counts) - self.class_counts


def load_split(data_dir: PathLike, name: str, split: str) -> ImageSplit:
  """Opens one split of a prepared set, after checking that it is whole.

  The file's SHA-256 is computed on every call. For the largest split there is,
  mini-ImageNet's training images (813 MB), that takes about half a second on a
  CPU with SHA instructions and about two without, and it leaves the images in
  the page cache, where the first epoch needs them anyway.

  Args:
    data_dir: the prepared folder.
    name: the set it must hold, a key of `IMAGE_SHAPES` or `OWN_IMAGES`.
    split: 'train', 'val' or 'test'.

  Raises:
    DataError: where the folder, the manifest or the split's file is missing,
      damaged, of another set or version, or does not fit its SHA-256.
  """
  if name not in (*IMAGE_SHAPES, OWN_IMAGES):
    raise DataError(f'The image set {name!r} is not known; known are '
                    f'{", ".join((*sorted(IMAGE_SHAPES), OWN_IMAGES))}.')
  if split not in SPLITS:
    raise DataError(f'The split {split!r} is not known; known are {", ".join(SPLITS)}.')
  folder = Path(data_dir)
  manifest = read_manifest(folder, name)
  entry = manifest['splits'][split]
  class_counts = np.array([row['count'] for row in entry['classes']], dtype=np.int64)
  images, file = _open_images(folder, name, split, entry['sha256'],
                              (int(class_counts.sum()), *manifest['image_shape']))
  return ImageSplit(name=name, split=split, images=images, file=file,
                    class_names=tuple(row['name'] for row in entry['classes']),
                    class_counts=class_counts, sha256=entry['sha256'])


def read_manifest(data_dir: PathLike, name: str) -> dict[str, Any]:
  """The checked manifest of a prepared folder.

  Args:
    data_dir: the prepared folder.
    name: the set it must hold, a key of `IMAGE_SHAPES` or `OWN_IMAGES`.

  Returns:
    {'format', 'version', 'name', 'image_shape', 'splits': {split: {'file',
    'sha256', 'classes': [{'name', 'count'}]}}, 'preparation': {...}}.

  Raises:
    DataError: for a folder without manifest or that cannot be read, or a manifest that is
      damaged, of another set, or of another version.
  """
  try:
    return _checked_manifest(Path(data_dir), name)
  except OSError as error:   # no permission, or no path at all
    raise DataError(f'The folder {str(data_dir)!r} of the set {name!r} cannot be read '
                    f'({error.strerror or error}): check the path and its permissions, or '
                    'give another one as --data_dir.') from error


def _checked_manifest(folder: Path, name: str) -> dict[str, Any]:
  remedy = _preparation_command(name, folder)
  if folder.exists() and not folder.is_dir():
    raise DataError(f'{str(folder)!r} is a file, and no folder with {_prepared(name)}: give '
                    'that folder as --data_dir.')
  if not folder.is_dir():
    where = '' if folder.is_absolute() else f' in {os.getcwd()}'
    raise DataError(f'There is no folder {str(folder)!r}{where} with '
                    f'{_prepared(name)}: prepare them with {remedy}.')
  path = folder / MANIFEST
  if not path.is_file():
    found = {entry.name for entry in folder.iterdir()} - LEFT_BY_SYSTEMS
    if found and not found & PREPARED_FILES:   # the source itself, perhaps
      out = f'data/{name}'
      if os.path.realpath(out) == os.path.realpath(folder):   # which is not replaced
        out += '-prepared'
      remedy = f'`python {_script_of(name)} --source={shlex.quote(str(folder))} --out={out}`'
    raise DataError(f'The folder {str(folder)!r} has no {MANIFEST}, so it does not hold '
                    f'{_prepared(name)}: prepare them with {remedy}.')
  try:
    manifest = read_json(path)
  except (OSError, ValueError) as error:
    raise DataError(f'{str(path)!r} cannot be read as JSON ({error}): prepare the set again '
                    f'with {remedy} --overwrite.') from error
  other = manifest.get('name') if isinstance(manifest, dict) else None
  if other != name and other in (*IMAGE_SHAPES, OWN_IMAGES):
    raise DataError(f'{str(path)!r} describes the set {other!r}, and {name!r} is expected: '
                    f'give --datasource={other}, or the folder of {name} as --data_dir.')
  problem = _manifest_problem(manifest, name)
  if problem:
    raise DataError(f'{str(path)!r} {problem}: prepare the set again with {remedy}, into '
                    'another folder or with --overwrite.')
  return manifest


def _prepared(name: str) -> str:
  """What a folder is to hold, for a message."""
  return 'prepared images of your own' if name == OWN_IMAGES else f'the prepared {name} images'


def _preparation_command(name: str, folder: Path) -> str:
  source = '--source=SOURCE (or --download)' if name == 'omniglot' else '--source=SOURCE'
  return f'`python {_script_of(name)} {source} --out={shlex.quote(str(folder))}`'


def _script_of(name: str) -> str:
  return paths.of_script(f'data_scripts/prepare_{name}.py')


def _manifest_problem(manifest: Any, name: str) -> Optional[str]:
  """What is wrong with a manifest, to follow its path in a sentence; or None."""
  if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
    return f'is not the manifest of a prepared image set (format {FORMAT!r})'
  if manifest.get('version') != VERSION:
    return (f'has version {manifest.get("version")!r} of the prepared form, and this code '
            f'reads version {VERSION}')
  if manifest.get('name') != name:
    return f'describes the set {manifest.get("name")!r}, and {name!r} is expected'
  if name in IMAGE_SHAPES and manifest.get('image_shape') != list(IMAGE_SHAPES[name]):
    return (f'gives images the shape {manifest.get("image_shape")!r}, and {name} has '
            f'{list(IMAGE_SHAPES[name])}')
  if not _is_image_shape(manifest.get('image_shape')):
    return (f'gives images the shape {manifest.get("image_shape")!r}, and it must be [height, '
            f'width, channels] of at most {LARGEST_SIDE}, with 1 or 3 channels')
  if not isinstance(manifest.get('preparation'), dict):
    return "lacks the object 'preparation'"
  splits = manifest.get('splits')
  if not isinstance(splits, dict) or set(splits) != set(SPLITS):
    return f'must describe the splits {", ".join(SPLITS)}, and no others'
  for split in SPLITS:
    problem = _split_problem(splits[split], split)
    if problem:
      return f'{problem} in the split {split}'
  names = [row['name'] for split in SPLITS for row in splits[split]['classes']]
  if len(set(names)) < len(names):
    return 'has a class that stands in more than one split'
  return None


def _is_image_shape(shape: Any) -> bool:
  return (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape)
          and all(0 < side <= LARGEST_SIDE for side in shape[:2]) and shape[2] in (1, 3))


def _split_problem(entry: Any, split: str) -> Optional[str]:
  if not isinstance(entry, dict):
    return 'must have an object'
  if entry.get('file') != f'{split}.npy':
    return f'names the file {entry.get("file")!r} instead of {split + ".npy"!r}'
  digest = entry.get('sha256')
  if not (isinstance(digest, str) and len(digest) == 64
          and set(digest) <= set('0123456789abcdef')):
    return 'has no valid SHA-256'
  rows = entry.get('classes')
  if not (isinstance(rows, list) and rows and all(map(_is_class_row, rows))):
    return 'has no valid list of classes {name, count}'
  names = [row['name'] for row in rows]
  if any(second <= first for first, second in zip(names, names[1:])):
    return 'has classes that are not in sorted order or not distinct'
  return None


def _is_class_row(row: Any) -> bool:
  return (isinstance(row, dict) and isinstance(row.get('name'), str) and row['name'] != ''
          and type(row.get('count')) is int and 0 < row['count'] < 2**31)


def _open_images(folder: Path, name: str, split: str, sha256: str,
                 shape: tuple[int, ...]) -> tuple[np.ndarray, Optional[ImageFile]]:
  """The images, and what reads them where they are not in memory."""
  path = folder / f'{split}.npy'
  remedy = f'prepare the set again with {_preparation_command(name, folder)} --overwrite'
  if not path.is_file():
    raise DataError(f'The prepared {name} set lacks the file {str(path)!r}: {remedy}.')
  try:
    _check_version(path)
    images = np.load(path, mmap_mode='r', allow_pickle=False)
    # Opened before it is hashed: what changes after that is noticed.
    file = _to_be_read(path, sha256, images)
    received = _sha256_once(str(path), _signature(path))
  except (OSError, ValueError, EOFError) as error:
    raise DataError(f'{str(path)!r} cannot be read as a NumPy array ({error}): '
                    f'{remedy}.') from error
  if (images.dtype, images.shape) != (np.uint8, shape):
    raise DataError(f'{str(path)!r} holds {images.dtype} {list(images.shape)}, and its '
                    f'manifest promises uint8 {list(shape)}: {remedy}.')
  if received != sha256:
    raise DataError(f'{str(path)!r} has the SHA-256 {received}, and its manifest promises '
                    f'{sha256}, so the images were changed or damaged: {remedy}.')
  if images.nbytes <= _READ_BYTES:
    images = np.array(images)
    images.flags.writeable = False
  return images, file


def _to_be_read(path: Path, sha256: str, images: np.memmap) -> Optional[ImageFile]:
  """None for images that memory holds, or where there is no `preadv`: Windows, which lets
  nobody shorten what is mapped."""
  if images.nbytes <= _READ_BYTES or not hasattr(os, 'preadv'):
    return None
  return ImageFile(str(path), sha256, images.offset, images.shape)


def _check_version(path: Path) -> None:
  """Raises ValueError for a file that would be read as something else than an array."""
  with open(path, 'rb') as file:
    start = file.read(8)
  if start.startswith(b'PK'):
    raise ValueError('it is an archive of arrays')
  # A header of version 2 may have 4 GiB, and is read in one piece.
  if start.startswith(b'\x93NUMPY') and start[6:] != bytes([1, 0]):
    raise ValueError('its header is not of version 1.0')


def _signature(path: Path) -> tuple[int, ...]:
  """Changes when the file does, but for a disk that lies."""
  status = path.stat()
  return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.lru_cache(maxsize=64)
def _sha256_once(path: str, signature: tuple[int, ...]) -> str:
  """A classifier's run opens the same gigabyte three times."""
  return sha256_of_file(path)


def random_images(name: str, shape: tuple[int, ...], classes: int, per_class: int
                  ) -> ImageSplit:
  """Images of noise, for measuring speed without the data."""
  images = np.random.default_rng(0).integers(0, 256, (classes * per_class, *shape), np.uint8)
  return ImageSplit(
      name=name, split='train', images=images, sha256='',
      class_names=tuple(f'class{i}' for i in range(classes)),
      class_counts=np.full(classes, per_class, np.int64))


def completed_preparation(data_dir: PathLike, name: str) -> Optional[dict[str, Any]]:
  """The `preparation` of a prepared set that is whole; None for anything else.

  Args:
    data_dir: the folder that may hold a prepared set. All of it is checked,
      hashes included.
    name: a key of `IMAGE_SHAPES`, or `OWN_IMAGES`.
  """
  try:
    for split in SPLITS:
      load_split(data_dir, name, split)
    return read_manifest(data_dir, name)['preparation']
  except DataError:
    return None
