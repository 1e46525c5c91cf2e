"""TensorFlow's own log."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator


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


def compile_unheard() -> None:
  """XLA's first compilation in a process, of next to nothing.

  XLA says then that it compiled something, once, two lines in the midst of a run's, by a
  logger that no variable makes quiet. Later errors are said as ever.
  """
  import tensorflow as tf
  increment = tf.function(lambda: tf.zeros([]) + 1, jit_compile=True)
  with cplusplus_unheard():
    increment()


@contextlib.contextmanager
def cplusplus_unheard() -> Iterator[None]:
  """Meanwhile what C++ writes on standard error is dropped."""
  try:
    before = os.dup(2)
  except OSError:   # closed: nothing is said anyway
    yield
    return
  try:
    with open(os.devnull, 'wb') as nothing:
      os.dup2(nothing.fileno(), 2)
    yield
  finally:
    os.dup2(before, 2)
    os.close(before)
