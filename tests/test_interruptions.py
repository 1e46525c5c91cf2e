"""Signals outside of training: one sentence, and the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maml_tf import command_line, interruptions

REPOSITORY = Path(__file__).resolve().parent.parent
ENDING = [number for name in ('SIGTERM', 'SIGHUP', 'SIGUSR1')
          if (number := getattr(signal, name, None)) is not None]


@pytest.mark.parametrize('number', [signal.SIGINT, *ENDING])
def test_a_command_says_what_ended_it(number, capsys):
  code = command_line.exit_code('program', lambda: signal.raise_signal(number))
  assert code == 128 + number
  by = '' if number == signal.SIGINT else f' by {signal.Signals(number).name}'
  assert capsys.readouterr().err == (
      f'program: interrupted{by}; the same command goes on from the last checkpoint, if there '
      'is one.\n')


def test_what_stands_is_said_where_it_is_known(capsys):
  def action():
    with interruptions.leaving(lambda: 'outer'), interruptions.leaving(lambda: 'inner'):
      signal.raise_signal(signal.SIGTERM)
  assert command_line.exit_code('program', action) == 143
  assert capsys.readouterr().err == 'program: interrupted by SIGTERM; inner.\n'


@pytest.mark.parametrize('handler', [signal.SIG_IGN, lambda *_: None])
def test_what_is_ignored_or_cared_for_stays_so(handler):
  before = signal.signal(signal.SIGTERM, handler)
  try:
    assert command_line.exit_code('program', lambda: signal.raise_signal(signal.SIGTERM)) == 0
    assert signal.getsignal(signal.SIGTERM) is handler
  finally:
    signal.signal(signal.SIGTERM, before)


def test_the_handlers_come_back():
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
  with interruptions.ending_at_once('program'), interruptions.raised():
    assert {number: signal.getsignal(number) for number in ENDING} != before
    with interruptions.put_off():
      pass
  assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_files_that_belong_together_are_finished_first(number):
  done = []
  with interruptions.raised(), pytest.raises(KeyboardInterrupt):
    with interruptions.put_off():
      signal.raise_signal(number)
      done.append('second file')
    done.append('never')
  assert done == ['second file']


@pytest.mark.parametrize('number', [signal.SIGINT, *ENDING])
def test_while_it_is_loaded_a_command_ends_at_once(number):
  """Not by an exception, which comes out of the import of a library as another one, or as a
  traceback; here: out of a `del`, which lets none through."""
  script = (f'import sys, signal, flags, main\n'
            f'class Loaded:\n'
            f'  def __del__(self): signal.raise_signal({int(number)})\n'
            f'def load(*_, **__):\n'
            f'  one = Loaded()\n'
            f'  del one\n'
            f'  sys.exit(0)\n'
            f'flags.main_config = load\n'
            f'main.main(sys.argv)\n')
  done = subprocess.run([sys.executable, '-c', script], cwd=REPOSITORY, text=True,
                        capture_output=True, timeout=600,
                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
                        if os.name == 'posix' else None)
  assert done.returncode == 128 + number, done.stderr
  assert done.stderr.startswith('main.py: interrupted') and done.stderr.count('\n') == 1
  assert 'nothing was begun' in done.stderr
