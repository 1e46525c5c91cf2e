"""Conjugate gradients, for NumPy's vectors and for tensors with a leading axis of tasks."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Tuple

import numpy as np


class Solution(NamedTuple):
  """What conjugate gradients found: x, the iterations done, and the last r.r."""
  direction: Any
  iterations: int
  residual: Any


# Of x, the residual, the direction and r.r; a function of them, again and again.
State = Tuple[Any, Any, Any, Any]
Repeat = Callable[[Callable[[State], State], State, int], State]


def conjugate_gradient(product: Callable[[Any], Any], target: Any, iterations: int,
                       tolerance: Optional[float] = None, dot: Callable = np.dot,
                       divide: Callable = np.divide, repeat: Optional[Repeat] = None
                       ) -> Solution:
  """x with product(x) = target, from x = 0.

  Args:
    product: a symmetric positive definite linear map.
    target: a vector, or with a `dot` of its own anything that can be added and multiplied.
    iterations: at most.
    tolerance: r.r at which they end; None: never, as in a graph.
    dot: the inner product, of a shape that broadcasts over the vectors.
    divide: of such values.
    repeat: makes all iterations, as a loop of a graph; None: one after the other.
  """
  def step(state: State) -> State:
    found, residual, direction, before = state
    image = product(direction)
    length = divide(before, dot(direction, image))
    residual = residual - length * image
    squared = dot(residual, residual)
    return (found + length * direction, residual,
            residual + divide(squared, before) * direction, squared)
  residual, done = target * 1, 0
  state = (target * 0, residual, residual, dot(residual, residual))
  if repeat is not None:
    state, done = repeat(step, state, iterations), iterations
  while done < iterations:
    state = step(state)
    done += 1
    if tolerance is not None and state[-1] < tolerance:
      break
  return Solution(state[0], done, state[-1])
