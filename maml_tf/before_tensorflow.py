"""What TensorFlow reads from the environment while it is loaded. No TensorFlow here."""

from __future__ import annotations

import os
import platform

_X86 = ('x86_64', 'AMD64')


def set_environment() -> None:
  """For an entry point, before anything imports TensorFlow; what the user has set stays.

  - TensorFlow's own log is noise here, since errors arrive as exceptions.
  - Of oneDNN's kernels, which are in every TensorFlow for x86, TensorFlow takes its own
    choice: only on processors with AVX512-VNNI or later. They are faster without, too:
    nearly twice as fast with AVX2 on mini-ImageNet, and the same within a machine's noise
    on Omniglot (docs/speed.md has the times).
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if platform.machine() in _X86:
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
