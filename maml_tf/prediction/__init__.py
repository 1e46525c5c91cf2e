"""A trained run put to use: adapted to somebody's own images, and exported."""

import os


def check_exported_path() -> str:
  """Of the script that loads an export where there is no maml_tf."""
  return os.path.join(os.path.dirname(os.path.abspath(__file__)), 'check_exported.py')
