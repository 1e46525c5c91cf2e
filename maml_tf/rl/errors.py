"""What ends an iteration of reinforcement learning; each is one sentence for the user."""

from __future__ import annotations

from typing import Any

from maml_tf.errors import FailedError


class ReinforcementError(FailedError):
  """Something that training cannot go on with. The parameters are as before."""


class EnvironmentFault(ReinforcementError):
  """An environment that does not do what it has to."""


class Diverged(ReinforcementError):
  """Parameters, losses or deviations that are of no use any more."""


class MissingLibrary(ReinforcementError):
  """An environment needs a library that is not installed, or not in this version."""
  exit_code = 2


def short(value: Any) -> str:
  """For a message."""
  of_how_many = f' of {len(value)}' if isinstance(value, tuple) else ''
  return f'{type(value).__name__}{of_how_many} {" ".join(repr(value).split())[:80]}'
