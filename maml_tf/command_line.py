"""What the commands share: exit codes, and mistakes in one sentence."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Callable, Optional

from maml_tf import interruptions, outputs
from maml_tf.errors import UserError

DONE, FAILED, REFUSED = 0, 1, 2
INTERRUPTED = 130   # what a shell makes of Ctrl-C


def exit_code(program: str, action: Callable[[], Optional[int]],
              ends_at_once: bool = False) -> int:
  """The exit code of a command that does `action`, 0 or what it returns; what stops it is
  one sentence on stderr under the name `program`.

  Args:
    program: the command's name.
    action: what it does.
    ends_at_once: signals are left to `interruptions.ending_at_once`.
  """
  signals = contextlib.nullcontext() if ends_at_once else interruptions.raised()
  with outputs.lasting(), signals:
    try:
      return action() or DONE
    except UserError as error:
      outputs.say(f'{program}: {text_of(error)}')
      return error.exit_code
    except KeyboardInterrupt as interruption:
      # Outside of training, or the second signal in it.
      outputs.say(f'{program}: {interruptions.sentence_of(interruption)}')
      return interruptions.exit_code_of(interruption)


def text_of(error: UserError) -> str:
  """Of a command line: an argument that the text begins with is a flag there."""
  return f'--{error}' if error.argument else str(error)


class OneSentenceParser(argparse.ArgumentParser):
  """Answers a mistake in one sentence, under the module's name, the last word of `prog`."""

  def error(self, message):
    module = self.prog.rpartition(' ')[2]
    print(f'{module}: {message.rstrip(".")}; --help shows the usage.', file=sys.stderr)
    raise SystemExit(REFUSED)
