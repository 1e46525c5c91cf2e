"""What the commands beside `main.py` share."""

from __future__ import annotations

import argparse
import sys

REFUSED = 2


class OneSentenceParser(argparse.ArgumentParser):
  """Answers a mistake in one sentence, under the module's name, the last word of `prog`."""

  def error(self, message):
    module = self.prog.rpartition(' ')[2]
    print(f'{module}: {message.rstrip(".")}; --help shows the usage.', file=sys.stderr)
    raise SystemExit(REFUSED)
