"""Which checkpoint of a run is tested."""

from __future__ import annotations

import difflib
import os
import shlex

import tensorflow as tf

from maml_tf.config import Config
from maml_tf.errors import CheckpointError
from maml_tf.training.checkpoint_files import (
  UNREADABLE,
  CheckpointFiles,
  best_of,
  damage,
  first_line,
  iteration_of,
  newest_whole,
)
from maml_tf.training.run_folder import newest_of_tf1

_NAMED = 3   # other folders, in a message


def restore_for_test(folder: str, config: Config, **objects) -> str:
  """Restores parameters from the checkpoint that the configuration asks for; its path.

  In place of a newest one that is damaged the one before it is taken, and stderr says
  so. Nothing stands in for the best one, nor for an iteration that was asked for.

  Raises:
    CheckpointError: where there is none, it is damaged, or does not fit.
  """
  path = _checkpoint_for_test(folder, config)
  try:
    status = tf.train.Checkpoint(**objects).restore(path)
    status.expect_partial().assert_existing_objects_matched()
  except UNREADABLE as error:
    raise CheckpointError(f'The checkpoint {path} does not fit this net: '
                          f'{first_line(error)}') from error
  return path


def _checkpoint_for_test(folder: str, config: Config) -> str:
  advice = ('train first (--train=True), or name the trained run with its flags and '
            '--logdir')
  files = CheckpointFiles(folder)
  if config.evaluation.test_iter != -1:
    path = os.path.join(folder, f'model-{config.evaluation.test_iter}')
    if path not in files.paths:
      kept = [iteration_of(name) for name in files.paths]
      others = (f', which has {kept}: choose one of these, or ' if kept else
                f'{_what_is_there_instead(folder)}: ')
      raise CheckpointError(
          f'--test_iter={config.evaluation.test_iter}: there is no checkpoint of that '
          f'iteration in {folder}{others}{advice}.')
    return require_whole(path, 'leave --test_iter out to test the newest one')
  if config.evaluation.test_checkpoint == 'best':
    path = best_of(folder).last_written
    if path is not None:
      # Another one in its place would be reported as the best.
      return require_whole(path, 'test the newest one with --test_checkpoint=latest')
    if files.paths:
      raise CheckpointError(
          f'No validation has chosen a best checkpoint in {folder}, which has '
          f'{[iteration_of(name) for name in files.paths]}: test the newest one with '
          '--test_checkpoint=latest, or train to a multiple of --validation_interval='
          f'{config.training.validation_interval}.')
  else:
    path, damaged = newest_whole(files, 'testing')
    if damaged and path is None:
      return require_whole(damaged[0].path, 'there is no other one; train again')
  if path is None:
    raise CheckpointError(f'There is no checkpoint to test in {folder}'
                          f'{_what_is_there_instead(folder)}: {advice}.')
  return path


def _what_is_there_instead(folder: str) -> str:
  """Of a folder without checkpoints, to follow its name: those of the TF1 code in it, or the
  folders beside it that have some. Of a flag that differs the name does, too."""
  legacy = newest_of_tf1(folder)
  if legacy is not None:
    return (f', but there are checkpoints of the TF1 code (test one by '
            f'{shlex.quote(f"--legacy_checkpoint={legacy}")})')
  around = os.path.dirname(folder)
  names = [name for name in (sorted(os.listdir(around)) if os.path.isdir(around) else [])
           if CheckpointFiles(os.path.join(around, name)).paths]
  near = difflib.get_close_matches(os.path.basename(folder), names, _NAMED, cutoff=0)
  return f', but beside it in {", ".join(near)}' if near else ''


def require_whole(path: str, advice: str) -> str:
  """`path` of a checkpoint. Raises: CheckpointError: where it is damaged, with the advice."""
  reason = damage(path)
  if reason is not None:
    raise CheckpointError(f'The checkpoint {path} is damaged ({reason}): {advice}.')
  return path
