"""What the commands beside `main.py` share."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Iterator

REFUSED = 2


class OneSentenceParser(argparse.ArgumentParser):
  """Answers a mistake in one sentence, under the module's name, the last word of `prog`."""

  def error(self, message):
    module = self.prog.rpartition(' ')[2]
    print(f'{module}: {message.rstrip(".")}; --help shows the usage.', file=sys.stderr)
    raise SystemExit(REFUSED)


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
  """TensorFlow logs errors alone meanwhile. Where many functions are traced on purpose, one
  for each file, it takes that for a mistake."""
  import tensorflow as tf
  logger = tf.get_logger()
  before = logger.level
  logger.setLevel('ERROR')
  try:
    yield
  finally:
    logger.setLevel(before)
