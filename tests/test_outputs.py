"""Standard output and error that a run outlives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from maml_tf import command_line, outputs
from maml_tf.errors import UserError

PROGRAM = '''
import sys
sys.path.insert(0, {root!r})
from maml_tf.command_line import exit_code
from maml_tf.errors import FailedError
def action():
  for number in range(20000):
    print('line', number)
  with open({done!r}, 'w') as file:
    file.write('results')
  print('bar 50%', end='', file=sys.stderr)
  raise FailedError('what went wrong.')
sys.exit(exit_code('prog', action))
'''


@pytest.fixture
def program(tmp_path):
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  done = tmp_path / 'done'
  return [sys.executable, '-c', PROGRAM.format(root=root, done=str(done))], done


def test_a_log_ends_with_what_went_wrong(program, tmp_path):
  """Standard output is kept back where it is a file, and came behind the message."""
  command, _ = program
  with open(tmp_path / 'log', 'w', encoding='utf-8') as log:
    code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
  *_, last_printed, bar, message = (tmp_path / 'log').read_text().splitlines()
  assert (code, last_printed, bar, message) == (
      1, 'line 19999', 'bar 50%', 'prog: what went wrong.')


@pytest.mark.skipif(os.name == 'nt', reason='descriptors of a shell')
@pytest.mark.parametrize('redirection', ['>&-', '2>&-', '>&- 2>&-', '> /dev/full',
                                         '2> /dev/full', '| head -1'])
def test_output_that_goes_nowhere_ends_nothing(program, redirection):
  command, done = program
  if '/dev/full' in redirection and not os.path.exists('/dev/full'):
    pytest.skip('there is no /dev/full')
  result = subprocess.run(['bash', '-c', f'"$0" "$@" {redirection}', *command],
                          capture_output=True, text=True, check=False)
  assert done.read_text() == 'results'
  assert 'Traceback' not in result.stderr and 'Exception ignored' not in result.stderr
  if 'head' not in redirection:   # of a pipe the code is that of its last command
    assert result.returncode == 1


def test_streams_come_back(capsys):
  before = sys.stdout, sys.stderr
  with pytest.raises(ZeroDivisionError):
    with outputs.lasting():
      print('printed')
      with outputs.lasting():
        print('said', file=sys.stderr)
      raise ZeroDivisionError
  assert (sys.stdout, sys.stderr) == before
  assert capsys.readouterr() == ('printed\n', 'said\n')


def test_a_message_does_not_stand_in_the_line_of_a_bar(capsys):
  def action():
    print('50%|####', end='', file=sys.stderr)
    raise UserError('no.')
  assert command_line.exit_code('prog', action) == 2
  assert capsys.readouterr().err == '50%|####\nprog: no.\n'


def test_without_standard_error_nothing_is_said(monkeypatch):
  monkeypatch.setattr(sys, 'stderr', None)
  outputs.say('to nobody')


def test_a_signal_in_the_middle_of_a_write_ends_nothing(capsys, monkeypatch):
  """Python refuses a second call of a buffered stream's `write` within the first."""
  class InAWrite:
    def write(self, text):
      raise RuntimeError('reentrant call')
    def flush(self):
      raise RuntimeError('reentrant call')
  written = sys.stdout
  with outputs.lasting():
    stream = sys.stdout
    monkeypatch.setattr(stream, '_stream', InAWrite())
    print('lost', flush=True)
    monkeypatch.setattr(stream, '_stream', written)
    print('seen')
  assert capsys.readouterr().out == 'seen\n'
