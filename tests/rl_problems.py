"""Small problems of control, for the tests of `maml_tf.rl`."""

from __future__ import annotations

import numpy as np
import threadpoolctl

from maml_tf.rl.environments import ContinuousActions, Environment, Simulation


class Line(Environment):
  """A walk on a line to a goal: an episode of task g ends where |x| >= g.

  The start is random, so that an episode's own generator is used.
  """
  name = 'line'
  observation_size = 1
  actions = ContinuousActions(1)

  def __init__(self, horizon=12, bad_step=None, bad_value=np.nan):
    self.horizon = horizon
    self.bad_step = bad_step
    self.bad_value = bad_value

  def draw_tasks(self, count, random):
    return random.uniform(1, 3, count)

  def test_tasks(self, count, seed):
    return np.random.RandomState(seed).uniform(1, 3, count)

  def start(self, tasks, randoms):
    return _Walks(self, np.asarray(tasks), randoms)


class _Walks(Simulation):

  def __init__(self, line, tasks, randoms):
    self._line, self._tasks, self._steps = line, tasks, 0
    self.observations = 0.1 * np.array([random.standard_normal(1) for random in randoms])

  def step(self, actions, running):
    self.observations = self.observations + np.where(running[:, None], actions, 0)
    rewards = -np.abs(self.observations[:, 0] - self._tasks)
    if self._steps == self._line.bad_step:
      rewards[-1] = self._line.bad_value
    self._steps += 1
    return rewards, np.abs(self.observations[:, 0]) >= self._tasks


def random_batches(policy, tasks=3, phases=2, rollouts=4, steps=6, seed=0, discrete=False):
  """(batches, trajectories) of ragged random phases, in float64."""
  from maml_tf.rl.trajectories import Trajectories, packed
  random = np.random.RandomState(seed)
  trajectories = []
  for _ in range(phases):
    lengths = random.randint(1, steps + 1, (tasks, rollouts))
    shape = (tasks, rollouts, steps)
    outputs = policy.parameter_specs[-1].shape[-1]
    actions = (random.randint(0, outputs, shape).astype(np.int32) if discrete
               else random.normal(size=(*shape, outputs)))
    trajectories.append(Trajectories(
        random.normal(size=(*shape, policy.observation_size)), actions,
        random.normal(size=shape), lengths))
  return [packed(phase, random.normal(size=phase.rewards.shape), 'float64')
          for phase in trajectories], trajectories


def generic_parameters(policy, seed=0):
  """`[P]` of which nothing is 0."""
  return np.random.RandomState(seed).normal(scale=0.4, size=policy.num_parameters)


def golden_arrays():
  """The inputs of a golden file of MAML-TRPO, small: two phases of two tasks."""
  from maml_tf.rl.policy import GaussianPolicy
  policy = GaussianPolicy(2, 1, (3, 3))
  _, phases = random_batches(policy, tasks=2, rollouts=3, steps=5)
  arrays = dict(
      obs_dim=2, act_dim=1, tasks=2, rollouts=3, horizon=5, inner_steps=1, alpha=0.1,
      gamma=0.9, gae_lambda=1.0, delta=0.01, first_order=False, cg_iters=3, cg_damping=1e-5,
      cg_tol=1e-10, backtrack_ratio=0.8, max_backtracks=4, min_log_std=np.log(1e-6),
      hidden=[3, 3], theta=generic_parameters(policy), theta_b=generic_parameters(policy, 1),
      hvp_vector=generic_parameters(policy, 2))
  for index, phase in enumerate(phases):
    for name, value in zip(('observations', 'actions', 'rewards', 'lengths'), phase):
      arrays[f'{name}_{index}'] = value
  return {name: np.asarray(value) for name, value in arrays.items()}


def product_threads():
  """In how many threads each of NumPy's libraries computes a product; empty: it cannot be
  told."""
  return [library['num_threads'] for library in threadpoolctl.threadpool_info()
          if library['user_api'] == 'blas']
