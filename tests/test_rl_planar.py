"""The centre of mass of a planar animal beside MuJoCo's, and state by state."""

from __future__ import annotations

import numpy as np
import pytest

from maml_tf.rl import animals
from maml_tf.rl.planar import PlanarMass

TREE = """
<mujoco><worldbody><body pos="0 0 1.5">
  <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
  <joint axis="0 1 0"/><geom type="sphere" size=".1" mass="2" pos=".3 0 -.1"/>
  <body pos=".4 0 .2"><joint axis="0 -1 0"/><geom size=".1" mass="1" pos=".1 0 .3"/>
    <body pos="-.1 0 .5"><joint axis="0 1 0"/><geom size=".1" mass=".5" pos="0 0 -.2"/></body>
  </body>
  <body pos="-.4 0 .1"><joint axis="0 1 0"/><geom size=".1" mass="3" pos=".2 0 .1"/></body>
</body></worldbody></mujoco>"""


@pytest.fixture(params=['cheetah', 'tree'])
def model(request):
  mujoco = pytest.importorskip('mujoco', reason='mujoco is not installed (extra rl)')
  pytest.importorskip('gymnasium', reason='gymnasium is not installed (extra rl)')
  if request.param == 'cheetah':
    return animals.loaded(animals.HalfCheetah).model
  return mujoco.MjModel.from_xml_string(TREE)


def drawn(model, states):
  random = np.random.RandomState(3)
  return random.normal(size=(states, model.nq)), 3 * random.normal(size=(states, model.nv))


def test_the_centre_and_its_speed_are_mujocos(model):
  import mujoco
  data, mass = mujoco.MjData(model), PlanarMass.of(model)
  positions, velocities = drawn(model, 20)
  centres, speeds = mass.centre(positions), mass.speed(positions, velocities)
  for index in range(20):
    data.qpos[:], data.qvel[:] = positions[index], velocities[index]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    np.testing.assert_allclose(centres[index], data.subtree_com[1][[0, 2]], atol=1e-14)
    assert speeds[index] == pytest.approx(data.subtree_linvel[1][0], abs=1e-13)


def test_the_speed_is_the_derivative_of_the_centre(model):
  mass = PlanarMass.of(model)
  positions, velocities = drawn(model, 5)
  step = 1e-6
  ahead, behind = (mass.centre(positions + sign * step * velocities)[:, 0] for sign in (1, -1))
  np.testing.assert_allclose((ahead - behind) / (2 * step), mass.speed(positions, velocities),
                             rtol=1e-8, atol=1e-8)


def test_a_state_by_itself_has_the_same_bits(model):
  mass = PlanarMass.of(model)
  positions, velocities = drawn(model, 37)
  centres, speeds = mass.centre(positions), mass.speed(positions, velocities)
  for index in (0, 7, 36):
    one = slice(index, index + 1)
    np.testing.assert_array_equal(mass.centre(positions[one]), centres[one])
    np.testing.assert_array_equal(mass.speed(positions[one], velocities[one]), speeds[one])
