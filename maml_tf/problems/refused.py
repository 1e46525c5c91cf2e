"""A field of the configuration that has no meaning somewhere."""

from __future__ import annotations

from typing import Any, NamedTuple


class Refused(NamedTuple):
  """What a problem, a baseline or a method does not have.

  Attributes:
    field: its name.
    nothing: its value where it has no meaning.
    reason: what follows '--baseline=X,' in the message: 'which has no step size'.
    advice: what to do.
  """
  field: str
  nothing: Any
  reason: str
  advice: str = 'leave it out'
