"""What goes wrong for reasons that a user can mend. One base, so that an entry point needs
one `except`. No TensorFlow here."""

from __future__ import annotations

from typing import Optional


class UserError(Exception):
  """Its text is one sentence: what was received, what is allowed, what to do.

  Attributes:
    exit_code: of a command that it ends: 2 refused, 1 failed on the way.
    argument: the name of the argument that the text begins with, as in 'seed=-1 is not
      allowed'; a command line writes it as the flag that it is. None: as it stands.
  """
  exit_code = 2

  def __init__(self, text: str, argument: Optional[str] = None):
    super().__init__(text)
    self.argument = argument


class ConfigError(UserError, ValueError):
  """A value or a combination of values that cannot be run."""


class DataError(UserError):
  """Data that are missing, or not what they should be."""


class ChangedDataError(DataError):
  """Data that became other ones, or none, while they were in use."""
  exit_code = 1


class CheckpointError(UserError, RuntimeError):
  """A checkpoint that is missing or does not fit."""


class FailedError(UserError, RuntimeError):
  """What could be asked for, and failed on the way."""
  exit_code = 1


class NotFiniteError(FailedError):
  """A loss, a meta-gradient, a parameter or a result is not finite.

  Attributes:
    iteration: of the run since when, as the text says it, too; None: of no run.
  """

  def __init__(self, text: str, iteration: Optional[int] = None):
    super().__init__(text)
    self.iteration = iteration


class WriteError(FailedError):
  """Something could not be written, as on a full disk."""
