"""The progress bar of the scripts."""

from __future__ import annotations

import io
import threading

from tqdm import tqdm

from data_scripts.progress import ProgressBar


def test_a_bar_starts_no_thread(monkeypatch):
  """Ctrl-C between tqdm's making of its thread and the thread's start left a complaint."""
  monkeypatch.setattr(tqdm, 'monitor', None)
  before = threading.enumerate()
  shown = io.StringIO()
  assert list(ProgressBar(range(3), file=shown)) == [0, 1, 2]
  assert threading.enumerate() == before
  assert '3/3' in shown.getvalue()
