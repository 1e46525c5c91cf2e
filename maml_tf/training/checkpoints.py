"""What a run keeps on disk, and how it goes on from there."""

from __future__ import annotations

import os
import re
from typing import List, Optional

import tensorflow as tf

from maml_tf.config import LARGEST_JSON, Config, ConfigError, differences

CONFIG_FILE = 'config.json'
BEST_FOLDER = 'best'
KEPT = 10

# What TensorFlow raises for a checkpoint that is damaged, or of other objects.
_UNREADABLE = (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError)

# What may change between two starts of the same run without changing what it computes.
MAY_DIFFER = frozenset([
    'data_dir', 'metatrain_iterations', 'tasks_at_once', 'recompute_inner_steps',
    'validation_interval',
    'num_validation_tasks', 'test_query_size', 'test_set', 'test_iter', 'test_checkpoint',
    'num_test_tasks', 'test_num_updates', 'test_inner_batch_size',
    'train_update_batch_size', 'train_update_lr', 'tune_update_lr', 'train', 'resume', 'log',
    'logdir'])


class CheckpointError(RuntimeError):
  """A checkpoint that is missing or does not fit; one sentence for the user."""


def experiment_folder(config: Config) -> str:
  return os.path.join(config.run.logdir, config.experiment_name)


class Checkpoints:
  """The checkpoints of one experiment: the last ten, and apart from them the best.

  Each holds everything that training depends on: parameters, the optimizers'
  state, the best validation score so far. The iteration is in the file's name.

  Args:
    folder: the experiment's folder.
    **objects: what is saved, by name.
  """

  def __init__(self, folder: str, **objects):
    self.best_score = tf.Variable(float('-inf'), dtype=tf.float64, trainable=False)
    self._checkpoint = tf.train.Checkpoint(best_score=self.best_score, **objects)
    self._latest = tf.train.CheckpointManager(
        self._checkpoint, folder, max_to_keep=KEPT, checkpoint_name='model')
    self._best = tf.train.CheckpointManager(
        self._checkpoint, os.path.join(folder, BEST_FOLDER), max_to_keep=1,
        checkpoint_name='model')

  @property
  def iterations(self) -> List[int]:
    """The iterations of the checkpoints that are kept, oldest first."""
    return [iteration_of(path) for path in self._latest.checkpoints]

  def save(self, iteration: int) -> str:
    """Saves unless this iteration is saved; the path."""
    if iteration in self.iterations:
      return self._latest.checkpoints[self.iterations.index(iteration)]
    return self._latest.save(checkpoint_number=iteration)

  def offer_best(self, iteration: int, score: float) -> bool:
    """Keeps this iteration as the best one if `score` is above all before it."""
    if not score > float(self.best_score.numpy()):
      return False
    self.best_score.assign(score)
    self._best.save(checkpoint_number=iteration)
    return True

  def restore_latest(self) -> int:
    """The iteration of the newest checkpoint, restored; 0 where there is none."""
    path = self._latest.latest_checkpoint
    if path is None:
      return 0
    self._restore(path)
    return iteration_of(path)

  def _restore(self, path: str) -> None:
    try:
      self._checkpoint.restore(path).assert_consumed()
    except _UNREADABLE as error:
      raise CheckpointError(
          f'The checkpoint {path} does not fit this net and optimizer, or is damaged: '
          f'{_first_line(error)}') from error


def restore_for_test(folder: str, config: Config, **objects) -> str:
  """Restores parameters from the checkpoint that the configuration asks for; its path.

  Raises:
    CheckpointError: where there is none, or it does not fit.
  """
  path = _checkpoint_for_test(folder, config)
  try:
    status = tf.train.Checkpoint(**objects).restore(path)
    status.expect_partial().assert_existing_objects_matched()
  except _UNREADABLE as error:
    raise CheckpointError(f'The checkpoint {path} does not fit this net, or is damaged: '
                          f'{_first_line(error)}') from error
  return path


def iteration_of(path: str) -> int:
  """model-1000 -> 1000."""
  return int(re.search(r'-(\d+)$', path).group(1))


def prepare_folder(config: Config) -> str:
  """The experiment's folder, with the configuration written into it.

  With `resume` a folder of the same run is gone on with. Without it a folder that
  holds a run is moved aside, never deleted.

  Raises:
    ConfigError: when the folder holds a run of another configuration, or cannot be
      written.
  """
  folder = experiment_folder(config)
  try:
    _prepare(folder, config)
  except OSError as error:
    raise ConfigError(f'{folder} cannot be written ({error.strerror}): choose another '
                      '--logdir.') from error
  return folder


def _prepare(folder: str, config: Config) -> None:
  stored = stored_config(folder)
  if stored is not None and not config.run.resume:
    _move_aside(folder)
  elif stored is not None:
    require_same_run(folder, stored, config)
  os.makedirs(folder, exist_ok=True)
  _write_text(os.path.join(folder, CONFIG_FILE), config.to_json())


def stored_config(folder: str) -> Optional[Config]:
  """The configuration that was written beside the checkpoints, if there is one.

  Raises:
    CheckpointError: for a file that is not a configuration.
  """
  path = os.path.join(folder, CONFIG_FILE)
  if not os.path.exists(path):
    return None
  try:
    with open(path, encoding='utf-8') as file:
      return Config.from_json(file.read(LARGEST_JSON + 1))
  except (ConfigError, UnicodeDecodeError) as error:
    raise CheckpointError(f'{path} is not the configuration of a run ({error}); move the '
                          'folder away, or choose another --logdir.') from error


def require_same_run(folder: str, stored: Config, config: Config) -> None:
  """Raises `ConfigError` where `config` would train something else than `stored` did."""
  may_differ = MAY_DIFFER
  if config.training.meta_lr_schedule != 'constant':
    may_differ -= {'metatrain_iterations'}   # every step size depends on it
  if stored.uses_classifier and config.uses_classifier:
    may_differ |= {'baseline'}   # another use of the same classifier
  changed = differences(stored, config, ignore=may_differ)
  if changed:
    listed = ', '.join(f'{name} {before} -> {now}'
                       for name, (before, now) in changed.items())
    raise ConfigError(
        f'{folder} holds a run of another configuration ({listed}): repeat its values, '
        'choose another --logdir, or start over with --resume=False.')


def _move_aside(folder: str) -> None:
  number = 1
  while os.path.exists(f'{folder}.previous{number}'):
    number += 1
  os.replace(folder, f'{folder}.previous{number}')
  print(f'The earlier run was moved to {folder}.previous{number}')


def _checkpoint_for_test(folder: str, config: Config) -> str:
  advice = ('train first (--train=True), or name the trained run with its flags and '
            '--logdir')
  if config.evaluation.test_iter != -1:
    path = os.path.join(folder, f'model-{config.evaluation.test_iter}')
    if not os.path.exists(path + '.index'):
      available = tf.train.get_checkpoint_state(folder)
      kept = [iteration_of(name) for name in
              (available.all_model_checkpoint_paths if available else [])]
      raise CheckpointError(
          f'--test_iter={config.evaluation.test_iter}: there is no checkpoint of that '
          f'iteration in {folder}, which has {kept or "none"}: choose one of these, or '
          f'{advice}.')
    return path
  best = config.evaluation.test_checkpoint == 'best'
  path = tf.train.latest_checkpoint(os.path.join(folder, BEST_FOLDER) if best else folder)
  if path is None:
    raise CheckpointError(f'There is no checkpoint to test in {folder}: {advice}.')
  return path


def _write_text(path: str, text: str) -> None:
  """Whole or not at all."""
  with open(path + '.tmp', 'w', encoding='utf-8') as file:
    file.write(text)
  os.replace(path + '.tmp', path)


def _first_line(error: Exception) -> str:
  return str(error).strip().split('\n')[0][:300]
