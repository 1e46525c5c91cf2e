"""Trains and tests MAML. `python main.py --help` lists the flags."""

import sys

import flags
from maml_tf.before_tensorflow import set_environment


def main(argv) -> int:
  """The exit code: 0 done (or stopped by a signal, and saved), 1 failed, 2 refused,
  130 interrupted outside of training, or by a second Ctrl-C."""
  config = flags.main_config(argv)
  # TensorFlow is loaded once the flags are known to be right.
  set_environment()
  from maml_tf import application
  return application.run(config)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
