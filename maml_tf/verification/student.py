"""Student's t: how wide the interval of a mean is whose spread few values tell."""

from __future__ import annotations

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=None)
def quantile(freedom: int) -> float:
  """How many standard errors a 95% interval of a mean reaches to each side.

  Args:
    freedom: degrees of it, 1 or more: values less one.

  Example:
    >>> [round(quantile(values - 1), 2) for values in (2, 3, 5, 100)]
    [12.71, 4.3, 2.78, 1.98]
  """
  # With t = sqrt(freedom) tan(angle) the density of the angle is that of cos^(freedom - 1).
  edges = np.linspace(0, np.pi / 2, 100_001)
  within = np.cumsum(np.cos((edges[1:] + edges[:-1]) / 2) ** (freedom - 1))
  angle = np.interp(0.95 * within[-1], within, edges[1:])
  return math.sqrt(freedom) * math.tan(angle)
