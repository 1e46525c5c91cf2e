"""Values of a configuration's fields: their types, and '~' in paths."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping

from maml_tf import paths
from maml_tf.errors import ConfigError

# Fields that a '~' may stand in.
_PATHS = ('data_dir', 'logdir', 'legacy_checkpoint', 'pretrained')


def with_expanded_paths(values: Mapping[str, Any]) -> Dict[str, Any]:
  """`values`, with '~' as the shell has it in those that are paths.

  Raises:
    ConfigError: for a user that there is not.
  """
  return {name: _path(name, value) if name in _PATHS else value
          for name, value in values.items()}


def _path(name: str, value):
  try:
    return paths.expanded(value) if isinstance(value, str) else value
  except ConfigError as error:
    raise ConfigError(f'--{name}={value} is not allowed: {error}.') from None


def checked_type(name: str, written_type: str, value):
  """`value` as the field's type; an int is accepted where a float is expected."""
  if value is None and written_type.startswith('Optional'):
    return None
  wanted = {'bool': bool, 'int': int, 'float': float, 'str': str,
            'Optional[str]': str}[written_type]
  if wanted is float and type(value) is int:
    try:
      value = float(value)
    except OverflowError:
      value = math.inf   # refused by name in `checks.check`
  if type(value) is not wanted:
    raise ConfigError(f'--{name}={value!r} is not allowed: it must be of type '
                      f'{wanted.__name__}.')
  return value
