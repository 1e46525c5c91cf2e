"""Which data a run was trained on: their hashes, beside its configuration.

A path is no identity: the folder may be prepared anew, with another split or filter, or be
another set altogether, and weights that have seen its test classes would then be tested on
them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Dict, Mapping, Optional

from maml_tf.bounded import read_json
from maml_tf.config import Config, ConfigError
from maml_tf.errors import CheckpointError
from maml_tf.files import write_whole

DATA_FILE = 'data.json'


def note_data(folder: str, config: Config) -> None:
  """Writes which data a run in `folder` is of."""
  note(os.path.join(folder, DATA_FILE), config.problem.data_hashes(config))


def require_same_data(folder: str, config: Config) -> None:
  """Refuses data that are not those of the run in `folder`.

  Of a run of an earlier version, and of one of the TF1 code that was converted, it is not
  known; stderr says so.

  Raises:
    ConfigError: naming the splits that differ.
    CheckpointError: for a file that is not a list of hashes.
  """
  now = config.problem.data_hashes(config)
  if not now:
    return
  path = os.path.join(folder, DATA_FILE)
  differing = differences(path, now, (
      f'The run in {folder} does not say on which data it was trained: whether they are those '
      f'in {config.data_dir} is not checked.'))
  if differing:
    listed = ', '.join(f'{split} {hashes}' for split, hashes in differing.items())
    raise ConfigError(
        f'{folder} holds a run on other data than those in {config.data_dir} (SHA-256 of '
        f'{listed}): give the --data_dir of its own, choose another --logdir, or start '
        f'over with --resume=False; where the difference is wanted, remove {path}.')


def note(path: str, hashes: Mapping[str, str]) -> None:
  """Writes {name: SHA-256} to the file at `path`; none where there are none."""
  if hashes:
    write_whole(path, json.dumps(dict(hashes), indent=2) + '\n')


def differences(path: str, now: Mapping[str, str], unknown: str) -> Dict[str, str]:
  """{name: 'BEFORE -> NOW'} of what is not as a run noted it in the file at `path`.

  Args:
    now: {name: SHA-256}.
    unknown: what stderr is told where there is no such file.

  Raises:
    CheckpointError: for a file that is not a list of hashes.
  """
  before = read_hashes(path)
  if before is None:
    print(unknown, file=sys.stderr)
    return {}
  return {name: f'{before.get(name, "none")[:12]} -> {sha256[:12]}'
          for name, sha256 in now.items() if before.get(name) != sha256}


def read_hashes(path: str) -> Optional[Dict[str, str]]:
  """{name: SHA-256} of a file beside a run; None where there is none.

  Raises:
    CheckpointError: for a file that is not that.
  """
  if not os.path.exists(path):
    return None
  try:
    hashes = read_json(path)
  except ValueError as error:
    raise CheckpointError(f'{path} is not JSON ({error}): take it back, or remove it.'
                          ) from error
  if not isinstance(hashes, dict) or not all(
      isinstance(value, str) for value in hashes.values()):
    raise CheckpointError(f'{path} must hold a SHA-256 for each name: take it back, or '
                          'remove it.')
  return hashes
