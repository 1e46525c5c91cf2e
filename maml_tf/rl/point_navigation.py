"""Point navigation: a point in the plane moves to a goal that it does not see (5.3).

The paper calls the reward the negative squared distance; its numbers are of the distance,
as in the original code. Standing still costs 38.3 on average so, and 16.7 squared.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from maml_tf.rl.environments import (
  ContinuousActions,
  Drawing,
  Environment,
  Simulation,
  clipped,
)

LARGEST_STEP = 0.1      # of each coordinate
ACTION_SCALE = 0.1
ARRIVED = 0.01          # both coordinates within this of the goal
GOAL_BOUND = 0.5


class PointNavigation(Environment):
  """Goals are uniform in [-.5, .5]^2; a task is one, `[2]`. Episodes start from (0, 0).

  Args:
    horizon: most steps of an episode.
  """
  name = 'point_navigation'
  observation_size = 2
  actions = ContinuousActions(2)

  def __init__(self, horizon: int = 100):
    self.horizon = horizon

  def draw_tasks(self, count: int, random: np.random.Generator) -> np.ndarray:
    return random.uniform(-GOAL_BOUND, GOAL_BOUND, (count, 2))

  def test_tasks(self, count: int, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).uniform(-GOAL_BOUND, GOAL_BOUND, (count, 2))

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    return _Points(np.asarray(tasks, np.float64))


class _Points(Simulation):

  def __init__(self, goals: np.ndarray):
    self._goals = goals
    self.observations = np.zeros_like(goals)

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    moves = clipped(ACTION_SCALE * np.asarray(actions, np.float64), LARGEST_STEP)
    self.observations = np.where(running[:, np.newaxis], self.observations + moves,
                                 self.observations)
    offsets = self.observations - self._goals
    return (-np.linalg.norm(offsets, axis=1), (np.abs(offsets) < ARRIVED).all(axis=1))

  def drawing(self, episode: int) -> Drawing:
    position = self.observations[episode]
    return Drawing(np.array([[position, position]]), np.array([0.015]), np.zeros(2),
                   self._goals[episode], reach=0.7)
