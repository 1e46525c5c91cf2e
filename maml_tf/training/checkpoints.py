"""What a run keeps on disk, and how it goes on from there."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
import shlex
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import tensorflow as tf

from maml_tf.config import LARGEST_JSON, TO_ZERO, Config, ConfigError, differences
from maml_tf.errors import CheckpointError, WriteError
from maml_tf.files import write_whole
from maml_tf.training.checkpoint_files import (
  OBJECT_GRAPH,
  UNREADABLE,
  CheckpointFiles,
  damage,
  first_line,
  iteration_of,
  newest_whole,
)
from maml_tf.training.keras_generation import require_same_keras
from maml_tf.training.run_code import note_code, require_same_code
from maml_tf.training.run_data import note_data, require_same_data
from maml_tf.training.run_lock import run_lock

CONFIG_FILE = 'config.json'
BEST_FOLDER = 'best'
KEPT = 10
_NAMED = 3   # other folders, in a message

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


class Checkpoints:
  """The checkpoints of one experiment: the last ten, and apart from them the best.

  Each holds everything that training depends on: parameters, the optimizers'
  state, the best validation score so far, and of which tasks that is. The iteration is in
  the file's name. What a killed process has left unfinished is removed.

  Args:
    folder: the experiment's folder.
    earlier: gives what checkpoints of earlier versions hold beside `objects`, by name; is
      called for such a checkpoint alone.
    **objects: what is saved, by name.
  """

  def __init__(self, folder: str, earlier: Callable[[], Dict[str, Any]] = dict, **objects):
    self.best_score = tf.Variable(float('-inf'), dtype=tf.float64, trainable=False)
    self.best_tasks = tf.Variable('', trainable=False)
    self._tasks: Callable[[], str] = str
    self._earlier = earlier
    self._objects = dict(best_score=self.best_score, best_tasks=self.best_tasks, **objects)
    self._checkpoint = tf.train.Checkpoint(**self._objects)
    # `restore` expects it in the file; this makes it.
    self._checkpoint.save_counter.assign(0)
    self._folder, self._identity = folder, _identity(folder)
    self._latest = CheckpointFiles(folder, KEPT)
    self._best = CheckpointFiles(os.path.join(folder, BEST_FOLDER), 1)
    for files in (self._latest, self._best):
      files.clean()

  @property
  def iterations(self) -> List[int]:
    """The iterations of the checkpoints that are kept, oldest first."""
    return [iteration_of(path) for path in self._latest.paths]

  def save(self, iteration: int, again: bool = False) -> str:
    """Saves unless this iteration is saved; the path.

    Args:
      iteration: that is complete.
      again: what is saved of it is replaced.

    Raises:
      WriteError: when it cannot be written; those before it are as they were.
    """
    if iteration in self.iterations and not again:
      return self._latest.paths[self.iterations.index(iteration)]
    self._require_own_folder(iteration)
    return self._latest.write(self._checkpoint, iteration)

  def offer_best(self, iteration: int, score: float) -> bool:
    """Keeps this iteration as the best one if `score` is above all before it.

    Raises:
      WriteError: when it cannot be written; the best one before it is as it was.
    """
    if not score > float(self.best_score.numpy()):
      return False
    self._require_own_folder(iteration)
    self.best_score.assign(score)
    self.best_tasks.assign(self._tasks())
    self._best.write(self._checkpoint, iteration)
    return True

  def _require_own_folder(self, iteration: int) -> None:
    """Raises `WriteError` where the run's folder was moved or removed: in a new one of its
    name there is no configuration, no lock, and nothing of what was before."""
    if self._identity not in (None, _identity(self._folder)):
      raise WriteError(
          f'{self._folder} was moved or removed while it was trained in, so iteration '
          f'{iteration} is not saved: put it back, and the same command goes on from its last '
          'checkpoint.')

  def score_on(self, tasks: Callable[[], str], score: Callable[[str], float]) -> None:
    """What is offered from here on is scored on these validation tasks.

    Where the best checkpoint cannot be read there is no best one any more. Where its score is
    of other tasks, or it is not known of which, it is scored again.

    Args:
      tasks: gives what tells these tasks from others.
      score: of the checkpoint of a path, on these tasks.
    """
    self._tasks = tasks
    if self.best_score.numpy() == float('-inf'):
      return
    path = self._best.last_written
    if path is None or damage(path) is not None:
      self.best_score.assign(float('-inf'))
      print('The best checkpoint so far is missing or is damaged: the next validation is the '
            'best one so far.')
      return
    before = self.best_tasks.numpy().decode()
    if before == tasks():
      return
    which = 'is of other validation tasks' if before else 'does not say of which tasks it is'
    self.best_tasks.assign(tasks())
    print(f'The best checkpoint so far (iteration {iteration_of(path)}) is scored again: its '
          f'score {which}.', flush=True)
    self.best_score.assign(score(path))

  def restore_latest(self) -> int:
    """The iteration of the newest checkpoint that can be read, restored; 0 where there
    is none.

    Newer ones that are damaged are named on stderr, and renamed: their files end in
    '.damaged' then.

    Raises:
      CheckpointError: where none of several can be read, or it is one of other objects.
    """
    path, damaged = newest_whole(self._latest, 'going on from')
    if path is None:
      _require_none(self._latest)
      return 0
    try:
      self._fitting(path).restore(path).assert_consumed()
    except UNREADABLE as error:
      raise CheckpointError(f'The checkpoint {path} does not fit this net and optimizer: '
                            f'{first_line(error)}') from error
    self._latest.set_aside(damaged)
    return iteration_of(path)

  def _fitting(self, path: str) -> tf.train.Checkpoint:
    """Of the objects that are restored from a checkpoint. One of an earlier version may hold
    others beside them, and does not say of which tasks its best score is."""
    held = {name.partition('/')[0]
            for name in tf.train.load_checkpoint(path).get_variable_to_shape_map()}
    objects = dict(self._objects)
    if 'best_tasks' not in held:
      del objects['best_tasks']
    if held - {*objects, 'save_counter', OBJECT_GRAPH}:
      objects.update((name, value) for name, value in self._earlier().items() if name in held)
    return tf.train.Checkpoint(**objects)


class NoCheckpoints:
  """In the place of `Checkpoints` where another process has them: keeps nothing."""

  def __init__(self, *_, **__):
    pass

  def save(self, iteration: int, again: bool = False) -> str:
    return ''

  def offer_best(self, iteration: int, score: float) -> bool:
    return False

  def score_on(self, tasks: Callable[[], str], score: Callable[[str], float]) -> None:
    pass

  def restore_latest(self) -> int:
    return 0


def _identity(folder: str) -> Optional[Tuple[int, int]]:
  """What a folder keeps when it is moved; None where there is none."""
  try:
    status = os.stat(folder)
  except OSError:
    return None
  return status.st_dev, status.st_ino


def _require_none(files: CheckpointFiles) -> None:
  """Raises `CheckpointError` for a folder that has, or should have, checkpoints."""
  for path in reversed(files.paths or files.listed):
    reason = damage(path) if path in files.paths else 'it is missing'
    raise CheckpointError(
        f'The checkpoint {path}, like all before it, is missing or is damaged ({reason}): '
        'put them back, or start over with --resume=False.')


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
  try:
    _prepare(folder, config)
  except OSError as error:
    raise ConfigError(f'{folder} cannot be written ({error.strerror}): choose another '
                      '--logdir.') from error
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
    require_same_keras(folder, (CheckpointFiles(folder, KEPT).paths or [None])[-1])
    require_same_data(folder, config)
    require_same_code(folder, config)
  else:
    _require_not_of_tf1(folder)
  os.makedirs(folder, exist_ok=True)
  write_whole(path, config.to_json())
  note_data(folder, config)
  note_code(folder, config)


def _require_not_of_tf1(folder: str) -> None:
  """Raises `ConfigError` for a folder of the TF1 code, which has the same name there: its
  command went on from what is in it, and its list of checkpoints would be overwritten."""
  legacy = _newest_of_tf1(folder)
  if legacy is not None:
    raise ConfigError(
        f'{folder} holds a run of the TF1 code, which is not gone on with: choose another '
        f'--logdir, and {shlex.quote(f"--legacy_checkpoint={legacy}")} to start from its '
        'parameters, or move it aside with --resume=False.')


def _newest_of_tf1(folder: str) -> Optional[str]:
  """The TF1 code's checkpoint of the latest iteration in a folder; None without any."""
  indices = glob.glob(os.path.join(glob.escape(folder), 'model[0-9]*.index'))
  return max((path[:-len('.index')] for path in indices),
             key=lambda path: (len(path), path), default=None)


def goes_on(config: Config) -> bool:
  """Whether training would go on from a checkpoint, or be refused since it cannot be read;
  otherwise it begins with new parameters."""
  files = CheckpointFiles(experiment_folder(config), KEPT)
  return config.run.resume and bool(files.paths or files.listed)


def has_checkpoints(folder: str) -> bool:
  """Whether there is a run to go on with. A start that was refused, or killed before its
  first checkpoint, leaves a configuration alone: nothing depends on that."""
  return any(files.paths or files.listed for files in (
      CheckpointFiles(folder, KEPT),
      CheckpointFiles(os.path.join(folder, BEST_FOLDER), 1)))


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


def _move_aside(folder: str) -> None:
  number = 1
  while os.path.exists(f'{folder}.previous{number}'):
    number += 1
  os.replace(folder, f'{folder}.previous{number}')
  print(f'The earlier run was moved to {folder}.previous{number}')


def _checkpoint_for_test(folder: str, config: Config) -> str:
  advice = ('train first (--train=True), or name the trained run with its flags and '
            '--logdir')
  files = CheckpointFiles(folder, KEPT)
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
    path = CheckpointFiles(os.path.join(folder, BEST_FOLDER), 1).last_written
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
  legacy = _newest_of_tf1(folder)
  if legacy is not None:
    return (f', but there are checkpoints of the TF1 code (test one by '
            f'{shlex.quote(f"--legacy_checkpoint={legacy}")})')
  around = os.path.dirname(folder)
  names = [name for name in (sorted(os.listdir(around)) if os.path.isdir(around) else [])
           if CheckpointFiles(os.path.join(around, name), KEPT).paths]
  near = difflib.get_close_matches(os.path.basename(folder), names, _NAMED, cutoff=0)
  return f', but beside it in {", ".join(near)}' if near else ''


def require_whole(path: str, advice: str) -> str:
  """`path` of a checkpoint. Raises: CheckpointError: where it is damaged, with the advice."""
  reason = damage(path)
  if reason is not None:
    raise CheckpointError(f'The checkpoint {path} is damaged ({reason}): {advice}.')
  return path
