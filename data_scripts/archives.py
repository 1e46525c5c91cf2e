"""What data come in: a folder, a zip or a tar archive, read without extracting.

The three kinds of source have one interface: `names()` lists what there is, and
`read(names)` yields the bytes, in the order in which they are stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

from data_scripts.folder_source import FolderSource
from data_scripts.source_items import HONEST, Limits
from data_scripts.tar_source import TarSource
from data_scripts.zip_source import ZipSource
from maml_tf.errors import DataError

ARCHIVE_SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tbz2', '.tar.xz', '.txz')
Source = Union[FolderSource, ZipSource, TarSource]


def open_source(path: Union[str, Path], limits: Limits = HONEST) -> Source:
  """The source at a path: a folder, a zip archive, or a tar archive.

  Raises:
    DataError: for a path that does not exist, or a file of another kind.
  """
  path = Path(path)
  if path.is_dir():
    return FolderSource(path, limits=limits)
  if not path.exists():
    raise DataError(f'There is no file or folder {str(path)!r}: check the path.')
  if not path.name.lower().endswith(ARCHIVE_SUFFIXES):
    raise DataError(f'{str(path)!r} is neither a folder nor an archive '
                    f'({", ".join(ARCHIVE_SUFFIXES)}): name one of these, or the folder that '
                    'it is in, unpacked where it is packed otherwise.')
  kind = ZipSource if path.name.lower().endswith('.zip') else TarSource
  return kind(path, limits)
