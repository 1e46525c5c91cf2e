"""Which content the files of one's own had, --model=FILE.py:NAME and the like, when a run was
begun: their hashes, beside its configuration.

With another content of the file the parameters of a run may fit as before, and mean something
else.
"""

from __future__ import annotations

import os
from typing import Dict

from maml_tf import from_file
from maml_tf.config import Config, ConfigError
from maml_tf.training.run_data import differences, note

CODE_FILE = 'code.json'


def note_code(folder: str, config: Config) -> None:
  """Writes which content the files of a run in `folder` have."""
  note(os.path.join(folder, CODE_FILE), from_file.digests(config.to_values()))


def require_same_code(folder: str, config: Config) -> None:
  """Refuses files that were edited since the run in `folder` was begun.

  Of a run of an earlier version it is not known; stderr says so.

  Raises:
    ConfigError: naming the flag with the file, and both hashes.
    CheckpointError: for a file that is not a list of hashes.
  """
  now = from_file.digests(config.to_values())
  if not now:
    return
  path = os.path.join(folder, CODE_FILE)
  edited = differences(path, now, (
      f'The run in {folder} was begun before runs noted the content of such files: whether '
      f'{_named(config, now)} is what it was is not checked.'))
  if edited:
    raise ConfigError(
        f'{_named(config, edited)} was edited since the run in {folder} was begun (SHA-256 '
        f'{", ".join(edited.values())}): take the file of then, choose another --logdir, or '
        f'start over with --resume=False; where the edit changes nothing of the run, remove '
        f'{path}.')


def _named(config: Config, flags: Dict[str, str]) -> str:
  values = config.to_values()
  return ' and '.join(f'--{flag}={values[flag]}' for flag in flags)
