"""Names of files: what systems leave behind, and how names are written and listed."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# What systems, disks and tools leave in a folder, in lower case, beside hidden files:
# macOS, Windows, network disks (Synology, QNAP), file system checks, Python.
_JUNK = {'__macosx', 'icon\r', 'icon\uf00d', 'network trash folder', 'temporary items',
         'thumbs.db', 'ehthumbs.db', 'desktop.ini', '$recycle.bin',
         'system volume information', '@eadir', '@recycle', '@recently-snapshot', '#recycle',
         '#snapshot', 'lost+found', 'found.000', '__pycache__'}
_JOINERS = '\u200c\u200d'
_NAMES_SHOWN = 5     # of a message that names files
DEEPEST_FOLDER = 32


def is_junk(name: str) -> bool:
  """Whether a path is, or is in, what systems leave behind, and no part of a data set."""
  return any(part.lower() in _JUNK or (part.startswith('.') and part != '..')
             for part in name.split('/'))


def normalised(name: str) -> str:
  """A path with '/' alone: some programs of Windows pack paths with its own separator."""
  return '/'.join(part for part in name.replace('\\', '/').split('/')
                  if part not in ('', '.'))


def is_printable(name: str) -> bool:
  """Whether it has neither what moves a terminal's cursor nor what is no text. Python has no
  space printable but one, and macOS names screenshots with another; joiners are in words of
  Persian and Hindi."""
  return all(character.isprintable() or unicodedata.category(character) == 'Zs'
             or character in _JOINERS for character in name)


def shortened(texts: Sequence[str]) -> str:
  """The first few of a list, and how many more there are."""
  more = len(texts) - _NAMES_SHOWN
  return ', '.join(texts[:_NAMES_SHOWN]) + (f' and {more} more' if more > 0 else '')
