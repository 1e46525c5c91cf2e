"""What the commands beside `main.py` share."""

from __future__ import annotations

import argparse
import sys
from typing import Callable, Optional

from maml_tf import outputs
from maml_tf.errors import UserError

DONE, FAILED, REFUSED = 0, 1, 2
INTERRUPTED = 130   # what a shell makes of Ctrl-C


def exit_code(program: str, action: Callable[[], Optional[int]]) -> int:
  """The exit code of a command that does `action`, 0 or what it returns; what stops it is
  one sentence on stderr under the name `program`."""
  with outputs.lasting():
    try:
      return action() or DONE
    except UserError as error:
      outputs.say(f'{program}: {text_of(error)}')
      return error.exit_code
    except KeyboardInterrupt:
      # Outside of training, or the second Ctrl-C in it.
      outputs.say(f'{program}: interrupted; the same command goes on from the last '
                  'checkpoint, if there is one.')
      return INTERRUPTED


def text_of(error: UserError) -> str:
  """Of a command line: an argument that the text begins with is a flag there."""
  return f'--{error}' if error.argument else str(error)


class OneSentenceParser(argparse.ArgumentParser):
  """Answers a mistake in one sentence, under the module's name, the last word of `prog`."""

  def error(self, message):
    module = self.prog.rpartition(' ')[2]
    print(f'{module}: {message.rstrip(".")}; --help shows the usage.', file=sys.stderr)
    raise SystemExit(REFUSED)
