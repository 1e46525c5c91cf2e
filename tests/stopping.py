"""Runs that are told to stop at an iteration, and what their checkpoints hold."""

from __future__ import annotations

import contextlib
import signal

import tensorflow as tf

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


def checkpoint_values(prefix):
  """{name: array} of everything that a checkpoint holds, but how often it was saved."""
  reader = tf.train.load_checkpoint(prefix)
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if 'save_counter' not in name and 'OBJECT_GRAPH' not in name}
