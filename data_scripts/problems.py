"""Everything that is wrong with a source, said at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Optional

from data_scripts.file_names import shortened
from maml_tf.errors import DataError

_PROBLEMS_SHOWN = 20
_REMEDIES_SHOWN = 3
REPAIR = 'repair these files, or fetch them again'


class Problems:
  """Everything that is wrong with a source, so that the user hears of it at once.

  Attributes:
    notes: what was passed over, a sentence each: no problem, but to be known.
  """

  def __init__(self):
    self._found: list[_Problem] = []
    self.notes: list[str] = []

  def add(self, what: str, reason: str, kind: str = '', remedy: str = REPAIR,
          is_count: bool = False) -> None:
    """Adds one.

    Args:
      what: the file, row or class.
      reason: what is wrong with it, as a phrase.
      kind: the same for all that have one cause; '': the reason is.
      remedy: what the user can do, as a phrase.
      is_count: only the number of images is not the set's, and --skip_damaged takes
        what is there.
    """
    self._found.append(_Problem(printable(f'{what}: {reason}'), kind or reason, remedy,
                                is_count))

  def note(self, names: Sequence[str], why: str) -> None:
    """Notes that files were left out, if there are any."""
    if names:
      self.notes.append(printable(f'Left out, since {why}: {shortened(names)}'))

  def __bool__(self) -> bool:
    return bool(self._found)

  def counts(self) -> list[str]:
    """Those that --skip_damaged takes as they are."""
    return [problem.text for problem in self._found if problem.is_count]

  def without_counts(self) -> 'Problems':
    """All others."""
    others = Problems()
    others._found = [problem for problem in self._found if not problem.is_count]
    others.notes = self.notes
    return others

  def raise_if_any(self, source: str, complete_list: Optional[str] = None,
                   offer: str = '') -> None:
    """Raises a DataError that names all problems.

    Those of a rare kind come first: a cause has a few lines, and what follows from it
    may have thousands.

    Args:
      source: what was examined, as a phrase.
      complete_list: a file to write them into where they are more than fit on a
        screen; None, or where it cannot be written: they are all in the message.
      offer: follows what the user can do.
    """
    if not self._found:
      return
    kinds = Counter(problem.kind for problem in self._found)
    found = sorted(self._found, key=lambda problem: kinds[problem.kind])
    remedies = list(dict.fromkeys(problem.remedy for problem in found))[:_REMEDIES_SHOWN]
    count = len(found)
    heading, shown = '', [problem.text for problem in found]
    if count > _PROBLEMS_SHOWN and complete_list and _written(complete_list, shown):
      heading = f' (the first {_PROBLEMS_SHOWN} of them below, all of them in {complete_list})'
      shown = shown[:_PROBLEMS_SHOWN]
    lines = '\n'.join(f'  {line}' for line in (*shown, *self.notes))
    raise DataError(f'{source} cannot be used: {count} '
                    f'{"problem was" if count == 1 else "problems were"} found{heading}, '
                    f'and nothing was prepared: {"; ".join(remedies)}{offer}.\n{lines}')


class _Problem(NamedTuple):
  text: str
  kind: str
  remedy: str
  is_count: bool


def printable(text: str) -> str:
  # Names come from archives: nothing in them shall move the terminal's cursor.
  return ''.join(character if character.isprintable() else ascii(character)[1:-1]
                 for character in text)


def _written(path: str, lines: Sequence[str]) -> bool:
  try:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)   # as data/, in a new clone
    with open(path, 'w', encoding='utf-8') as file:
      file.writelines(f'{line}\n' for line in lines)
    return True
  except OSError:
    return False
