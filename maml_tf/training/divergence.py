"""What to do where a run, or the test of one, diverges."""

from __future__ import annotations

import contextlib
from typing import Iterator

from maml_tf.config import Config
from maml_tf.config.fits import pointless, without_meaning
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
  if 'proximal_weight' not in refused:
    lower += (f', change --proximal_weight={config.inner_loop.proximal_weight} (times '
              '--update_lr it must be below 2 for the inner loop to converge; the larger it '
              'is, the steadier are conjugate gradients)')
  return f'{lower}, or clip with --meta_gradient_clip'


def advice_for_test(config: Config, updates: str = 'test_num_updates') -> str:
  """What may give results that are finite, by flags that have a meaning for what is tested.

  Args:
    config: of the test.
    updates: the flag of how many there are.
  """
  fewer = fewer_or_another(config, updates, _flag_of_what_is_tested(config))
  is_learned = 'train_update_lr' in pointless(config)
  return fewer if is_learned or 'update_lr' in without_meaning(config) else (
      f'lower --update_lr={config.inner_loop.update_lr}, {fewer}')


def _flag_of_what_is_tested(config: Config) -> str:
  named = [] if config.run.train else [
      field for field in ('legacy_checkpoint', 'pretrained') if getattr(config.run, field)]
  return named[0] if named else 'test_iter'   # which is refused beside these


def fewer_or_another(config: Config, updates: str, iteration: str) -> str:
  """Of a trained run, by what may be chosen of it.

  Args:
    config: of the test.
    updates, iteration: the flags of how many there are, and of the checkpoint.
  """
  another = f'test another checkpoint with --{iteration}'
  if 'test_num_updates' in without_meaning(config):
    return another
  return f'test with fewer --{updates}, or {another}'
