"""The folder of a run: what may be trained in it, and under which configuration."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
from typing import Iterator, Optional

from maml_tf.config import LARGEST_JSON, TO_ZERO, Config, ConfigError, differences
from maml_tf.errors import CheckpointError
from maml_tf.files import writable, write_whole
from maml_tf.training.checkpoint_files import CheckpointFiles, best_of
from maml_tf.training.keras_generation import require_same_keras
from maml_tf.training.run_code import note_code, require_same_code
from maml_tf.training.run_data import note_data, require_same_data
from maml_tf.training.run_lock import run_lock

CONFIG_FILE = 'config.json'

# What may change between two starts of the same run without changing what it computes.
# `pretrained` and `legacy_checkpoint` may not: what a run began with is a part of what it
# is, and its value is repeated (the file is read by a run that begins, and by no other).
MAY_DIFFER = frozenset([
    'data_dir', 'metatrain_iterations', 'tasks_at_once', 'recompute_inner_steps',
    'validation_interval',
    'num_validation_tasks', 'test_query_size', 'test_set', 'test_iter', 'test_checkpoint',
    'num_test_tasks', 'test_num_updates', 'test_inner_batch_size',
    'train_update_batch_size', 'train_update_lr', 'tune_update_lr', 'train', 'resume', 'log',
    'logdir', 'distribution_strategy', 'num_gpus', 'worker_hosts', 'task_index',
    'worker_timeout', 'test_later_step', 'simulation_threads',
    'simulation_processes'])


def experiment_folder(config: Config) -> str:
  return os.path.join(config.run.logdir, config.experiment_name)


@contextlib.contextmanager
def training_folder(config: Config) -> Iterator[str]:
  """`prepare_folder`, for one process at a time: a second one is refused.

  Testing what is in the folder needs no lock.

  Raises:
    ConfigError: see `prepare_folder`; or when another process trains in the folder.
  """
  with run_lock(experiment_folder(config)):
    yield prepare_folder(config)


def prepare_folder(config: Config) -> str:
  """The experiment's folder, with the configuration written into it.

  With `resume` a folder of the same run is gone on with. Without it a folder that
  holds anything is moved aside, never deleted.

  Raises:
    ConfigError: when the folder holds a run of another configuration or on other data, or
      cannot be written.
  """
  folder = experiment_folder(config)
  with writable(folder):
    _prepare(folder, config)
  return folder


def _prepare(folder: str, config: Config) -> None:
  path = os.path.join(folder, CONFIG_FILE)
  if not config.run.resume:
    # Not only where there is a configuration: checkpoints without one are a run, too, and
    # results or a learning curve would be taken for those of the new run.
    if os.path.isdir(folder) and os.listdir(folder):
      _move_aside(folder)
  elif has_checkpoints(folder):
    stored = stored_config(folder)
    if stored is not None:
      require_same_run(folder, stored, config)
    require_same_keras(folder, (CheckpointFiles(folder).paths or [None])[-1])
    require_same_data(folder, config)
    require_same_code(folder, config)
  else:
    _require_not_of_tf1(folder)
  os.makedirs(folder, exist_ok=True)
  write_whole(path, config.to_json())
  note_data(folder, config)
  note_code(folder, config)


def _move_aside(folder: str) -> None:
  number = 1
  while os.path.exists(f'{folder}.previous{number}'):
    number += 1
  os.replace(folder, f'{folder}.previous{number}')
  print(f'The earlier run was moved to {folder}.previous{number}')


def _require_not_of_tf1(folder: str) -> None:
  """Raises `ConfigError` for a folder of the TF1 code, which has the same name there: its
  command went on from what is in it, and its list of checkpoints would be overwritten."""
  legacy = newest_of_tf1(folder)
  if legacy is not None:
    raise ConfigError(
        f'{folder} holds a run of the TF1 code, which is not gone on with: choose another '
        f'--logdir, and {shlex.quote(f"--legacy_checkpoint={legacy}")} to start from its '
        'parameters, or move it aside with --resume=False.')


def newest_of_tf1(folder: str) -> Optional[str]:
  """The TF1 code's checkpoint of the latest iteration in a folder; None without any."""
  indices = glob.glob(os.path.join(glob.escape(folder), 'model[0-9]*.index'))
  return max((path[:-len('.index')] for path in indices),
             key=lambda path: (len(path), path), default=None)


def goes_on(config: Config) -> bool:
  """Whether training would go on from a checkpoint, or be refused since it cannot be read;
  otherwise it begins with new parameters."""
  files = CheckpointFiles(experiment_folder(config))
  return config.run.resume and bool(files.paths or files.listed)


def has_checkpoints(folder: str) -> bool:
  """Whether there is a run to go on with. A start that was refused, or killed before its
  first checkpoint, leaves a configuration alone: nothing depends on that."""
  return any(files.paths or files.listed
             for files in (CheckpointFiles(folder), best_of(folder)))


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
  listed = differences_of_run(stored, config)
  if listed:
    raise ConfigError(
        f'{folder} holds a run of another configuration ({listed}): repeat its values, '
        'choose another --logdir, or start over with --resume=False.')


def differences_of_run(stored: Config, config: Config) -> str:
  """'NAME BEFORE -> NOW, ...' of all for which `config` would train something else than
  `stored` did; empty where there is nothing."""
  may_differ = MAY_DIFFER
  if config.training.meta_lr_schedule in TO_ZERO:
    may_differ -= {'metatrain_iterations'}   # every step size depends on it
  may_differ |= config.baseline.may_differ_from(stored.baseline)
  if config.trained_classes == stored.trained_classes:   # those of a test are free
    may_differ |= {'num_classes', 'train_num_classes'}
  changed = differences(stored, config, ignore=may_differ)
  return ', '.join(f'{name} {before} -> {now}' for name, (before, now) in changed.items())
