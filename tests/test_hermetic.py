"""The tests keep to themselves, and the commands depend neither on home nor on folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize('use', [
    lambda: socket.create_connection(('192.0.2.1', 80), timeout=0.1),
    lambda: socket.getaddrinfo('example.com', 80),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))])
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_test_that_uses_the_network_fails(use):
  with pytest.raises(RuntimeError, match='uses the network'):
    use()


def test_this_machine_is_no_network():
  with socket.create_server(('127.0.0.1', 0)) as server:
    with socket.create_connection(server.getsockname()):
      pass


def test_a_test_that_writes_elsewhere_fails(written_outside, tmp_path):
  for path in (str(REPOSITORY / 'logs' / 'x'), '/etc/x', os.fsencode('/x')):
    # What Python announces before it opens a file, without the file.
    sys.audit('open', path, 'w', 0)
    sys.audit('open', path, None, os.O_CREAT)
    sys.audit('os.mkdir', path, 0o777, -1)
    sys.audit('os.rename', str(tmp_path), path, -1, -1)
    found, written_outside[:] = list(written_outside), []
    assert found == [os.fsdecode(path)] * 4
  sys.audit('open', '/etc/passwd', 'r', os.O_RDONLY)
  (tmp_path / 'x').write_text('')
  (tmp_path / 'x').rename(tmp_path / 'y')
  assert not written_outside


def run(folder, *command, **environment):
  """A command of the repository in another folder, without a home."""
  home = str(folder / 'no home')
  return subprocess.run(
      [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False,
      env={**os.environ, 'HOME': home, 'XDG_CACHE_HOME': home, **environment})


def test_the_data_scripts_run_anywhere(tmp_path):
  scripts = REPOSITORY / 'data_scripts'
  made = run(tmp_path, scripts / 'make_sample_data.py', '--datasource=omniglot',
             '--out=sample', '--form=source')
  assert made.returncode == 0 and os.listdir(tmp_path) == ['sample'], made.stderr
  for name in ('omniglot', 'miniimagenet'):
    refused = run(tmp_path, scripts / f'prepare_{name}.py', '--source=sample')
    assert refused.returncode == 2 and 'Traceback' not in refused.stderr
    assert 'sample' in refused.stderr
  assert {path.name for path in tmp_path.iterdir()} <= {'sample', 'data'}


def test_main_runs_anywhere(tmp_path):
  refused = run(tmp_path, REPOSITORY / 'main.py', '--train=False')
  assert refused.returncode == 2, refused.stderr
  sentence, = [line for line in refused.stderr.splitlines() if line.startswith('main.py: ')]
  assert 'logs/sinusoid' in sentence and str(REPOSITORY) not in sentence
  assert {path.name for path in tmp_path.iterdir()} <= {'no home'}   # caches of libraries
