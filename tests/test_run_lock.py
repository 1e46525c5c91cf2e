"""One process at a time trains in a folder."""

from __future__ import annotations

import errno
import os
import time

import pytest

from maml_tf import locks
from maml_tf.config import ConfigError
from maml_tf.training.run_lock import UNLOCKED, run_lock

pytestmark = pytest.mark.skipif(locks.fcntl is None, reason='this system has no file locks')


def test_a_second_one_is_refused_while_the_first_holds_it(tmp_path):
  folder = str(tmp_path / 'logs' / 'run')
  with run_lock(folder):
    with pytest.raises(ConfigError) as error:
      with run_lock(folder):
        pytest.fail('two hold it')
    with run_lock(str(tmp_path / 'logs' / 'other')):
      pass
  message = str(error.value)
  assert f'(process {os.getpid()} on ' in message and f'is training in {folder}: ' in message
  assert 'choose another --logdir' in message and '\n' not in message
  with run_lock(folder):
    pass
  assert os.listdir(tmp_path / 'logs') == []


def test_the_refused_one_takes_nothing_from_the_first(tmp_path):
  folder = str(tmp_path / 'run')
  with run_lock(folder):
    for _ in range(2):
      with pytest.raises(ConfigError):
        with run_lock(folder):
          pytest.fail('two hold it')


def test_an_error_gives_it_back(tmp_path):
  with pytest.raises(ZeroDivisionError):
    with run_lock(str(tmp_path / 'run')):
      raise ZeroDivisionError
  with run_lock(str(tmp_path / 'run')):
    pass


def test_a_killed_process_holds_nothing(tmp_path, forks):
  """Its file stays, and the next one takes it over."""
  folder = str(tmp_path / 'run')
  process = forks.start('faults:hold_lock', tmp_path / 'output', folder)
  while 'held' not in process.output_text():
    assert process.alive, process.output_text()
    time.sleep(0.01)
  with pytest.raises(ConfigError, match=f'process {process.pid} on'):
    with run_lock(folder):
      pytest.fail('two hold it')
  process.kill()
  process.wait()
  assert os.path.exists(f'{folder}.lock')
  with run_lock(folder):
    pass
  assert not os.path.exists(f'{folder}.lock')


def test_a_file_that_the_last_holder_removed_just_now_is_not_locked(tmp_path, monkeypatch):
  """Between `open` and `flock`: a third process would make a new one, and lock that."""
  path = str(tmp_path / 'run.lock')
  original, removed = locks.fcntl.flock, []

  def flock(number, operation):
    if not removed:
      removed.append(True)
      os.remove(path)
    original(number, operation)
  monkeypatch.setattr(locks.fcntl, 'flock', flock)
  with run_lock(str(tmp_path / 'run')):
    assert os.path.exists(path)
    with pytest.raises(ConfigError):
      with run_lock(str(tmp_path / 'run')):
        pytest.fail('two hold it')


def test_without_locks_it_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
  def refuse(number, operation):
    raise OSError(errno.ENOLCK, 'No locks available')
  monkeypatch.setattr(locks.fcntl, 'flock', refuse)
  with run_lock(str(tmp_path / 'run')):
    pass
  assert capsys.readouterr().err == UNLOCKED + '\n'
  assert os.listdir(tmp_path) == []


def test_windows_has_the_lock_of_a_library(tmp_path, monkeypatch):
  """Which is used here in the way it is used there."""
  pytest.importorskip('filelock')
  monkeypatch.setattr(locks, 'fcntl', None)
  folder = str(tmp_path / 'run')
  for _ in range(2):
    with run_lock(folder):
      with pytest.raises(ConfigError, match=f'is training in {folder}: '):
        with run_lock(folder):
          pytest.fail('two hold it')
  with pytest.raises(ZeroDivisionError), run_lock(folder):
    raise ZeroDivisionError
  with run_lock(folder):
    pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='cannot be written .* choose another --logdir'):
    with run_lock(str(tmp_path / 'file' / 'run')):
      pytest.fail('it was locked')
