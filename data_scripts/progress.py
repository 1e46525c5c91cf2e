"""The progress bar of the scripts."""

from __future__ import annotations

from tqdm import tqdm


class ProgressBar(tqdm):
  """tqdm's bar. Ctrl-C while it is being made leaves no complaint of its finaliser, nor
  of the thread that redraws bars which stand still: it has none."""
  monitor_interval = 0

  # Until the bar is made; the finaliser reads it.
  disable = True
