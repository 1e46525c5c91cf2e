"""The oracle's environment: the task is part of what the policy sees (5.3)."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.environments import Drawing, Environment, Simulation


class GoalInObservation(Environment):
  """`environment`, whose observations have the task's numbers behind them.

  Args:
    environment: one whose tasks are arrays of numbers, `[tasks, size]`.
  """

  def __init__(self, environment: Environment):
    self._environment = environment
    task = np.asarray(environment.test_tasks(1, seed=0))
    if task.ndim != 2 or task.dtype.kind not in 'fiu':
      raise ValueError(f'An oracle needs tasks that are vectors of numbers. {environment.name}'
                       f' has tasks like {task[0]!r}.')
    self.name = environment.name
    self.observation_size = environment.observation_size + task.shape[1]
    self.actions = environment.actions
    self.horizon = environment.horizon
    self.side_by_side = [GoalInObservation(other) for other in environment.side_by_side]

  def draw_tasks(self, count: int, random: np.random.Generator) -> Sequence:
    return self._environment.draw_tasks(count, random)

  def test_tasks(self, count: int, seed: int) -> Sequence:
    return self._environment.test_tasks(count, seed)

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    return _WithGoals(self._environment.start(tasks, randoms), np.asarray(tasks))


class _WithGoals(Simulation):

  def __init__(self, simulation: Simulation, goals: np.ndarray):
    self._simulation = simulation
    self._goals = goals

  @property
  def observations(self) -> np.ndarray:
    return np.concatenate([self._simulation.observations, self._goals], axis=1)

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    return self._simulation.step(actions, running)

  def drawing(self, episode: int) -> Optional[Drawing]:
    return self._simulation.drawing(episode)
