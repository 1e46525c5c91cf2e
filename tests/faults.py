"""What happens in the processes of `forked`: runs with frequent checkpoints, and writes
during which the process is killed."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import tensorflow as tf

import main
from maml_tf import files
from maml_tf.training import callbacks, checkpoint_files
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.run_lock import run_lock

SIZE = 2000


def run(arguments, interval) -> int:
  """`main.py`, with checkpoints and summaries at that interval."""
  callbacks.SAVE_INTERVAL = callbacks.SUMMARY_INTERVAL = interval
  return main.main(['main.py', *arguments])


def checkpoints_of(folder):
  """(checkpoints, the variable in them)."""
  value = tf.Variable(np.zeros(SIZE, np.float32))
  return Checkpoints(folder, value=value), value


def killed_while_writing(folder, stage, best) -> int:
  """Writes checkpoints 1 and 2 whole, each full of its number, and is killed in 3."""
  saved, value = checkpoints_of(folder)
  for iteration in (1, 2, 3):
    value.assign(np.full(SIZE, iteration, np.float32))
    if iteration == 3:
      STAGES[stage]()
    if best:
      saved.offer_best(iteration, float(iteration))
    else:
      saved.save(iteration)
  return 1   # it must not get here


def write_file_and_be_killed(path, text) -> int:
  with files.whole_file(path) as file:
    file.write(text)
    file.flush()
    _die()


def hold_lock(folder) -> int:
  """Until it is killed."""
  with run_lock(folder):
    print('held', flush=True)
    time.sleep(600)
  return 1


def _die(*_, **__):
  os.kill(os.getpid(), signal.SIGKILL)


def _before(owner, name, due=lambda *_: True):
  """Makes the process die where `owner.name` would be called."""
  original = getattr(owner, name)

  def replaced(*arguments, **keywords):
    if due(*arguments):
      _die()
    return original(*arguments, **keywords)
  setattr(owner, name, replaced)


def _half_of_the_data():
  """TensorFlow has written a part of the file."""
  original = tf.train.Checkpoint.write

  def write(self, prefix, *arguments, **keywords):
    written = original(self, prefix, *arguments, **keywords)
    data = f'{written}.data-00000-of-00001'
    os.remove(f'{written}.index')
    os.truncate(data, os.path.getsize(data) // 2)
    _die()
  tf.train.Checkpoint.write = write


def _in_tensorflow_s_merge():
  from tensorflow.python.ops import gen_io_ops
  _before(gen_io_ops, 'merge_v2_checkpoints')


def _ends_with(ending):
  return lambda path, *_: path.endswith(ending)


STAGES = {
    'before anything is written': lambda: _before(tf.train.Checkpoint, 'write'),
    'half of the data written': _half_of_the_data,
    'before TensorFlow puts its parts together': _in_tensorflow_s_merge,
    'before it is read back': lambda: _before(checkpoint_files, 'damage'),
    'before the data are renamed':
        lambda: _before(os, 'replace', _ends_with('.data-00000-of-00001')),
    'before the index is renamed': lambda: _before(os, 'replace', _ends_with('.index')),
    'before it is listed':
        lambda: _before(checkpoint_files.CheckpointFiles, 'record'),
    'while it is listed':
        lambda: _before(os, 'replace', _ends_with(f'checkpoint.{os.getpid()}.tmp')),
    'before the old one is removed':
        lambda: _before(checkpoint_files.CheckpointFiles, '_remove_old'),
}
# Of these the index has its name: the checkpoint is whole.
COMPLETE = ('before it is listed', 'while it is listed', 'before the old one is removed')
