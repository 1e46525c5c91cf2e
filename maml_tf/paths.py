"""Paths as a user gives them, by one rule for every flag. No TensorFlow here."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Optional

from maml_tf.errors import ConfigError


def expanded(text: str) -> str:
  """`text` with '~' and '~user' as the shell has them.

  A shell does not replace them behind '=', and nothing does in a flagfile, so that a folder
  named '~' would be made; who then removes that by `rm -r ~` loses their home.

  Raises:
    ConfigError: for a user that there is not.
  """
  path = os.path.expanduser(text)
  if path.startswith('~'):
    raise ConfigError(f'there is no user {text.split("/")[0]!r}: for a folder of that name '
                      f'give ./{text}')
  return path


def argument(text: str) -> str:
  """`expanded`, as a type of argparse."""
  if not text.strip():
    raise argparse.ArgumentTypeError('a path is missing: name a folder or a file')
  try:
    return expanded(text)
  except ConfigError as error:
    raise argparse.ArgumentTypeError(str(error)) from None


def of_script(script: str) -> str:
  """A script of the repository, as a shell can call it from here, in a folder that may have
  another of that name."""
  own = Path(__file__).resolve().parents[1] / script
  is_here = os.path.exists(script) and os.path.realpath(script) == str(own)
  return shlex.quote(script if is_here or not own.exists() else str(own))


def require_place_of_file(path: Optional[str]) -> None:
  """Raises: ConfigError: for an --out that can be no new file, before anything is computed."""
  if path is None:
    return
  if os.path.isdir(path):
    raise ConfigError(f'--out={path} is a folder: name a file in it.')
  folder = os.path.dirname(path) or '.'
  if not os.path.isdir(folder):
    raise ConfigError(f'--out={path} cannot be written, as there is no folder {folder}: '
                      'make it, or choose another one.')


def require_usable_for_checkpoints(path: str, flag: str) -> None:
  """Raises: ConfigError: where no checkpoints can be."""
  reason = why_unusable_for_checkpoints(path)
  if reason:
    raise ConfigError(f'--{flag}={path} is not allowed: {reason}.')


def of_checkpoints(text: str) -> str:
  """`argument`, of a folder with checkpoints."""
  path = argument(text)
  reason = why_unusable_for_checkpoints(path)
  if reason:
    raise argparse.ArgumentTypeError(f'{text} is not allowed: {reason}')
  return path


def why_unusable_for_checkpoints(path: str) -> str:
  """Why checkpoints cannot be there, and what to do; '' where they can.

  TensorFlow takes the path for a pattern, in which brackets and backslashes mean something
  else (a backslash of Windows does not), for UTF-8, and what begins like a URL for another
  file system than that of all other files of a run.
  """
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]+://', path):
    return ('it is a URL, and runs are kept in folders of this machine; give the folder in '
            'which that storage is mounted')
  unusable = _unusable(path)
  return unusable and (f'it has {unusable}, which TensorFlow does not take in the path of a '
                       'checkpoint; choose another name, or a path from the current folder')


def _unusable(path: str) -> str:
  """What TensorFlow cannot have in the path of a checkpoint, as a phrase; '' for nothing."""
  try:
    path.encode('utf-8')
  except UnicodeEncodeError:
    return 'characters that are not UTF-8 (or the locale is not)'
  if re.search(r'\[.*\]', path, re.DOTALL):
    return 'a pair of brackets'
  return 'a backslash' if '\\' in path and os.sep != '\\' else ''
