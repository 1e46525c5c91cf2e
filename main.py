"""Trains and tests MAML. `python main.py --help` lists the flags."""

import sys

try:
  from maml_tf import __main__ as command
except ModuleNotFoundError as error:   # of a package that is not this project's
  from maml_tf.before_tensorflow import without
  from maml_tf.command_line import REFUSED
  print(f'main.py: {without(error)}', file=sys.stderr)
  sys.exit(REFUSED)


def main(argv) -> int:
  """The exit code, see `maml_tf.__main__`."""
  return command.main(argv, 'main.py')


if __name__ == '__main__':
  sys.exit(main(sys.argv))
