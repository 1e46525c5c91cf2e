"""Trains and tests MAML: the commands `maml-tf` and `python -m maml_tf`, which are what
`main.py` is in the repository."""

import contextlib
import sys
from typing import Optional, Sequence

from maml_tf.before_tensorflow import load_tensorflow, without
from maml_tf.command_line import REFUSED, exit_code
from maml_tf.interruptions import ending_at_once


def main(argv: Optional[Sequence[str]] = None, program: str = 'maml-tf') -> int:
  """The exit code: 0 done (or stopped by a signal, and saved), 1 failed, 2 refused,
  75 another process of the run was lost, 130 interrupted outside of training, or by a second
  Ctrl-C, 143 so by SIGTERM (128 and the signal's number).

  Args:
    argv: the command line with the program; None: that of the process.
    program: under whose name a problem is reported.
  """
  # A process that is this command ends at once while it is loaded: nothing is begun yet.
  is_process = argv is None or argv is sys.argv
  with ending_at_once(program) if is_process else contextlib.nullcontext():
    try:
      import flags
    except ModuleNotFoundError as error:   # of a package that is not this project's
      print(f'{program}: {without(error)}', file=sys.stderr)
      return REFUSED
    config = flags.main_config(sys.argv if argv is None else argv, program,
                               several_devices=True)
    refused = exit_code(program, lambda: _require(config), ends_at_once=is_process)
    if refused:
      return refused
    # TensorFlow is loaded once the flags are known to be right, and the data to be there.
    load_tensorflow()
    from maml_tf import application
  return application.run(config, program)


def _require(config) -> None:
  """Refuses what can be refused without TensorFlow.

  Raises:
    UserError: for data that are not there, or a row that does not exist.
  """
  from maml_tf.paper.rows import row_named
  pretrained = config.run.pretrained
  if pretrained is not None and not pretrained.endswith('.npz'):
    row_named(pretrained.partition(':')[0])
  config.problem.require_data(config)


if __name__ == '__main__':
  sys.exit(main())
