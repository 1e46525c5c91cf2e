"""What to do where a run diverges."""

from __future__ import annotations

import contextlib
from typing import Iterator

from maml_tf.config import Config
from maml_tf.config.fits import without_meaning
from maml_tf.errors import NotFiniteError


@contextlib.contextmanager
def with_advice(config: Config, pretraining: bool) -> Iterator[None]:
  """A `NotFiniteError` from within says what to do, too."""
  try:
    yield
  except NotFiniteError as error:
    raise NotFiniteError(f'{error}: {advice(config, pretraining)}.',
                         error.iteration) from error


def advice(config: Config, pretraining: bool) -> str:
  """By flags that the run has: what it refuses, or what changes nothing, is no help.

  Args:
    config: of the run.
    pretraining: whether that is what diverged, in which nothing is adapted.
  """
  refused = without_meaning(config)
  steps = ['meta_lr', 'max_kl'] if pretraining else ['meta_lr', 'update_lr', 'max_kl']
  lower = 'lower ' + ' or '.join(f'--{field}' for field in steps if field not in refused)
  if pretraining or 'meta_gradient_clip' in refused:
    return lower
  return f'{lower}, or clip with --meta_gradient_clip'
