"""Arguments that count something."""

from __future__ import annotations

from typing import Any

import numpy as np

from maml_tf.errors import ConfigError


def require_updates(number: Any, least: int = 0) -> int:
  """Raises: ConfigError: for what is no number of updates, or fewer than `least`."""
  return require_count('num_updates', number, least)


def require_count(name: str, number: Any, least: int = 0) -> int:
  """Raises: ConfigError: where an argument is no integer, or below `least`."""
  if not is_integer(number) or number < least:
    raise ConfigError(f'{name} must be an integer, {least} or more. Received: {number!r}.',
                      name)
  return int(number)


def is_integer(value: Any) -> bool:
  return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
