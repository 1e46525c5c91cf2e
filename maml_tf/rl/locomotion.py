"""Half-cheetah and ant: to run in a direction, or at a velocity (5.3).

Observations, rewards, ends and the single physics step of an action are rllab's.
`docs/rl.md` lists what differs from MuJoCo 1.3's physics all the same.
"""

from __future__ import annotations

import copy
from typing import Sequence, Tuple

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
from maml_tf.rl.stepping import Stepper

QPOS_NOISE, QVEL_NOISE = 0.01, 0.1


class _Direction:
  """Forward or backward: a task is 1 or -1, `[1]`."""

  def __init__(self, animal: Animal):
    self._animal = animal

  def tasks(self, uniform: np.ndarray) -> np.ndarray:
    return np.where(uniform < 0.5 * self._animal.fastest, -1.0, 1.0)

  def rewards(self, tasks: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    return tasks[:, 0] * speeds + self._animal.alive


class _Velocity:
  """A velocity to keep: a task is one, `[1]`."""

  def __init__(self, animal: Animal):
    self._animal = animal

  def tasks(self, uniform: np.ndarray) -> np.ndarray:
    return uniform

  def rewards(self, tasks: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    return -np.abs(speeds - tasks[:, 0]) + self._animal.alive_velocity


class Locomotion(Environment):
  """An animal and what it is to do.

  Args:
    name: one of `NAMES`.
    threads: of MuJoCo, that simulate side by side. Whatever their number, results are the
      same.
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
    self._act_with(threads)
    # Two: while one is in MuJoCo, which lets others run, the other one is in Python.
    halves = (threads // 2, threads - threads // 2) if threads > 1 else ()
    self.side_by_side = [self._another(half) for half in halves]

  def _another(self, threads: int) -> 'Locomotion':
    other = copy.copy(self)
    other._act_with(threads)
    return other

  def _act_with(self, threads: int) -> None:
    self.stepper = Stepper(self.physics, threads)
    self.observe = self.animal.observer(self.physics)

  def draw_tasks(self, count: int, random: np.random.Generator) -> np.ndarray:
    return self.goal.tasks(random.uniform(0, self.animal.fastest, (count, 1)))

  def test_tasks(self, count: int, seed: int) -> np.ndarray:
    uniform = np.random.RandomState(seed).uniform(0, self.animal.fastest, count)
    return self.goal.tasks(uniform[:, np.newaxis])

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    _, model, start = self.physics
    noise = np.stack([random.standard_normal(model.nq + model.nv) for random in randoms])
    states = np.zeros((len(tasks), 1 + model.nq + model.nv))
    positions, velocities = self.physics.parts(states)
    positions[:] = start + QPOS_NOISE * noise[:, :model.nq]
    velocities[:] = QVEL_NOISE * noise[:, model.nq:]
    return _Animals(self, np.asarray(tasks, np.float64), states)


class _Animals(Simulation):

  def __init__(self, environment: Locomotion, tasks: np.ndarray, states: np.ndarray):
    self._environment = environment
    self._tasks = tasks
    self._states = states
    model = environment.physics.model
    self._accelerations = np.zeros((len(states), model.nv))
    still = np.zeros((len(states), model.nu))
    self.observations = environment.observe(states, still, self._accelerations).observations

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    environment = self._environment
    actions = clipped(np.asarray(actions, np.float64), 1.0)
    rewards, ended = np.zeros(len(actions)), np.zeros(len(actions), bool)
    finite = self._advance(np.flatnonzero(running), actions)
    ended[running] = True
    states = self._states[finite]
    seen = environment.observe(states, actions[finite], self._accelerations[finite])
    self.observations[finite] = seen.observations
    costs = environment.animal.control_cost * np.sum(actions[finite] ** 2, axis=1)
    rewards[finite] = (environment.goal.rewards(self._tasks[finite], seen.speeds) - costs
                       - seen.contact_costs)
    ended[finite] = environment.animal.fallen(environment.physics.parts(states)[0])
    return rewards, ended

  def _advance(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Steps the states at `indices`; returns those that are finite.

    One that is not ends an ant's episode, and earns nothing. A cheetah's never ends, so
    there it is an error.
    """
    environment, before = self._environment, self._states[indices]
    after = environment.stepper.step(before, actions[indices], self._accelerations[indices])
    finite = np.isfinite(after).all(axis=1)
    if not finite.all() and not environment.animal.ends:
      raise EnvironmentFault(f'The state of {environment.name} is not finite any more: '
                             'its physics has broken down.')
    indices, before, after = indices[finite], before[finite], after[finite]
    parts, timestep = environment.physics.parts, environment.physics.model.opt.timestep
    self._accelerations[indices] = (parts(after)[1] - parts(before)[1]) / timestep
    self._states[indices] = after
    return indices

  def drawing(self, episode: int) -> Drawing:
    """Its capsules: a cheetah from the side, an ant from above."""
    mujoco, model, _ = self._environment.physics
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, self._states[episode],
                       int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
    mujoco.mj_forward(model, data)
    capsules = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
    axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2]
    halves = axes * model.geom_size[capsules, 1:2]
    ends = np.stack([data.geom_xpos[capsules] - halves,
                     data.geom_xpos[capsules] + halves], axis=1)
    seen = self._environment.animal.seen_axes
    centre = data.subtree_com[TORSO][list(seen)]
    return Drawing(ends[:, :, list(seen)], model.geom_size[capsules, 0], centre, None,
                   reach=1.5)


_PARTS = {
    'cheetah_direction': (HalfCheetah, _Direction),
    'cheetah_velocity': (HalfCheetah, _Velocity),
    'ant_direction': (Ant, _Direction),
    'ant_velocity': (Ant, _Velocity),
}
NAMES = tuple(_PARTS)
