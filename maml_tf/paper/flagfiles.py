"""From a row to the configuration that its flagfile asks for."""

from __future__ import annotations

from typing import Any

import flags
from maml_tf.config import Config
from maml_tf.paper.rows import Row


def row_config(row: Row, **given: Any) -> Config:
  """The configuration of a row's flagfile.

  Args:
    row: the row.
    **given: further flags, such as seed and folders; None: as the flagfile says.

  Raises:
    ConfigError: for a flagfile that cannot be read, or a wrong value.

  Example:
    >>> from maml_tf.paper.rows import row_named
    >>> row_config(row_named('sinusoid_5shot'), seed=3).task.seed
    3
  """
  more = [f'--{name}={value}' for name, value in given.items() if value is not None]
  return flags.parse(['main.py', f'--flagfile={row.flagfile_path}', *more])
