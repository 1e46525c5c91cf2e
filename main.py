"""Trains and tests MAML. `python main.py --help` lists the flags."""

import sys

from maml_tf import __main__ as command


def main(argv) -> int:
  """The exit code, see `maml_tf.__main__`."""
  return command.main(argv, 'main.py')


if __name__ == '__main__':
  sys.exit(main(sys.argv))
