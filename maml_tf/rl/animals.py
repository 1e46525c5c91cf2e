"""The half-cheetah and the ant of rllab: gymnasium's MuJoCo models, changed and checked.

MuJoCo and gymnasium are imported when an animal is loaded, and nothing else of gymnasium
is used than its XML.
"""

from __future__ import annotations

import abc
import functools
import os
from typing import Any, Callable, NamedTuple, Tuple, Union

import numpy as np

from maml_tf.rl.errors import MissingLibrary
from maml_tf.rl.planar import PlanarMass

INSTALL = "pip install 'gymnasium>=1.0' 'mujoco>=3.3,<5'"
# Body 1, the torso, carries all others: its subtree is the animal.
TORSO = 1


class Physics(NamedTuple):
  """A model, checked, and the library that steps it."""
  mujoco: Any
  model: Any
  start: np.ndarray

  def parts(self, states: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Positions `[states, nq]` and velocities `[states, nv]`, of time and both."""
    return states[:, 1:1 + self.model.nq], states[:, 1 + self.model.nq:]


class Seen(NamedTuple):
  """What there is to see of states.

  Attributes:
    observations: `[states, size]`.
    speeds: `[states]`, of the centre of mass, along x.
    contact_costs: `[states]`, of the forces on the bodies; 0.0 where they cost nothing.
  """
  observations: np.ndarray
  speeds: np.ndarray
  contact_costs: Union[np.ndarray, float] = 0.0


# Of states `[states, 1 + nq + nv]`, the controls that led there `[states, nu]`, on which
# contact forces depend, and accelerations near theirs, `[states, nv]`.
Observer = Callable[[np.ndarray, np.ndarray, np.ndarray], Seen]


class Animal(abc.ABC):
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
    seen_axes: of the world, that a drawing shows.
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
  seen_axes: Tuple[int, int]

  @abc.abstractmethod
  def changed(self, mujoco, model) -> np.ndarray:
    """Makes of gymnasium's model rllab's; returns the positions of the start."""

  @abc.abstractmethod
  def observer(self, physics: Physics) -> Observer:
    """What sees states of its model."""

  def fallen(self, positions: np.ndarray) -> np.ndarray:
    """Whether that was the end, `[states]`, from `[states, nq]`."""
    return np.zeros(len(positions), bool)


class HalfCheetah(Animal):
  model_file = 'half_cheetah.xml'
  sizes = (9, 9, 6, 8)
  mass = 14.0
  observation_size = 20
  control_cost = 0.05
  alive, alive_velocity = 0.0, 0.0
  fastest = 2.0
  ends = False
  seen_axes = (0, 2)

  def changed(self, mujoco, model) -> np.ndarray:
    # What the XML says as settotalmass, which newer versions complain of on stderr.
    mujoco.mj_setTotalmass(model, self.mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return np.zeros(model.nq)

  def observer(self, physics: Physics) -> Observer:
    mass = PlanarMass.of(physics.model)

    def seen(states: np.ndarray, *_: np.ndarray) -> Seen:
      positions, velocities = physics.parts(states)
      along_x, along_z = mass.centre(positions).T
      centre = np.stack([along_x, np.zeros_like(along_x), along_z], axis=1)
      return Seen(np.concatenate([positions[:, 1:], velocities, centre], axis=1),
                  mass.speed(positions, velocities))
    return seen


class Ant(Animal):
  model_file = 'ant.xml'
  sizes = (15, 14, 8, 14)
  mass = 0.91088
  observation_size = 125
  control_cost = 0.005
  alive, alive_velocity = 0.05, 1.05
  fastest = 3.0
  ends = True
  seen_axes = (0, 1)
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

  def observer(self, physics: Physics) -> Observer:
    return _AntObserver(self, physics)

  def fallen(self, positions: np.ndarray) -> np.ndarray:
    heights = positions[:, 2]
    return ~((self.lowest <= heights) & (heights <= self.highest))

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


class _AntObserver:
  """Contacts need the whole of MuJoCo's derived values, one state after the other.

  RK4 leaves derived values of an intermediate state, and no contact forces.
  """

  def __init__(self, ant: Ant, physics: Physics):
    self._ant = ant
    self._physics = physics
    self._data = physics.mujoco.MjData(physics.model)
    self._whole_state = int(physics.mujoco.mjtState.mjSTATE_FULLPHYSICS)

  def __call__(self, states: np.ndarray, controls: np.ndarray, accelerations: np.ndarray
               ) -> Seen:
    count, bodies = len(states), self._physics.model.nbody
    forces, speeds = np.zeros((count, bodies, 6)), np.zeros(count)
    torsos, centres = np.zeros((count, 9)), np.zeros((count, 3))
    data = self._data
    for index in range(count):
      self._derive(states[index], controls[index], accelerations[index])
      forces[index], torsos[index] = data.cfrc_ext, data.xmat[TORSO]
      centres[index], speeds[index] = data.subtree_com[TORSO], data.subtree_linvel[TORSO, 0]
    np.clip(forces, -1, 1, out=forces)
    observations = np.concatenate(
        [states[:, 1:], forces.reshape(count, bodies * 6), torsos, centres], axis=1)
    return Seen(observations, speeds,
                self._ant.contact_factor * np.sum(forces ** 2, axis=(1, 2)))

  def _derive(self, state: np.ndarray, controls: np.ndarray, accelerations: np.ndarray
              ) -> None:
    mujoco, model, _ = self._physics
    mujoco.mj_setState(model, self._data, state, self._whole_state)
    self._data.ctrl[:] = controls
    self._data.qacc_warmstart[:] = accelerations
    mujoco.mj_forward(model, self._data)
    mujoco.mj_rnePostConstraint(model, self._data)
    mujoco.mj_subtreeVel(model, self._data)


@functools.cache
def loaded(animal: type) -> Physics:
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
  return Physics(mujoco, model, start)


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
