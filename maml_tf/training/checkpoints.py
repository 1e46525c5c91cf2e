"""The checkpoints of a run, and how it goes on from them."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Optional, Tuple

import tensorflow as tf

from maml_tf.errors import CheckpointError, WriteError
from maml_tf.training.checkpoint_files import (
  OBJECT_GRAPH,
  UNREADABLE,
  CheckpointFiles,
  best_of,
  damage,
  first_line,
  iteration_of,
  newest_whole,
)


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
    self._latest = CheckpointFiles(folder)
    self._best = best_of(folder)
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
