"""Half-cheetah and ant: to run in a direction, or at a velocity (5.3).

Observations, rewards, ends and the single physics step of an action are rllab's.
`docs/rl.md` lists what differs from MuJoCo 1.3's physics all the same.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any, List, Sequence, Tuple

import numpy as np

from maml_tf.rl.animals import TORSO, Animal, Ant, HalfCheetah, loaded
from maml_tf.rl.environments import (
  ContinuousActions,
  Drawing,
  Environment,
  Simulation,
  clipped,
)
from maml_tf.rl.errors import EnvironmentFault

QPOS_NOISE, QVEL_NOISE = 0.01, 0.1


class _Direction:
  """Forward or backward: a task is 1 or -1, `[1]`."""

  def __init__(self, animal: Animal):
    self._animal = animal

  def tasks(self, uniform: np.ndarray) -> np.ndarray:
    return np.where(uniform < 0.5 * self._animal.fastest, -1.0, 1.0)

  def reward(self, task: np.ndarray, velocity: float) -> float:
    return task[0] * velocity + self._animal.alive


class _Velocity:
  """A velocity to keep: a task is one, `[1]`."""

  def __init__(self, animal: Animal):
    self._animal = animal

  def tasks(self, uniform: np.ndarray) -> np.ndarray:
    return uniform

  def reward(self, task: np.ndarray, velocity: float) -> float:
    return -abs(velocity - task[0]) + self._animal.alive_velocity


class Locomotion(Environment):
  """An animal and what it is to do.

  Args:
    name: 'cheetah_direction', 'cheetah_velocity', 'ant_direction' or 'ant_velocity'.
    threads: that simulate side by side; MuJoCo runs without Python's lock. Whatever
      their number, results are the same.
    horizon: most steps of an episode.

  Raises:
    MissingLibrary: when gymnasium or MuJoCo is not there, or of a version whose physics
      is not what it has to be.
  """

  def __init__(self, name: str, threads: int = 1, horizon: int = 200):
    animal, goal = _PARTS[name]
    self.name = name
    self.animal = animal()
    self.goal = goal(self.animal)
    self.horizon = horizon
    self.observation_size = self.animal.observation_size
    self.actions = ContinuousActions(self.animal.sizes[2])
    self.physics = loaded(animal)
    self._threads = threads
    self._pool = concurrent.futures.ThreadPoolExecutor(threads) if threads > 1 else None
    # Kept from phase to phase: making them takes longer than an episode's first steps.
    self._data: List[Any] = []

  def draw_tasks(self, count: int, random: np.random.Generator) -> np.ndarray:
    return self.goal.tasks(random.uniform(0, self.animal.fastest, (count, 1)))

  def test_tasks(self, count: int, seed: int) -> np.ndarray:
    uniform = np.random.RandomState(seed).uniform(0, self.animal.fastest, count)
    return self.goal.tasks(uniform[:, np.newaxis])

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    mujoco, model, start = self.physics
    while len(self._data) < len(tasks):
      self._data.append(mujoco.MjData(model))
    for data, random in zip(self._data, randoms):
      mujoco.mj_resetData(model, data)
      noise = random.standard_normal(model.nq + model.nv)
      data.qpos[:] = start + QPOS_NOISE * noise[:model.nq]
      data.qvel[:] = QVEL_NOISE * noise[model.nq:]
    return _Animals(self, np.asarray(tasks, np.float64), self._data[:len(tasks)])

  def in_threads(self, function, indices: np.ndarray) -> None:
    """`function` of each slice of `indices`, one for each thread."""
    if self._pool is None:
      function(indices)
    else:
      list(self._pool.map(function, np.array_split(indices, self._threads)))


class _Animals(Simulation):

  def __init__(self, environment: Locomotion, tasks: np.ndarray, data: List[Any]):
    self._environment = environment
    self._tasks = tasks
    self._data = data
    self.observations = np.zeros((len(data), environment.observation_size))
    mujoco, model, _ = environment.physics
    for index, state in enumerate(data):
      mujoco.mj_forward(model, state)
      mujoco.mj_rnePostConstraint(model, state)
      mujoco.mj_subtreeVel(model, state)
      self.observations[index] = environment.animal.observation(state)

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    actions = clipped(np.asarray(actions, np.float64), 1.0)
    rewards, ended = np.zeros(len(actions)), np.zeros(len(actions), bool)
    costs = self._environment.animal.control_cost * np.sum(actions ** 2, axis=1)

    def step_some(indices):
      for index in indices:
        rewards[index], ended[index] = self._stepped(index, actions[index], costs[index])
    self._environment.in_threads(step_some, np.flatnonzero(running))
    return rewards, ended

  def _stepped(self, index: int, action: np.ndarray, cost: float) -> Tuple[float, bool]:
    environment, data = self._environment, self._data[index]
    mujoco, model, _ = environment.physics
    data.ctrl[:] = action
    environment.animal.step(mujoco, model, data)
    observation = environment.animal.observation(data)
    if not np.isfinite(observation).all():
      return self._lost(index)
    self.observations[index] = observation
    velocity = data.subtree_linvel[TORSO][0]
    reward = (environment.goal.reward(self._tasks[index], velocity) - cost
              - environment.animal.contact_cost(data))
    return reward, environment.animal.fallen(data)

  def drawing(self, episode: int) -> Drawing:
    """Its capsules: a cheetah from the side, an ant from above."""
    mujoco, model, _ = self._environment.physics
    data = self._data[episode]
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2]
    halves = axes * model.geom_size[capsules, 1:2]
    ends = np.stack([data.geom_xpos[capsules] - halves,
                     data.geom_xpos[capsules] + halves], axis=1)
    seen = self._environment.animal.seen_axes
    centre = data.subtree_com[TORSO][list(seen)]
    return Drawing(ends[:, :, list(seen)], model.geom_size[capsules, 0], centre, None,
                   reach=1.5)

  def _lost(self, index: int) -> Tuple[float, bool]:
    """A state that is not finite ends an ant's episode, and earns nothing. A cheetah's
    never ends, so there it is an error."""
    if not self._environment.animal.ends:
      raise EnvironmentFault(f'The state of {self._environment.name} is not finite any more: '
                             'its physics has broken down.')
    return 0.0, True


_PARTS = {
    'cheetah_direction': (HalfCheetah, _Direction),
    'cheetah_velocity': (HalfCheetah, _Velocity),
    'ant_direction': (Ant, _Direction),
    'ant_velocity': (Ant, _Velocity),
}
