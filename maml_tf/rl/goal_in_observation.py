"""The oracle's environment: the task is part of what the policy sees (5.3)."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import numpy as np

from maml_tf.errors import ConfigError
from maml_tf.rl.environments import Drawing, Environment, Simulation

TASKS_LOOKED_AT = 5


class GoalInObservation(Environment):
  """`environment`, whose observations have the task's numbers behind them.

  Args:
    environment: one whose tasks are numbers, or vectors of numbers of one length.

  Raises:
    ConfigError: where they are something else, here or in `start`.
  """

  def __init__(self, environment: Environment):
    self._environment = environment
    self.name = environment.name
    self._goal_size = _goals(self.name, environment.test_tasks(TASKS_LOOKED_AT, 0)).shape[1]
    self.observation_size = environment.observation_size + self._goal_size
    self.actions = environment.actions
    self.horizon = environment.horizon
    self.keeps_instances = environment.keeps_instances
    self.side_by_side = [GoalInObservation(other) for other in environment.side_by_side]

  def draw_tasks(self, count: int, random: np.random.Generator) -> Sequence:
    return self._environment.draw_tasks(count, random)

  def test_tasks(self, count: int, seed: int) -> Sequence:
    return self._environment.test_tasks(count, seed)

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    goals = _goals(self.name, tasks, self._goal_size)
    return _WithGoals(self._environment.start(tasks, randoms), goals)

  def action(self, chosen: np.ndarray) -> Any:
    return self._environment.action(chosen)


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


def _goals(name: str, tasks: Sequence, size: Optional[int] = None) -> np.ndarray:
  """`[tasks, size]`, of the environment `name`; a task that is a number is a vector of one."""
  try:
    goals = np.asarray(tasks)
  except (TypeError, ValueError):   # of several lengths
    goals = np.empty(0, object)
  if goals.ndim == 1:
    goals = goals[:, np.newaxis]
  fits = goals.ndim == 2 and goals.dtype.kind in 'fiu' and size in (None, goals.shape[1])
  if not fits:
    like = ' and '.join(' '.join(repr(task).split())[:80] for task in (tasks[0], tasks[-1]))
    raise ConfigError('An oracle needs tasks that are numbers, or vectors of numbers of one '
                      f'length. {name} has tasks like {like}: make its tasks so, or choose '
                      'another baseline.')
  return goals
