"""What a row's flagfile says."""

from __future__ import annotations

from typing import Optional

import flags
from maml_tf.config import Config
from maml_tf.paper.rows import Row


def row_config(row: Row, seed: int = 0, logdir: Optional[str] = None,
               data_dir: Optional[str] = None) -> Config:
  """The configuration of a row's flagfile, with a seed and folders.

  Raises:
    ConfigError: for a flagfile that cannot be read, or a wrong value.
  """
  arguments = [f'--flagfile={row.flagfile_path}', f'--seed={seed}']
  arguments += [f'--logdir={logdir}'] if logdir is not None else []
  arguments += [f'--data_dir={data_dir}'] if data_dir is not None else []
  return flags.parse(['main.py', *arguments])
