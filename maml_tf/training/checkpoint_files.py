"""A folder of checkpoints: written aside and renamed, checked, and the old ones removed."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
from typing import List, NamedTuple, Optional, Tuple

import tensorflow as tf

from maml_tf.files import WriteError, make_lasting, remedy, write_whole

NAME = 'model'
ASIDE = 'unfinished'
STATE_FILE = 'checkpoint'
DAMAGED = '.damaged'
BEST_FOLDER = 'best'
KEPT = 10   # of the last iterations

# Without it TensorFlow restores nothing; checkpoints of the TF1 code have none.
OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'
# What TensorFlow raises for a checkpoint that is damaged, or of other objects.
UNREADABLE = (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError)

# What a process that was killed may leave, of earlier versions of this project, too.
_LEFT_OVER = (ASIDE, f'{NAME}-*_temp', f'{STATE_FILE}.tmp*', '*.[0-9]*.tmp')


class Damaged(NamedTuple):
  """A checkpoint that cannot be read, and why."""
  path: str
  reason: str


class CheckpointFiles:
  """The checkpoints `model-ITERATION` of one folder.

  A checkpoint is written into a folder aside, read back, and then renamed, its index
  last: one that has an index is whole, unless something happened to it later. Older
  ones are removed after that.

  Args:
    folder: need not exist.
    kept: how many, the one that was written last among them.
  """

  def __init__(self, folder: str, kept: int = KEPT):
    self.folder = folder
    self._kept = kept

  @property
  def paths(self) -> List[str]:
    """Of the checkpoints, oldest first, without endings."""
    indices = glob.glob(os.path.join(glob.escape(self.folder), f'{NAME}-*.index'))
    paths = [path[:-len('.index')] for path in indices]
    return sorted((path for path in paths if _is_name(os.path.basename(path))),
                  key=iteration_of)

  @property
  def listed(self) -> List[str]:
    """Those in TensorFlow's own list, oldest first: the ones that should be there."""
    with contextlib.suppress(*UNREADABLE):
      state = tf.train.get_checkpoint_state(self.folder)
      if state is not None:
        names = [os.path.basename(path) for path in state.all_model_checkpoint_paths]
        return [os.path.join(self.folder, name) for name in names if _is_name(name)]
    return []

  @property
  def last_written(self) -> Optional[str]:
    """The checkpoint that was written last; None where there is none."""
    path = tf.train.latest_checkpoint(self.folder) if self.listed else None
    return path or (self.paths or [None])[-1]

  def write(self, checkpoint: tf.train.Checkpoint, iteration: int) -> str:
    """Writes all of it, or nothing; the path.

    Raises:
      WriteError: when that is not possible; those before it are as they were.
    """
    aside = os.path.join(self.folder, ASIDE)
    try:
      os.makedirs(aside, exist_ok=True)
      written = checkpoint.write(os.path.join(aside, f'{NAME}-{iteration}'))
      reason = damage(written)
      if reason is not None:
        raise OSError(f'read back, it is damaged: {reason}')
      path = self._put_in_place(written)
      self.record([*self._others(path), path])
    except (OSError, tf.errors.OpError) as error:
      before = self.paths
      raise WriteError(
          f'The checkpoint of iteration {iteration} cannot be written to {self.folder} '
          f'({first_line(error)}); the last one there is '
          f'{os.path.basename(before[-1]) if before else "none"}. {remedy(error)}; the '
          'same command goes on from there.') from error
    finally:
      shutil.rmtree(aside, ignore_errors=True)
    self._remove_old(path)
    return path

  def take(self, path: str) -> None:
    """Copies a checkpoint of another folder, as the one that was written last.

    Raises:
      OSError: when that is not possible.
    """
    os.makedirs(self.folder, exist_ok=True)
    target = os.path.join(self.folder, os.path.basename(path))
    for ending in sorted(_endings(path)):   # the index last
      shutil.copyfile(path + ending, target + ending)
      make_lasting(target + ending)
    self.record([*self._others(target), target])

  def _put_in_place(self, written: str) -> str:
    path = os.path.join(self.folder, os.path.basename(written))
    data = [ending for ending in _endings(written) if ending != '.index']
    for ending in [*data, '.index']:   # the index last
      make_lasting(written + ending)
      os.replace(written + ending, path + ending)
    make_lasting(self.folder)
    return path

  def _others(self, path: str) -> List[str]:
    """Those that are kept beside `path`."""
    others = [other for other in self.paths if other != path]
    return others[max(0, len(others) - self._kept + 1):]

  def _remove_old(self, path: str) -> None:
    kept = {path, *self._others(path)}
    for other in self.paths:
      if other not in kept:
        _remove(other)

  def record(self, paths: List[str]) -> None:
    """Writes the list that `tf.train.latest_checkpoint` reads; the last path is the
    newest one. Names only, so that the folder may be moved."""
    names = [os.path.basename(path) for path in paths]
    lines = [f'all_model_checkpoint_paths: "{name}"\n' for name in names]
    write_whole(os.path.join(self.folder, STATE_FILE),
                f'model_checkpoint_path: "{names[-1]}"\n' + ''.join(lines))

  def clean(self) -> None:
    """Removes what a process that was killed has left."""
    escaped = glob.escape(self.folder)
    for pattern in _LEFT_OVER:
      for path in glob.glob(os.path.join(escaped, pattern)):
        if os.path.isdir(path):
          shutil.rmtree(path, ignore_errors=True)
        else:
          os.remove(path)
    for path in glob.glob(os.path.join(escaped, f'{NAME}-*.data-*-of-*')):
      if not os.path.exists(path.rpartition('.data-')[0] + '.index'):
        os.remove(path)

  def set_aside(self, damaged: List[Damaged]) -> None:
    """Renames damaged ones, and takes them and missing ones off TensorFlow's list."""
    for path, _ in damaged:
      for ending in sorted(_endings(path), reverse=True):   # the index first
        os.replace(path + ending, path + ending + DAMAGED)
    if self.paths:
      self.record(self.paths)


def best_of(folder: str) -> CheckpointFiles:
  """The best checkpoint of a run, beside those of the last iterations."""
  return CheckpointFiles(os.path.join(folder, BEST_FOLDER), 1)


def newest_whole(files: CheckpointFiles, what_then: str
                 ) -> Tuple[Optional[str], List[Damaged]]:
  """(the newest checkpoint that can be read, or None; newer ones that cannot).

  Says of each newer one on stderr that it is damaged or missing.

  Args:
    files: the folder.
    what_then: of the message: 'going on with' or the like.
  """
  damaged = []
  whole = None
  for path in reversed(files.paths):
    reason = damage(path)
    if reason is None:
      whole = path
      break
    damaged.append(Damaged(path, reason))
  if whole is not None:
    for path, reason in damaged:
      print(f'The checkpoint {path} is damaged ({reason}): {what_then} '
            f'{os.path.basename(whole)}.', file=sys.stderr)
    for path in files.listed:
      if iteration_of(path) > iteration_of(whole) and not os.path.exists(path + '.index'):
        print(f'The checkpoint {path} is missing: {what_then} {os.path.basename(whole)}.',
              file=sys.stderr)
  return whole, damaged


def damage(path: str) -> Optional[str]:
  """Why a checkpoint cannot be read, in one line; None for one that is whole.

  Reads every tensor: TensorFlow compares each with its checksum.
  """
  try:
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)
  except UNREADABLE as error:
    return first_line(error)
  return None


def iteration_of(path: str) -> int:
  """model-1000 -> 1000."""
  return int(re.search(r'-(\d+)$', path).group(1))


def first_line(error: Exception) -> str:
  """What happened, without what only TensorFlow's developers can use."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  line = str(error).strip().split('\n')[0]
  return re.sub(r'^\{\{function_node .*?\}\} | \[Op:\w+\].*$', '', line)[:300]


def _is_name(name: str) -> bool:
  return re.fullmatch(rf'{NAME}-\d+', name) is not None


def _endings(path: str) -> List[str]:
  """'.index', '.data-00000-of-00001': those of the files that are there."""
  found = glob.glob(glob.escape(path) + '.index')
  found += glob.glob(glob.escape(path) + '.data-?????-of-?????')
  return [name[len(path):] for name in found]


def _remove(path: str) -> None:
  """The index first: data without an index are no checkpoint."""
  for ending in sorted(_endings(path), reverse=True):
    with contextlib.suppress(FileNotFoundError):
      os.remove(path + ending)
