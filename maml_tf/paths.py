"""Paths as a user gives them, by one rule for every flag. No TensorFlow here."""

from __future__ import annotations

import argparse
import os
import re

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


def require_usable_for_checkpoints(path: str, flag: str) -> None:
  """Raises: ConfigError: where TensorFlow cannot have checkpoints there."""
  unusable = unusable_for_checkpoints(path)
  if unusable:
    raise ConfigError(f'--{flag}={path} is not allowed: it has {unusable}, {_NOT_TAKEN}.')


def of_checkpoints(text: str) -> str:
  """`argument`, of a folder with checkpoints."""
  path = argument(text)
  unusable = unusable_for_checkpoints(path)
  if unusable:
    raise argparse.ArgumentTypeError(f'{text} is not allowed: it has {unusable}, {_NOT_TAKEN}')
  return path


_NOT_TAKEN = ('which TensorFlow does not take in the path of a checkpoint; choose another '
              'name, or a path from the current folder')


def unusable_for_checkpoints(path: str) -> str:
  """What TensorFlow cannot have in the path of a checkpoint, as a phrase; '' for nothing.

  It takes the path for a pattern, in which brackets and backslashes mean something else
  (a backslash of Windows does not), and for UTF-8.
  """
  try:
    path.encode('utf-8')
  except UnicodeEncodeError:
    return 'characters that are not UTF-8 (or the locale is not)'
  if re.search(r'\[.*\]', path, re.DOTALL):
    return 'a pair of brackets'
  return 'a backslash' if '\\' in path and os.sep != '\\' else ''
