"""What is kept of an unfinished run in the results, so that another machine can go on.

RESULTS/ROW/seedS.run/ has of an experiment's folder what training depends on: the last
checkpoint, the parameters of the best one, the learning curve, the configuration, and which
commit trained what. Nothing is there twice: where the last checkpoint is the best one,
`best/` has its name alone. Where the experiment's folder has no checkpoint of its own, the
run goes on from there.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import List, Optional, Sequence

import tensorflow as tf

from maml_tf.config import Config, ConfigError
from maml_tf.files import write_whole
from maml_tf.training.checkpoint_files import (
  OBJECT_GRAPH,
  CheckpointFiles,
  best_of,
  damage,
  first_line,
  iteration_of,
)
from maml_tf.training.history import HISTORY_FILE
from maml_tf.training.run_data import DATA_FILE
from maml_tf.training.run_folder import CONFIG_FILE, differences_of_run, stored_config
from maml_tf.training.run_lock import run_lock
from maml_tf.verification.spans import TRAINED_BY_FILE

_ASIDE = '.unfinished'
_BEFORE = '.replaced'
# What a test reads: the parameters, as `trainer` names them, and what TensorFlow restores
# nothing without.
_OF_A_TEST = ('parameters/', 'save_counter/', OBJECT_GRAPH)


def keep(folder: str, kept: str) -> None:
  """Copies the run in `folder`, whole or not at all; what was kept before goes.

  Of several checkpoints the newest one that can be read is kept. A best one that cannot is
  left out, and a line says so.

  Raises:
    OSError: where that is not possible; what was kept before is as it was.
  """
  recover(kept)
  aside, before = kept + _ASIDE, kept + _BEFORE
  shutil.rmtree(aside, ignore_errors=True)
  try:
    _write_aside(folder, aside)
  except (OSError, tf.errors.OpError) as error:
    shutil.rmtree(aside, ignore_errors=True)   # the disk may be full
    raise error if isinstance(error, OSError) else OSError(first_line(error)) from error
  if os.path.isdir(kept):   # a folder with files in it cannot be replaced
    os.replace(kept, before)
  os.replace(aside, kept)
  shutil.rmtree(before, ignore_errors=True)


def _write_aside(folder: str, aside: str) -> None:
  _copy_texts(folder, aside)
  config = stored_config(folder)
  if config is not None:
    write_whole(os.path.join(aside, CONFIG_FILE), _anywhere(config).to_json())
  latest = last_whole(folder)
  best = best_of(folder).last_written
  if best is not None and latest is not None and _names([best]) == _names([latest]):
    best = latest
  if best is not None and not _is_damaged(best, 'is not kept'):
    _keep_best(best, best_of(aside), latest)
  if latest is not None:
    CheckpointFiles(aside).take(latest)


def last_whole(folder: str) -> Optional[str]:
  """The newest checkpoint in a folder that can be read; None where there is none."""
  return next((path for path in reversed(CheckpointFiles(folder).paths)
               if damage(path) is None), None)


def _is_damaged(best: str, what_then: str) -> bool:
  """And says so: of the best checkpoint of a run."""
  reason = damage(best)
  if reason is not None:
    print(f'The best checkpoint {best} is missing or is damaged ({reason}): it {what_then}, '
          'and the next validation is the best one so far.', flush=True)
  return reason is not None


def recover(kept: str) -> None:
  """Puts back what a process was replacing when it was killed."""
  before = kept + _BEFORE
  if os.path.isdir(kept):
    shutil.rmtree(before, ignore_errors=True)
  elif os.path.isdir(before):
    os.replace(before, kept)


def forget(kept: str) -> None:
  """Removes what was kept: a finished row has nothing to go on with."""
  for path in (kept + _BEFORE, kept + _ASIDE, kept):
    shutil.rmtree(path, ignore_errors=True)


def go_on_with(kept: str, folder: str, config: Config, further: bool = False
               ) -> Optional[int]:
  """Puts a kept run into an experiment's folder that has no checkpoint of its own.

  A kept run of another configuration, or a damaged one, is left alone, and a line says so.

  Args:
    kept: the folder of `keep`; need not exist.
    folder: of the experiment; need not exist.
    config: of the run that is about to start.
    further: also where the folder has checkpoints, but the kept run has got further.

  Returns:
    The iteration to go on from; None where there is nothing to go on with, or the
    folder has a run already.

  Raises:
    ConfigError: where the folder cannot be written, or another process trains in it.
  """
  recover(kept)
  latest = CheckpointFiles(kept).last_written
  if latest is None:
    return None
  with run_lock(folder):
    own = last_whole(folder)
    if own is not None and not (further and iteration_of(own) < iteration_of(latest)):
      return None
    differences = differences_of_run(stored_config(kept) or config, config)
    if differences:
      if own is None:
        print(f'Starting at iteration 0: {kept} has a run of another configuration '
              f'({differences}).')
      return None
    reason = damage(latest)
    if reason is not None:
      begins = 'Starting at iteration 0' if own is None else f'Going on with {folder}'
      print(f'{begins}: {latest} is damaged ({reason}). To go on from there, take {kept} back '
            'from the version control.', flush=True)
      return None
    try:
      _copy_back(kept, folder, latest)
    except (OSError, tf.errors.OpError) as error:
      raise ConfigError(f'{folder} cannot be written ({first_line(error)}): choose another '
                        '--logdir.') from error
  return iteration_of(latest)


def _copy_back(kept: str, folder: str, latest: str) -> None:
  """The last checkpoint comes last: a folder with one has everything else, too."""
  _copy_texts(kept, folder)
  best = best_of(kept)
  path = best.last_written if best.paths else None
  if path is None and _names(best.listed) == _names([latest]):
    path = latest
  lost = path or (best.listed or [None])[-1]
  if lost is not None and not _is_damaged(lost, 'is left out'):
    best_of(folder).take(lost)
  CheckpointFiles(folder).take(latest)


def _names(paths: Sequence[str]) -> List[str]:
  return [os.path.basename(path) for path in paths]


def _copy_texts(source: str, target: str) -> None:
  os.makedirs(target, exist_ok=True)
  for name in (HISTORY_FILE, TRAINED_BY_FILE, DATA_FILE):
    if os.path.exists(os.path.join(source, name)):
      shutil.copyfile(os.path.join(source, name), os.path.join(target, name))


def _keep_best(best: str, files: CheckpointFiles, latest: Optional[str]) -> None:
  if best == latest:
    os.makedirs(files.folder)
    files.record([best])
    return
  parameters = f'{files.folder}{_ASIDE}'
  path = os.path.join(parameters, os.path.basename(best))
  _write_parameters(best, path)
  files.take(path)
  shutil.rmtree(parameters)


def _write_parameters(checkpoint: str, path: str) -> None:
  """A checkpoint of what a test of another one depends on."""
  reader = tf.train.load_checkpoint(checkpoint)
  names = sorted(name for name in reader.get_variable_to_shape_map()
                 if name.startswith(_OF_A_TEST))
  os.makedirs(os.path.dirname(path), exist_ok=True)
  tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=[''] * len(names),
                    tensors=[reader.get_tensor(name) for name in names])


def _anywhere(config: Config) -> Config:
  """Without this machine's folders."""
  return dataclasses.replace(
      config, task=dataclasses.replace(config.task, data_dir=None),
      run=dataclasses.replace(config.run, logdir=f'logs/{config.task.datasource}'))
