"""The trust region's step on problems whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from maml_tf.conjugate_gradient import conjugate_gradient
from maml_tf.rl.trpo import REJECTED, TrustRegion

THETA = np.array([1.0, -2.0, 0.5])
GRADIENT = np.array([0.3, -0.1, 0.2])
HESSIAN = np.diag([2.0, 1.0, 4.0])


def step(losses, region=None, gradient=GRADIENT):
  region = TrustRegion() if region is None else region
  return region.step(THETA, 0.0, gradient, lambda vector: HESSIAN @ vector, losses)


def quadratic(parameters):
  moved = parameters - THETA
  return GRADIENT @ moved, 0.5 * moved @ HESSIAN @ moved


def test_conjugate_gradients_solve_a_system():
  random = np.random.RandomState(0)
  factor = random.normal(size=(6, 6))
  matrix = factor @ factor.T + np.eye(6)
  target = random.normal(size=6)
  found = conjugate_gradient(lambda vector: matrix @ vector, target, 50, 1e-20)
  np.testing.assert_allclose(found.direction, np.linalg.solve(matrix, target), rtol=1e-8)
  assert found.iterations < 12 and found.residual < 1e-20


def test_conjugate_gradients_end_when_told():
  found = conjugate_gradient(lambda vector: HESSIAN @ vector, GRADIENT, 2, 0.0)
  assert found.iterations == 2
  found = conjugate_gradient(lambda vector: 2 * vector, GRADIENT, 10, 1e-10)
  assert found.iterations == 1


def test_the_full_step_goes_to_the_bound_of_a_quadratic_divergence():
  # 1 - 1e-9: what is exactly at the bound is rejected, and round-off decides.
  region = TrustRegion(max_kl=0.01, cg_damping=0.0)
  found = region.step(THETA, 0.0, GRADIENT, lambda vector: HESSIAN @ vector,
                      lambda point: (quadratic(point)[0], quadratic(point)[1] * (1 - 1e-9)))
  assert found.accepted == 0
  assert found.tried_kls[0] == pytest.approx(0.01, rel=1e-6)
  direction = np.linalg.solve(HESSIAN, GRADIENT)
  scale = np.sqrt(0.02 / (direction @ HESSIAN @ direction))
  np.testing.assert_allclose(found.parameters, THETA - scale * direction, rtol=1e-5)


def test_damping_is_added_to_the_hessian():
  found = step(quadratic, TrustRegion(cg_damping=1.0))
  np.testing.assert_allclose(found.solution.direction,
                             np.linalg.solve(HESSIAN + np.eye(3), GRADIENT), rtol=1e-8)


def test_candidates_shrink_by_the_ratio_until_both_conditions_hold():
  seen = []

  def losses(point):
    seen.append(np.linalg.norm(point - THETA))
    # First too far, then too bad, then good.
    return [(-1.0, 0.5), (0.1, 0.001), (-1.0, 0.001)][len(seen) - 1]
  found = step(losses)
  assert found.accepted == 2
  np.testing.assert_allclose(np.divide(seen[1:], seen[:-1]), 0.8)
  assert found.tried_losses == (-1.0, 0.1, -1.0) and found.tried_kls == (0.5, 0.001, 0.001)


@pytest.mark.parametrize('loss, kl', [
    (0.0, 0.001),          # no better than before
    (-1.0, 0.02),          # too far
    (np.nan, 0.001), (-1.0, np.nan), (np.inf, 0.001)])
def test_where_no_candidate_will_do_nothing_changes(loss, kl):
  found = step(lambda point: (loss, kl), TrustRegion(max_backtracks=4))
  assert found.accepted == REJECTED and len(found.tried_kls) == 4
  np.testing.assert_array_equal(found.parameters, THETA)


def test_a_divergence_that_is_the_bound_ends_the_search_and_is_rejected():
  found = step(lambda point: (-1.0, 0.01), TrustRegion(max_kl=0.01))
  assert found.accepted == REJECTED and len(found.tried_kls) == 1
  np.testing.assert_array_equal(found.parameters, THETA)


def test_a_loss_of_minus_infinity_is_not_accepted():
  assert step(lambda point: (-np.inf, 0.001)).accepted == REJECTED


def test_a_gradient_of_zero_changes_nothing_and_evaluates_nothing():
  def losses(point):
    raise AssertionError('evaluated where there is no direction')
  found = step(losses, gradient=np.zeros(3))
  assert found.accepted == REJECTED and found.tried_kls == ()
  np.testing.assert_array_equal(found.parameters, THETA)


def test_a_hessian_that_is_not_finite_changes_nothing():
  found = TrustRegion().step(THETA, 0.0, GRADIENT, lambda vector: np.nan * vector,
                             lambda point: (-1.0, 0.0))
  assert found.accepted == REJECTED and found.step_size == 1.0
  np.testing.assert_array_equal(found.parameters, THETA)
