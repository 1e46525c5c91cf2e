"""One process at a time trains in a folder."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest

from maml_tf import heartbeat, locks
from maml_tf.config import ConfigError
from maml_tf.training.run_lock import run_lock

LONGEST = 300   # seconds until a process does something
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


def test_a_folder_is_the_same_by_whatever_link(tmp_path):
  folder = tmp_path / 'disk' / 'run'
  folder.mkdir(parents=True)
  (tmp_path / 'logs').mkdir()
  (tmp_path / 'logs' / 'run').symlink_to(folder)
  (tmp_path / 'link').symlink_to(tmp_path / 'disk')
  with run_lock(str(folder)):
    for other in ('logs', 'link'):
      with pytest.raises(ConfigError, match='is training in'):
        with run_lock(str(tmp_path / other / 'run')):
          pytest.fail('two hold it')


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
  deadline = time.monotonic() + LONGEST
  while 'held' not in process.output_text():
    assert process.alive and time.monotonic() < deadline, process.output_text()
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


# A file system without locks.


@pytest.fixture
def without_locks(monkeypatch):
  """Signs of life come fast there, for the tests' sake."""
  def refuse(number, operation):
    raise OSError(errno.ENOLCK, 'No locks available')
  monkeypatch.setattr(locks.fcntl, 'flock', refuse)
  monkeypatch.setattr(heartbeat, 'BEAT', 0.05)
  monkeypatch.setattr(heartbeat, 'SILENCE', 0.5)
  monkeypatch.setattr(heartbeat, '_LOOK', 0.02)


def test_without_locks_a_second_one_is_refused_and_told_of_the_first(
    tmp_path, without_locks, capsys):
  folder = str(tmp_path / 'run')
  with run_lock(folder):
    assert capsys.readouterr().err == ''
    for _ in range(2):
      with pytest.raises(ConfigError, match=f'process {os.getpid()} on .* is training in '):
        with run_lock(folder):
          pytest.fail('two hold it')
  assert os.listdir(tmp_path) == []
  with run_lock(folder):
    pass


def test_without_locks_what_another_host_left_is_taken_over_in_time(
    tmp_path, without_locks, capsys):
  (tmp_path / 'run.lock').write_text('process 7 on elsewhere\n0123\n42\n')
  before = time.monotonic()
  with run_lock(str(tmp_path / 'run')):
    assert time.monotonic() - before >= heartbeat.SILENCE
    assert f'process {os.getpid()} on' in (tmp_path / 'run.lock').read_text()
  error = capsys.readouterr().err
  assert 'of process 7 on elsewhere' in error and error.count('\n') == 1
  assert os.listdir(tmp_path) == []


def test_without_locks_one_of_two_takes_over(tmp_path, without_locks, monkeypatch):
  """The other finds the first one's file in the place of the old one, and puts it back."""
  path = tmp_path / 'run.lock'
  path.write_text('process 7 on elsewhere\n0123\n42\n')
  original = os.replace

  def late(source, target):
    path.write_text('process 8 on another\n4567\n1\n')
    original(source, target)
  monkeypatch.setattr(os, 'replace', late)
  with pytest.raises(ConfigError, match='process 8 on another'):
    with run_lock(str(tmp_path / 'run')):
      pytest.fail('two hold it')
  assert path.read_text() == 'process 8 on another\n4567\n1\n'
  assert os.listdir(tmp_path) == ['run.lock']


def test_without_locks_who_was_replaced_stops(tmp_path, without_locks, monkeypatch, capsys):
  """As after a night in which the machine slept."""
  path, signals = tmp_path / 'run.lock', []
  monkeypatch.setattr(heartbeat.os, 'kill', lambda *arguments: signals.append(arguments))
  with run_lock(str(tmp_path / 'run')):
    other = tmp_path / 'other'
    other.write_text('process 8 on another\n4567\n1\n')
    os.replace(other, path)
    deadline = time.monotonic() + 30
    while not signals and time.monotonic() < deadline:
      time.sleep(0.01)
  assert signals == [(os.getpid(), signal.SIGTERM)]
  assert 'was taken over by process 8 on another' in capsys.readouterr().err
  assert path.exists()   # which is not this one's


def test_without_locks_a_server_that_is_gone_at_the_end_fails_nothing(
    tmp_path, without_locks, monkeypatch):
  def refuse(_):
    raise OSError(errno.ESTALE, 'Stale file handle')
  with run_lock(str(tmp_path / 'run')):
    monkeypatch.setattr(heartbeat, '_text', refuse)


def test_without_locks_a_file_that_somebody_removed_comes_back(tmp_path, without_locks):
  path = tmp_path / 'run.lock'
  with run_lock(str(tmp_path / 'run')):
    path.unlink()
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
      time.sleep(0.01)
    assert path.exists()


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
  with pytest.raises(ConfigError, match='/run cannot be written .* choose another --logdir'):
    with run_lock(str(tmp_path / 'file' / 'run')):   # named, and not the lock's own file
      pytest.fail('it was locked')
