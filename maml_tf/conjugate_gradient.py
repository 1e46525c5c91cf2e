"""Conjugate gradients, for NumPy's vectors and for tensors with a leading axis of tasks."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import numpy as np


class Solution(NamedTuple):
  """What conjugate gradients found: x, the iterations done, and the last r.r."""
  direction: Any
  iterations: int
  residual: Any


def conjugate_gradient(product: Callable[[Any], Any], target: Any, iterations: int,
                       tolerance: Optional[float] = None, dot: Callable = np.dot,
                       divide: Callable = np.divide) -> Solution:
  """x with product(x) = target, from x = 0.

  Args:
    product: a symmetric positive definite linear map.
    target: a vector, or with a `dot` of its own anything that can be added and multiplied.
    iterations: at most.
    tolerance: r.r at which they end; None: never, as in a graph.
    dot: the inner product, of a shape that broadcasts over the vectors.
    divide: of such values.
  """
  found = target * 0
  residual = direction = target * 1
  squared = dot(residual, residual)
  done = 0
  while done < iterations:
    image = product(direction)
    length = divide(squared, dot(direction, image))
    found = found + length * direction
    residual = residual - length * image
    previous, squared = squared, dot(residual, residual)
    direction = residual + divide(squared, previous) * direction
    done += 1
    if tolerance is not None and squared < tolerance:
      break
  return Solution(found, done, squared)
