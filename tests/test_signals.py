"""Signals while a run trains: which are noted, and whose the handlers are before and after."""

from __future__ import annotations

import io
import signal
import sys
import threading

import pytest

from maml_tf import interruptions
from maml_tf.training.signals import Signals


@pytest.mark.parametrize('number', [*interruptions.ENDING, *interruptions.REPEATED])
def test_a_signal_is_noted_and_the_handlers_come_back(number, capsys):
  before = {each: signal.getsignal(each)
            for each in (*interruptions.ENDING, *interruptions.REPEATED)}
  with Signals() as signals:
    assert signals.received is None
    signal.raise_signal(number)
    assert signals.received == number
  assert {each: signal.getsignal(each) for each in before} == before
  assert f'{signal.Signals(number).name}: stopping after this step' in capsys.readouterr().err


def test_the_second_ctrl_c_interrupts_at_once():
  with pytest.raises(KeyboardInterrupt):
    with Signals():
      signal.raise_signal(signal.SIGINT)
      signal.raise_signal(signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize('number', interruptions.REPEATED)
def test_a_closed_terminal_may_tell_twice(number):
  """The shell does, and the system; what is being saved is not to end with that."""
  with Signals() as signals:
    signal.raise_signal(number)
    signal.raise_signal(number)
    assert signals.received == number


@pytest.mark.parametrize('number', interruptions.REPEATED)
def test_what_is_ignored_stays_ignored(number):
  """As SIGHUP under nohup."""
  before = signal.signal(number, signal.SIG_IGN)
  try:
    with Signals() as signals:
      signal.raise_signal(number)
      assert signals.received is None
  finally:
    signal.signal(number, before)


def test_a_signal_is_noted_where_its_message_cannot_be_written(monkeypatch):
  class Gone(io.StringIO):
    def write(self, text):
      raise OSError(5, 'Input/output error')
  monkeypatch.setattr(sys, 'stderr', Gone())
  with Signals() as signals:
    signal.raise_signal(signal.SIGTERM)
  assert signals.received == signal.SIGTERM


def test_an_error_gives_the_handlers_back():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(ZeroDivisionError):
    with Signals():
      raise ZeroDivisionError
  assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone():
  """Python gives them to the main thread alone; notebooks and servers train in others."""
  before = {each: signal.getsignal(each) for each in interruptions.ENDING}
  entered = []

  def enter():
    with Signals() as signals:
      entered.append(signals.received)
  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert entered == [None]
  assert {each: signal.getsignal(each) for each in before} == before
