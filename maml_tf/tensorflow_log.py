"""TensorFlow's own log."""

from __future__ import annotations

import contextlib
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
