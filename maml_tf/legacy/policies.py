"""Golden files of MAML-TRPO beside what training computes: `maml_tf.rl.golden`.

The files are of an independent implementation in float64; the TF1 code's reinforcement
learning cannot be run any more.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

import numpy as np

from maml_tf.legacy.comparison import Quantity, largest, require_judged
from maml_tf.legacy.golden import GoldenError
from maml_tf.rl import golden

TOLERANCE_IN_FLOAT32 = 1e-3
# What comes before products with the Hessian. Directions of float32 differ for good reasons.
_JUDGED_IN_FLOAT32 = ('returns', 'advantages', 'inner_loss', 'surrogate_per_task')


class PolicyComparison(NamedTuple):
  """A golden file compared; see `legacy.comparison.Comparison`.

  Attributes:
    path: of the file.
    title: what it is of.
    dtype: of the computation.
    quantities: of the file.
    tolerances: of each quantity.
    others: arrays that are not known.
  """
  path: str
  title: str
  dtype: str
  quantities: Tuple[Quantity, ...]
  tolerances: Tuple[float, ...]
  others: Tuple[str, ...]

  @property
  def max_relative_error(self) -> float:
    """Of what is judged; NaN where a result is not a number."""
    return largest([quantity.error for quantity in self.quantities if quantity.judged])

  def passed(self, tolerance: Optional[float]) -> bool:
    """Whether no error is above the tolerance; None: above that of its quantity."""
    return all(quantity.error <= (own if tolerance is None else tolerance)
               for quantity, own in zip(self.quantities, self.tolerances) if quantity.judged)

  def largest_allowed(self, tolerance: Optional[float]) -> float:
    """The tolerance of what is not behind conjugate gradients."""
    usual = golden.TOLERANCE if self.dtype == 'float64' else TOLERANCE_IN_FLOAT32
    return usual if tolerance is None else tolerance

  def limit(self, tolerance: Optional[float]) -> str:
    """The tolerance, in words."""
    text = f'{self.largest_allowed(tolerance):.2g}'
    if tolerance is None and self.dtype == 'float64':
      text += f', and {golden.THROUGH_CG:.2g} behind conjugate gradients'
    return text


def compare(path: str, arrays: Mapping[str, np.ndarray], dtype: str, tasks_at_once: int
            ) -> PolicyComparison:
  """Computes everything that the file has, and compares.

  Args:
    path: of the file.
    arrays: that it has.
    dtype: of the computation.
    tasks_at_once: 0: five.

  Raises:
    GoldenError: for a file that is not of this form, or of which nothing is judged.
  """
  try:
    found = golden.compare(arrays, dtype, tasks_at_once or 5)
  except golden.UnusableFile as error:
    raise GoldenError(f'{path} is not a usable golden file: {error}.') from None
  exact = dtype == 'float64'
  quantities = tuple(
      Quantity(one.name, one.arrays, one.error, '', one.absolute,
               judged=exact or one.name in _JUDGED_IN_FLOAT32) for one in found)
  require_judged(path, quantities, dtype, _JUDGED_IN_FLOAT32)
  tolerances = tuple(one.tolerance if exact else TOLERANCE_IN_FLOAT32 for one in found)
  known = {one.name for one in found} | golden.INPUTS
  others = tuple(name for name in arrays if golden.stem(name) not in known)
  return PolicyComparison(path, _title(arrays, dtype), dtype, quantities, tolerances, others)


def _title(arrays: Mapping[str, np.ndarray], dtype: str) -> str:
  words = ['MAML-TRPO',
           f'{arrays["tasks"].item()} tasks of {arrays["rollouts"].item()} rollouts',
           f'{arrays["inner_steps"].item()} inner steps of {arrays["alpha"].item():g}']
  if arrays['first_order'].item():
    words.append('first order')
  return ', '.join([*words, dtype])
