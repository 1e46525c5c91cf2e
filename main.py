"""Trains and tests MAML. `python main.py --help` lists the flags."""

import os
import sys

import flags


def main(argv) -> int:
  """The exit code: 0 done (or stopped by a signal, and saved), 1 failed, 2 refused,
  130 interrupted outside of training, or by a second Ctrl-C."""
  config = flags.main_config(argv)
  # TensorFlow is loaded once the flags are known to be right; its own log is noise here,
  # since errors arrive as exceptions.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from maml_tf import application
  return application.run(config)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
