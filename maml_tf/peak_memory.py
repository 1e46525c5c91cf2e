"""The most memory that this process had. No TensorFlow here."""

from __future__ import annotations

import sys
from typing import Optional

# Of what the system counts in: kilobytes, and bytes on macOS.
_PER_MIB = 1 << 20 if sys.platform == 'darwin' else 1 << 10


def peak_memory_mb() -> Optional[float]:
  """In MiB, of what was resident; None on Windows, where Python does not say it."""
  try:
    import resource
  except ImportError:
    return None
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PER_MIB
