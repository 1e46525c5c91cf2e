"""Golden files of MAML-TRPO: an independent implementation's float64 values.

All of it is computed by what training itself calls. The files' README defines every array.
"""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from maml_tf.rl import advantages as judging
from maml_tf.rl.meta_policy import MetaPolicy
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.rollouts import Trajectories, packed
from maml_tf.rl.trpo import TrustRegion

GOLDEN = pathlib.Path(__file__).parents[2] / 'shared' / 'legacy' / 'rl_golden'
NAMES = ('point_1step', 'ant_ragged', 'steps3')
EXACT, THROUGH_CG = 1e-8, 1e-6


def assert_close(received, expected, tolerance=EXACT, scale=None):
  scale = max(np.abs(expected).max() if scale is None else scale, 1e-300)
  np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * scale)


class Golden:
  """A file, and what training makes of its trajectories."""

  def __init__(self, path):
    with np.load(path) as file:
      self.arrays = {name: file[name] for name in file.files}
    hidden = [int(size) for size in self.arrays['hidden']]
    self.policy = GaussianPolicy(int(self['obs_dim']), int(self['act_dim']), hidden)
    self.meta_policy = MetaPolicy(
        self.policy, step_size=float(self['alpha']), dtype='float64', tasks_at_once=4,
        first_order=bool(self['first_order']))
    self.steps = int(self['inner_steps'])
    self.trajectories = [
        Trajectories(*(self[f'{name}_{phase}'] for name in
                       ('observations', 'actions', 'rewards', 'lengths')))
        for phase in range(self.steps + 1)]
    self.advantages = [
        judging.advantages(phase.observations, phase.rewards, phase.lengths,
                           discount=float(self['gamma']), gae_lambda=float(self['gae_lambda']))
        for phase in self.trajectories]
    self.batches = [packed(phase, advantages.standardised, 'float64')
                    for phase, advantages in zip(self.trajectories, self.advantages)]
    self.objective = self.meta_policy.objective(self['theta'], self.batches)

  def __getitem__(self, name):
    return self.arrays[name]


@pytest.fixture(scope='module', params=NAMES)
def golden(request):
  path = GOLDEN / f'{request.param}.npz'
  if not path.exists():
    pytest.skip(f'{path.name} is not in ../shared/legacy/rl_golden')
  return Golden(path)


def test_returns_baselines_and_advantages(golden):
  for phase, received in enumerate(golden.advantages):
    for name, values in (('returns', received.returns), ('values', received.values),
                         ('baseline_coeffs', received.coefficients),
                         ('advantages_raw', received.raw),
                         ('advantages', received.standardised)):
      assert_close(values, golden[f'{name}_{phase}'])


def test_inner_steps(golden):
  points = golden.objective.points
  np.testing.assert_array_equal(points[0], np.tile(golden['theta'], (len(points[0]), 1)))
  for step in range(golden.steps):
    losses, gradients = golden.meta_policy.inner_gradient(points[step],
                                                          golden.batches[step])
    assert_close(losses, golden['inner_loss'][step])
    assert_close(gradients, golden['inner_grad'][step])
    assert_close(points[step + 1], golden['adapted'][step])


def test_old_policies(golden):
  mean, log_std = golden.meta_policy.outputs(golden.objective.points[-1],
                                             golden.batches[-1])
  assert_close(log_std[:, 0], golden['old_log_std'], scale=1.0)
  valid = golden.trajectories[-1].valid
  for task, mask in enumerate(valid):
    assert_close(mean[task, :mask.sum()], golden['old_mean'][task][mask])


def test_before_a_step_nothing_has_changed(golden):
  losses = golden.objective.losses(golden['theta'])
  assert abs(losses.kl) < 1e-12
  # The advantages are centred, so a ratio of 1 gives 0.
  np.testing.assert_allclose(losses.surrogates, golden['surrogate_per_task'], atol=1e-12)
  assert np.abs(golden.objective.kl_gradient(golden['theta'])).max() < 1e-12


def test_gradient_and_hessian_product(golden):
  assert_close(golden.objective.gradient(golden['theta']), golden['meta_grad'])
  assert_close(golden.objective.hessian_product(golden['hvp_vector']), golden['hvp'])


def test_losses_and_gradients_at_another_point(golden):
  other = golden['theta_b']
  losses = golden.objective.losses(other)
  assert_close(losses.surrogates, golden['surrogate_b_per_task'])
  assert_close(losses.surrogate, golden['surrogate_b'],
               scale=np.abs(golden['surrogate_b_per_task']).max())
  assert_close(losses.kl, golden['kl_b'])
  assert_close(golden.objective.gradient(other), golden['meta_grad_b'])
  assert_close(golden.objective.kl_gradient(other), golden['kl_grad_b'])


def test_outer_step(golden):
  region = TrustRegion(*(kind(golden[name]) for kind, name in (
      (float, 'delta'), (int, 'cg_iters'), (float, 'cg_damping'), (float, 'cg_tol'),
      (float, 'backtrack_ratio'), (int, 'max_backtracks'))))
  objective = golden.objective

  def losses(parameters):
    found = objective.losses(parameters)
    return found.surrogate, found.kl
  step = region.step(golden['theta'], objective.losses(golden['theta']).surrogate,
                     objective.gradient(golden['theta']), objective.hessian_product, losses)
  assert step.accepted == int(golden['accepted_backtracks'])
  assert step.solution.iterations == int(golden['cg_iterations'])
  assert_close(step.solution.direction, golden['cg_direction'], THROUGH_CG)
  assert_close(step.solution.residual, golden['cg_residual'], THROUGH_CG)
  assert_close(step.step_size, golden['step_size'], THROUGH_CG)
  assert_close(step.tried_losses, golden['tried_surrogate'], THROUGH_CG)
  assert_close(step.tried_kls, golden['tried_kl'], THROUGH_CG)
  assert_close(step.tried_losses[-1], golden['surrogate_after'], THROUGH_CG)
  assert_close(step.tried_kls[-1], golden['kl_after'], THROUGH_CG)
  assert_close(step.parameters, golden['theta_final'], THROUGH_CG)
