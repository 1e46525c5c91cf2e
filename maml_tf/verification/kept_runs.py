"""What a partial result keeps of its run, so that another machine can go on with it.

RESULTS/ROW/seedS.run/ has of an experiment's folder what training depends on: the last
checkpoint, the best one, the learning curve and the configuration. Where the experiment's
folder has no checkpoint of its own, the run goes on from there.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import Optional

from maml_tf.config import Config, ConfigError
from maml_tf.files import write_whole
from maml_tf.training.checkpoint_files import CheckpointFiles, iteration_of
from maml_tf.training.checkpoints import (
  BEST_FOLDER,
  CONFIG_FILE,
  KEPT,
  differences_of_run,
  stored_config,
)
from maml_tf.training.history import HISTORY_FILE
from maml_tf.training.run_lock import run_lock

_ASIDE = '.unfinished'
_BEFORE = '.replaced'


def keep(folder: str, kept: str) -> None:
  """Copies the run in `folder`, whole or not at all; what was kept before goes after that.

  Raises:
    OSError: where that is not possible.
  """
  recover(kept)
  aside, before = kept + _ASIDE, kept + _BEFORE
  shutil.rmtree(aside, ignore_errors=True)
  _copy(folder, aside)
  config = stored_config(folder)
  if config is not None:
    write_whole(os.path.join(aside, CONFIG_FILE), _anywhere(config).to_json())
  if os.path.isdir(kept):   # a folder with files in it cannot be replaced
    os.replace(kept, before)
  os.replace(aside, kept)
  shutil.rmtree(before, ignore_errors=True)


def recover(kept: str) -> None:
  """Puts back what a process was replacing when it was killed."""
  before = kept + _BEFORE
  if os.path.isdir(kept):
    shutil.rmtree(before, ignore_errors=True)
  elif os.path.isdir(before):
    os.replace(before, kept)


def forget(kept: str) -> None:
  """Removes what was kept: a complete row has nothing to go on with."""
  for path in (kept + _BEFORE, kept + _ASIDE, kept):
    shutil.rmtree(path, ignore_errors=True)


def go_on_with(kept: str, folder: str, config: Config) -> Optional[int]:
  """Puts a kept run into an experiment's folder that has no checkpoint of its own.

  A kept run of another configuration is left alone, and a line says so.

  Args:
    kept: the folder of `keep`; need not exist.
    folder: of the experiment; need not exist.
    config: of the run that is about to start.

  Returns:
    The iteration to go on from; None where there is nothing to go on with, or the
    folder has a run already.

  Raises:
    ConfigError: where the folder cannot be written, or another process trains in it.
  """
  latest = CheckpointFiles(kept, KEPT).last_written
  if latest is None:
    return None
  with run_lock(folder):
    if CheckpointFiles(folder, KEPT).last_written is not None:
      return None
    differences = differences_of_run(stored_config(kept) or config, config)
    if differences:
      print(f'Starting at iteration 0: {kept} has a run of another configuration '
            f'({differences}).')
      return None
    try:
      _copy(kept, folder)
    except OSError as error:
      raise ConfigError(f'{folder} cannot be written ({error.strerror}): choose another '
                        '--logdir.') from error
  return iteration_of(latest)


def _copy(source: str, target: str) -> None:
  """The last checkpoint comes last: a folder with one has everything else, too."""
  os.makedirs(target, exist_ok=True)
  history = os.path.join(source, HISTORY_FILE)
  if os.path.exists(history):
    shutil.copyfile(history, os.path.join(target, HISTORY_FILE))
  for subfolder, number in ((BEST_FOLDER, 1), ('', KEPT)):
    path = CheckpointFiles(os.path.join(source, subfolder), number).last_written
    if path is not None:
      CheckpointFiles(os.path.join(target, subfolder), number).take(path)


def _anywhere(config: Config) -> Config:
  """Without this machine's folders."""
  return dataclasses.replace(
      config, task=dataclasses.replace(config.task, data_dir=None),
      run=dataclasses.replace(config.run, logdir=f'logs/{config.task.datasource}'))
