"""Numbers on a command line, as types of argparse. No TensorFlow here."""

from __future__ import annotations

import argparse
import math
import re
from typing import Callable, List, Optional

MOST = 2**31 - 1   # what an int32 has: counts and seeds go into these


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
  """A whole number between two, both allowed."""
  def parsed(text: str) -> int:
    value = _whole(text)
    if value is None or not least <= value <= most:
      raise _not_allowed(text, f'a whole number {_between(least, most)}')
    return value
  return parsed


def counts(least: int, how_many: Optional[int] = None) -> Callable[[str], List[int]]:
  """Whole numbers with commas between them, in their order.

  Args:
    least: that each may be.
    how_many: there must be; None: one or more.
  """
  def parsed(text: str) -> List[int]:
    values = [_whole(part) for part in text.split(',')]
    if any(value is None or not least <= value <= MOST for value in values) or (
        how_many not in (None, len(values))):
      number = '' if how_many is None else f'{how_many} '
      raise _not_allowed(text, f'{number}whole numbers {_between(least, MOST)}, with commas '
                         'between them')
    return values
  return parsed


def number(above: Optional[float] = None, least: Optional[float] = None
           ) -> Callable[[str], float]:
  """A finite number above one, or not below one."""
  def parsed(text: str) -> float:
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not math.isfinite(value) or (above is not None and value <= above) or (
        least is not None and value < least):
      raise _not_allowed(text, 'a finite number ' + (
          f'above {above:g}' if above is not None else f'of {least:g} or more'))
    return value
  return parsed


def _whole(text: str) -> Optional[int]:
  return int(text) if re.fullmatch('[+-]?[0-9]{1,18}', text.strip()) else None


def _between(least: int, most: int) -> str:
  return f'of {least} or more' if most == MOST else f'from {least} to {most}'


def _not_allowed(text: str, allowed: str) -> argparse.ArgumentTypeError:
  return argparse.ArgumentTypeError(f'{text!r} is not allowed: it must be {allowed}')
