"""One process at a time trains in an experiment's folder."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from maml_tf.config import ConfigError
from maml_tf.files import writable
from maml_tf.locks import HeldError, locked

ENDING = '.lock'


@contextlib.contextmanager
def run_lock(folder: str) -> Iterator[None]:
  """Holds the lock on a folder, which need not exist: `folder` + '.lock', beside it. Of one
  that is a link it is beside the folder itself, which may have other names.

  Raises:
    ConfigError: while another process holds it, or where it cannot be written.
  """
  path = os.path.realpath(folder) + ENDING
  with contextlib.ExitStack() as stack:
    try:
      with writable(folder):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        stack.enter_context(locked(path))
    except HeldError as holder:
      raise ConfigError(
          f'Another process ({holder}) is training in {folder}: wait until it ends, or '
          'choose another --logdir.') from holder
    yield
