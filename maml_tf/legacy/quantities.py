"""What a comparison with a golden file gives, of whichever code the file is."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from maml_tf.legacy.golden import GoldenError

# In float64 everything is judged. Over several inner steps float32 is chaotic: ReLU and
# pooling switch on round-off, and Adam turns a small element's round-off into a step of
# full size, although neither is wrong. So in float32 the losses decide alone; the rest
# is shown.
TOLERANCES = {'float64': 1e-8, 'float32': 1e-3}


class Quantity(NamedTuple):
  """One line of a comparison.

  Attributes:
    name: as in the golden file, without the tensors' names.
    tensors: how many were compared.
    error: the largest one; relative to the largest absolute value of its tensor, or
      where `absolute` is True, the largest absolute difference.
    tolerance: which error passes.
    where: the tensor that has it.
    absolute: see `error`.
    judged: whether it decides if the comparison is passed.
  """
  name: str
  tensors: int
  error: float
  tolerance: float = TOLERANCES['float64']
  where: str = ''
  absolute: bool = False
  judged: bool = True

  def passes(self, tolerance: Optional[float]) -> bool:
    """Whether the error is not above the tolerance; None: its own."""
    return self.error <= (self.tolerance if tolerance is None else tolerance)   # not NaN


class Comparison(NamedTuple):
  """A golden file compared.

  Attributes:
    path: of the file.
    title: what it is of.
    dtype: of the computation.
    quantities: of the file.
    others: arrays that are not known.
  """
  path: str
  title: str
  dtype: str
  quantities: Tuple[Quantity, ...]
  others: Tuple[str, ...]

  @property
  def max_relative_error(self) -> float:
    """Of what is judged; NaN where a result is not a number."""
    return largest([quantity.error for quantity in self.quantities if quantity.judged])

  def passed(self, tolerance: Optional[float]) -> bool:
    """Whether no error is above the tolerance; None: above that of its quantity."""
    return all(quantity.passes(tolerance) for quantity in self.quantities if quantity.judged)

  def largest_allowed(self, tolerance: Optional[float]) -> float:
    """The tolerance; of None that of what is not behind conjugate gradients."""
    return TOLERANCES[self.dtype] if tolerance is None else tolerance

  def limit(self, tolerance: Optional[float]) -> str:
    """The tolerance, in words."""
    usual = self.largest_allowed(tolerance)
    widest = max((quantity.tolerance for quantity in self.quantities), default=usual)
    further = f', and {widest:.2g} behind conjugate gradients'
    return f'{usual:.2g}{further if tolerance is None and widest > usual else ""}'


def judged(path: str, quantities: Sequence[Quantity], dtype: str, in_float32: Sequence[str]
           ) -> Tuple[Quantity, ...]:
  """`quantities` with what decides in that precision.

  Args:
    path: of the file.
    quantities: of it, as in float64.
    dtype: of the computation.
    in_float32: names of what is judged in float32.

  Raises:
    GoldenError: where nothing of a file decides whether it is passed.
  """
  if dtype == 'float32':
    quantities = [quantity._replace(tolerance=TOLERANCES[dtype],
                                    judged=quantity.name in in_float32)
                  for quantity in quantities]
  if not quantities:
    raise GoldenError(f'{path} is not a usable golden file: it has nothing to compare with.')
  if not any(quantity.judged for quantity in quantities):
    raise GoldenError(f'{path} has nothing to judge in {dtype}, where {", ".join(in_float32)} '
                      f'alone are judged: leave --dtype={dtype} out.')
  return tuple(quantities)


def relative_error(received: np.ndarray, expected: np.ndarray) -> float:
  """The largest difference, relative to the largest absolute expected value.

  Where all expected values are zero, the largest absolute difference.
  """
  difference = absolute_error(received, expected)
  scale = absolute_error(0, expected)
  return difference / scale if scale > 0 else difference


def absolute_error(received: np.ndarray, expected: np.ndarray) -> float:
  """The largest absolute difference; 0 of nothing."""
  return float(np.max(np.abs(np.asarray(received, np.float64) - expected), initial=0.0))


def largest(errors: List[float]) -> float:
  """Like `max`, but a NaN is larger than everything."""
  return math.nan if any(map(math.isnan, errors)) else max(errors, default=0.0)
