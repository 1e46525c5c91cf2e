"""Golden files of MAML-TRPO beside what training computes: `maml_tf.rl.golden`.

The files are of an independent implementation in float64; the TF1 code's reinforcement
learning cannot be run any more.
"""

from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np

from maml_tf.legacy.golden import GoldenError
from maml_tf.legacy.quantities import (
  TOLERANCES,
  Comparison,
  Quantity,
  absolute_error,
  judged,
  largest,
  relative_error,
)
from maml_tf.rl import golden

# What comes before products with the Hessian. Directions of float32 differ for good reasons.
_JUDGED_IN_FLOAT32 = ('returns', 'advantages', 'inner_loss', 'surrogate_per_task')
# Conjugate gradients amplify round-off.
_TOLERANCE_THROUGH_CG = 1e-6
_THROUGH_CG = ('cg_direction', 'cg_residual', 'step_size', 'tried_surrogate', 'tried_kl',
               'surrogate_after', 'kl_after', 'theta_final')
COUNTS = ('cg_iterations', 'accepted_backtracks')
# Beside counts, what is zero in exact arithmetic: the surrogate is a mean of centred
# advantages before the step, and the divergence one of equals.
_WITH_ABSOLUTE_ERROR = (*COUNTS, 'surrogate', 'surrogate_per_task', 'kl', 'kl_grad_max')


def compare(path: str, arrays: Mapping[str, np.ndarray], dtype: str, tasks_at_once: int
            ) -> Comparison:
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
    received = golden.computed(arrays, dtype, tasks_at_once or 5)
  except golden.UnusableFile as error:
    raise GoldenError(f'{path} is not a usable golden file: {error}.') from None
  groups: Dict[str, List[float]] = {}
  for name, value in received.items():
    if name in arrays:
      group = golden.stem(name)
      groups.setdefault(group, []).append(_error(group, value, arrays[name], arrays))
  quantities = judged(path, [
      Quantity(name, len(errors), largest(errors), _tolerance(name),
               absolute=name in _WITH_ABSOLUTE_ERROR) for name, errors in groups.items()],
      dtype, _JUDGED_IN_FLOAT32)
  known = {*groups, *golden.INPUTS}
  others = tuple(name for name in arrays if golden.stem(name) not in known)
  return Comparison(path, _title(arrays, dtype), dtype, quantities, others)


def _error(group: str, received, expected: np.ndarray, arrays: Mapping[str, np.ndarray]
           ) -> float:
  if np.shape(received) != expected.shape:   # another number of candidates
    return np.inf
  if group in _WITH_ABSOLUTE_ERROR:
    return absolute_error(received, expected)
  if group == 'surrogate_b' and 'surrogate_b_per_task' in arrays:
    # A mean of positive and negative values, which may cancel.
    scale = absolute_error(0, arrays['surrogate_b_per_task'])
    return absolute_error(received, expected) / (scale or 1)
  return relative_error(received, expected)


def _tolerance(name: str) -> float:
  if name in COUNTS:
    return 0.0
  return _TOLERANCE_THROUGH_CG if name in _THROUGH_CG else TOLERANCES['float64']


def _title(arrays: Mapping[str, np.ndarray], dtype: str) -> str:
  words = ['MAML-TRPO',
           f'{arrays["tasks"].item()} tasks of {arrays["rollouts"].item()} rollouts',
           f'{arrays["inner_steps"].item()} inner steps of {arrays["alpha"].item():g}']
  if arrays['first_order'].item():
    words.append('first order')
  return ', '.join([*words, dtype])
