"""The centre of mass of an animal whose bodies move in a plane, for all states at once."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np


class PlanarMass(NamedTuple):
  """A tree of bodies on hinges across the plane, whose root slides along x and z.

  Each body has an arm that turns with it: its own centre and the hinges of those that it
  carries, weighted by mass. The centre of mass is the root's place and the sum of all arms.
  Each state's numbers are computed as if it were alone, to the last bit.

  Attributes:
    origin: `[2]`, the root's place where it has not moved.
    parents: of each body; its own index for the root.
    axes: `[bodies]`, 1 or -1: the way in which a hinge turns.
    arms: `[2, bodies]`, along the body's x and z.
  """
  origin: np.ndarray
  parents: Tuple[int, ...]
  axes: np.ndarray
  arms: np.ndarray

  @classmethod
  def of(cls, model) -> 'PlanarMass':
    """Of a MuJoCo model whose joints are x, z, and a hinge for each body."""
    arms = model.body_mass[:, np.newaxis] * model.body_ipos
    for body in range(1, model.nbody):
      arms[model.body_parentid[body]] += model.body_subtreemass[body] * model.body_pos[body]
    arms = arms[:, [0, 2]] / model.body_subtreemass[0]
    parents = tuple(max(parent - 1, 0) for parent in model.body_parentid[1:])
    # What the world carries is the root alone.
    return cls(arms[0], parents, model.jnt_axis[2:, 1].copy(), arms[1:].T)

  def centre(self, positions: np.ndarray) -> np.ndarray:
    """x and z, `[states, 2]`, from the joints' positions `[states, 2 + bodies]`."""
    along_x, along_z = self._turned(self._angles(positions))
    return self.origin + positions[:, :2] + np.stack([along_x.sum(0), along_z.sum(0)], 1)

  def speed(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """Along x, `[states]`, from the joints' `[states, 2 + bodies]`."""
    _, along_z = self._turned(self._angles(positions))
    return velocities[:, 0] + np.sum(self._angles(velocities) * along_z, axis=0)

  def _angles(self, joints: np.ndarray) -> np.ndarray:
    """Of each body, `[bodies, states]`; of velocities, how fast it turns."""
    angles = self.axes[:, np.newaxis] * joints[:, 2:].T
    for body, parent in enumerate(self.parents[1:], start=1):
      angles[body] += angles[parent]
    return angles

  def _turned(self, angles: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The arms' parts along the world's x and z, `[bodies, states]` each."""
    arm_x, arm_z = self.arms[:, :, np.newaxis]
    sines, cosines = np.sin(angles), np.cos(angles)
    return cosines * arm_x + sines * arm_z, cosines * arm_z - sines * arm_x
