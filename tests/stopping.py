"""Runs that are told to stop at an iteration."""

from __future__ import annotations

import contextlib
import signal

from maml_tf.training import callbacks


def interrupt_at(monkeypatch, iteration):
  """Runs get SIGTERM then."""
  original = callbacks.StopOnSignal.after_iterations

  def after_iterations(self, before, now, logs):
    if now == iteration:
      signal.raise_signal(signal.SIGTERM)
    original(self, before, now, logs)
  monkeypatch.setattr(callbacks.StopOnSignal, 'after_iterations', after_iterations)


@contextlib.contextmanager
def stopped_after(iteration, monkeypatch):
  """Runs within get SIGTERM then."""
  with monkeypatch.context() as patch:
    interrupt_at(patch, iteration)
    yield
