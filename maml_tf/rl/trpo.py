"""The outer step of algorithm 3: trust region policy optimisation.

Knows no policy and no environment: a point, a gradient, products with a Hessian, and the
losses at other points. Vectors are NumPy's, in float64; float32 in the products is what
makes directions of float32 runs differ, not the arithmetic here.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Tuple

import numpy as np

from maml_tf.conjugate_gradient import Solution, conjugate_gradient

Product = Callable[[np.ndarray], np.ndarray]
Losses = Callable[[np.ndarray], Tuple[float, float]]

REJECTED = -1


class Step(NamedTuple):
  """An outer step.

  Attributes:
    parameters: after it; those before it if it was rejected.
    solution: see `Solution`.
    step_size: of the first candidate.
    tried_losses, tried_kls: of all candidates, in order.
    accepted: how often the step was shortened; -1: rejected.
  """
  parameters: np.ndarray
  solution: Solution
  step_size: float
  tried_losses: Tuple[float, ...]
  tried_kls: Tuple[float, ...]
  accepted: int


class TrustRegion(NamedTuple):
  """The largest improvement within a bound of the KL divergence (Schulman et al. 2015).

  Attributes:
    max_kl: delta.
    cg_iterations: of conjugate gradients; they do not converge in so few.
    cg_damping: is added to the Hessian's diagonal.
    cg_tolerance: r.r at which they end.
    backtrack_ratio: from one candidate of the line search to the next.
    max_backtracks: candidates.
  """
  max_kl: float = 0.01
  cg_iterations: int = 10
  cg_damping: float = 1e-5
  cg_tolerance: float = 1e-10
  backtrack_ratio: float = 0.8
  max_backtracks: int = 15

  def step(self, parameters: np.ndarray, before: float, gradient: np.ndarray,
           hessian_product: Product, losses: Losses) -> Step:
    """One step.

    Args:
      parameters: theta, `[P]`.
      before: the loss there.
      gradient: of the loss, `[P]`.
      hessian_product: v -> H v, H the Hessian of the KL divergence at theta.
      losses: parameters -> (loss, KL divergence).
    """
    def damped(vector):
      return hessian_product(vector) + self.cg_damping * vector
    # A gradient of 0 makes 0 / 0, and a step that is rejected.
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
      solution = conjugate_gradient(damped, gradient, self.cg_iterations, self.cg_tolerance)
      direction = solution.direction
      size = np.sqrt(2 * self.max_kl / (direction @ damped(direction) + 1e-8))
    size = 1.0 if np.isnan(size) else float(size)
    return self._line_search(parameters, before, solution, size, losses)

  def _line_search(self, parameters, before, solution, size, losses) -> Step:
    tried, after, accepted = [], parameters, REJECTED
    for shortened in range(self.max_backtracks):
      candidate = (parameters
                   - self.backtrack_ratio ** shortened * size * solution.direction)
      if not np.isfinite(candidate).all():
        break
      loss, kl = losses(candidate)
      tried.append((loss, kl))
      if loss < before and kl <= self.max_kl:
        # As in the original: a divergence that is the bound itself ends the search, and is
        # rejected then.
        if np.isfinite([loss, kl]).all() and kl < self.max_kl:
          after, accepted = candidate, shortened
        break
    return Step(after, solution, size, tuple(float(loss) for loss, _ in tried),
                tuple(float(kl) for _, kl in tried), accepted)
