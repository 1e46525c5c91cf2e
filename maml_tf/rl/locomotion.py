"""Half-cheetah and ant, as rllab had them, from the models that gymnasium ships (5.3).

Only the XML is gymnasium's: observations, rewards, ends and the single physics step of an
action are rllab's. `docs/rl.md` lists what differs from MuJoCo 1.3's physics all the same.
"""

from __future__ import annotations

import abc
import concurrent.futures
import functools
import os
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np

from maml_tf.rl.environments import ContinuousActions, Environment, Simulation, clipped
from maml_tf.rl.errors import EnvironmentFault, MissingLibrary

INSTALL = "pip install 'gymnasium>=1.0' 'mujoco>=3.3,<5'"
QPOS_NOISE, QVEL_NOISE = 0.01, 0.1
# Body 1, the torso, carries all others: its subtree is the animal.
TORSO = 1


class _Physics(NamedTuple):
  """A model, checked, and the library that steps it."""
  mujoco: Any
  model: Any
  start: np.ndarray


class _Animal(abc.ABC):
  """What an animal is, apart from what it is to do: its model, state and observation.

  Attributes:
    model_file: of gymnasium.
    sizes: nq, nv, nu, bodies of the model.
    mass: of all bodies.
    observation_size: numbers in an observation.
    control_cost: factor of the squared actions.
    alive: is added to a reward for the direction; for a velocity, `alive_velocity`.
    fastest: of the velocities that are asked for.
    ends: whether an episode can end before the horizon.
  """
  model_file: str
  sizes: Tuple[int, int, int, int]
  mass: float
  observation_size: int
  control_cost: float
  alive: float
  alive_velocity: float
  fastest: float
  ends: bool

  @abc.abstractmethod
  def changed(self, mujoco, model) -> np.ndarray:
    """Makes of gymnasium's model rllab's; returns the positions of the start."""

  @abc.abstractmethod
  def step(self, mujoco, model, data) -> None:
    """One step of physics, and everything derived of the state behind it."""

  @abc.abstractmethod
  def observation(self, data) -> np.ndarray:
    """Of the state, `[observation_size]`."""

  def contact_cost(self, data) -> float:
    """Of the forces on the bodies."""
    return 0.0

  def fallen(self, data) -> bool:
    """Whether that was the end."""
    return False


class _HalfCheetah(_Animal):
  model_file = 'half_cheetah.xml'
  sizes = (9, 9, 6, 8)
  mass = 14.0
  observation_size = 20
  control_cost = 0.05
  alive, alive_velocity = 0.0, 0.0
  fastest = 2.0
  ends = False

  def changed(self, mujoco, model) -> np.ndarray:
    # What the XML says as settotalmass, which newer versions complain of on stderr.
    mujoco.mj_setTotalmass(model, self.mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return np.zeros(model.nq)

  def step(self, mujoco, model, data) -> None:
    # Euler: the same bits as `mj_step` and `mj_forward`, and half the time.
    mujoco.mj_step2(model, data)
    mujoco.mj_step1(model, data)
    mujoco.mj_subtreeVel(model, data)

  def observation(self, data) -> np.ndarray:
    return np.concatenate([data.qpos[1:], data.qvel, data.subtree_com[TORSO]])


class _Ant(_Animal):
  model_file = 'ant.xml'
  sizes = (15, 14, 8, 14)
  mass = 0.91088
  observation_size = 125
  control_cost = 0.005
  alive, alive_velocity = 0.05, 1.05
  fastest = 3.0
  ends = True
  contact_factor = 0.0005
  lowest, highest = 0.2, 1.0
  margin = 0.01           # of a contact

  def changed(self, mujoco, model) -> np.ndarray:
    model.opt.timestep = 0.02
    model.geom_solimp[:, :3] = (0.8, 0.8, 0.01)
    # From MuJoCo 3.5 on a contact's margin is the sum of both geoms', and was the larger
    # one before: .01 either way, since nothing but the floor collides.
    model.geom_margin[model.geom('floor').id] = 0
    start = np.array(model.numeric('init_qpos').data)
    self._check_contacts(mujoco, model, start)
    return start

  def step(self, mujoco, model, data) -> None:
    mujoco.mj_step(model, data)
    # RK4 leaves derived values of an intermediate state, and no contact forces.
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    mujoco.mj_subtreeVel(model, data)

  def observation(self, data) -> np.ndarray:
    return np.concatenate([data.qpos, data.qvel, _forces(data).ravel(), data.xmat[TORSO],
                           data.subtree_com[TORSO]])

  def contact_cost(self, data) -> float:
    return self.contact_factor * float(np.sum(_forces(data) ** 2))

  def fallen(self, data) -> bool:
    return not (self.lowest <= data.qpos[2] <= self.highest)

  def _check_contacts(self, mujoco, model, start) -> None:
    data = mujoco.MjData(model)
    data.qpos[:] = start
    data.qpos[2] = 0.3
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    margins = [data.contact[index].includemargin for index in range(data.ncon)]
    if not margins or not np.allclose(margins, self.margin, atol=1e-6):
      raise MissingLibrary(_unlike(mujoco, f'contacts with a margin of {margins} instead of '
                                   f'{self.margin}'))
    if not data.cfrc_ext.any():
      raise MissingLibrary(_unlike(mujoco, 'contacts without forces'))


class _Direction:
  """Forward or backward: a task is 1 or -1, `[1]`."""

  def __init__(self, animal: _Animal):
    self._animal = animal

  def tasks(self, uniform: np.ndarray) -> np.ndarray:
    return np.where(uniform < 0.5 * self._animal.fastest, -1.0, 1.0)

  def reward(self, task: np.ndarray, velocity: float) -> float:
    return task[0] * velocity + self._animal.alive


class _Velocity:
  """A velocity to keep: a task is one, `[1]`."""

  def __init__(self, animal: _Animal):
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
    self.physics = _loaded(animal)
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

  def _lost(self, index: int) -> Tuple[float, bool]:
    """A state that is not finite ends an ant's episode, and earns nothing. A cheetah's
    never ends, so there it is an error."""
    if not self._environment.animal.ends:
      raise EnvironmentFault(f'The state of {self._environment.name} is not finite any more: '
                             'its physics has broken down.')
    return 0.0, True


_PARTS = {
    'cheetah_direction': (_HalfCheetah, _Direction),
    'cheetah_velocity': (_HalfCheetah, _Velocity),
    'ant_direction': (_Ant, _Direction),
    'ant_velocity': (_Ant, _Velocity),
}


def _forces(data) -> np.ndarray:
  return np.clip(data.cfrc_ext, -1, 1)


@functools.cache
def _loaded(animal: type) -> _Physics:
  """The model of an animal, changed and checked."""
  gymnasium, mujoco = _libraries()
  _silence(mujoco)
  self = animal()
  path = os.path.join(os.path.dirname(gymnasium.__file__), 'envs', 'mujoco', 'assets',
                      self.model_file)
  try:
    with open(path, encoding='utf-8') as file:
      xml = file.read().replace(' settotalmass="14"', '')
  except OSError as error:
    raise MissingLibrary(
        f'gymnasium {gymnasium.__version__} has no {self.model_file} ({error.strerror}): '
        f'{INSTALL}') from error
  model = mujoco.MjModel.from_xml_string(xml)
  # Or else a state that is not finite becomes that of the start, and nothing tells.
  model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
  sizes = (model.nq, model.nv, model.nu, model.nbody)
  if sizes != self.sizes:
    raise MissingLibrary(_unlike(mujoco, f'{self.model_file} of sizes {sizes} instead of '
                                 f'{self.sizes} (gymnasium {gymnasium.__version__})'))
  start = self.changed(mujoco, model)
  mass = float(np.sum(model.body_mass))
  if not np.isclose(mass, self.mass, rtol=0, atol=1e-5):
    raise MissingLibrary(_unlike(mujoco, f'a mass of {mass} instead of {self.mass}'))
  return _Physics(mujoco, model, start)


def _libraries():
  try:
    import gymnasium
    import mujoco
  except ImportError as error:
    raise MissingLibrary(f'Half-cheetah and ant need MuJoCo, and {error.name} is not '
                         f'installed: {INSTALL}') from error
  return gymnasium, mujoco


def _silence(mujoco) -> None:
  """Without a handler MuJoCo writes its warnings to a file in the working folder; what they
  say is seen in the state."""
  if hasattr(mujoco, 'set_mju_user_warning'):
    mujoco.set_mju_user_warning(lambda message: None)


def _unlike(mujoco, what: str) -> str:
  return (f'MuJoCo {mujoco.__version__} gives {what}, so returns would not be those of this '
          f'problem; versions 3.3 to 4.0 are known to do: {INSTALL}')
