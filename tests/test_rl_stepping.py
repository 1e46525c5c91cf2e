"""Many states at once beside `mj_step`, one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from maml_tf.rl import animals
from maml_tf.rl.stepping import Stepper

pytest.importorskip('mujoco', reason='mujoco is not installed (extra rl)')
pytest.importorskip('gymnasium', reason='gymnasium is not installed (extra rl)')


@pytest.fixture(params=[animals.HalfCheetah, animals.Ant])
def physics(request):
  yield animals.loaded(request.param)
  animals.loaded.cache_clear()


def drawn(physics, count):
  random, model = np.random.RandomState(0), physics.model
  states = np.zeros((count, 1 + model.nq + model.nv))
  positions, velocities = physics.parts(states)
  positions[:] = physics.start + 0.02 * random.normal(size=positions.shape)
  positions[:, 2 if model.nq > 9 else 1] -= 0.1     # down to the floor: contacts
  velocities[:] = 0.1 * random.normal(size=velocities.shape)
  return (states, random.uniform(-1, 1, (count, model.nu)),
          random.normal(size=(count, model.nv)))


@pytest.mark.parametrize('threads', [1, 3])
def test_a_step_is_mj_step(physics, threads):
  mujoco, model, _ = physics
  states, controls, warm = drawn(physics, 11)
  found = Stepper(physics, threads).step(states, controls, warm)
  data, whole = mujoco.MjData(model), int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
  contacts = 0
  for index in range(11):
    mujoco.mj_setState(model, data, states[index], whole)
    data.ctrl[:], data.qacc_warmstart[:] = controls[index], warm[index]
    mujoco.mj_step(model, data)
    contacts += data.ncon
    np.testing.assert_array_equal(found[index], np.concatenate(
        [[data.time], data.qpos, data.qvel]))
  assert contacts > 0


def test_the_start_of_the_solver_matters_within_its_tolerance_only(physics):
  states, controls, warm = drawn(physics, 11)
  stepper = Stepper(physics)
  np.testing.assert_allclose(stepper.step(states, controls, warm),
                             stepper.step(states, controls, 0 * warm), rtol=0, atol=1e-6)


def test_a_state_that_is_not_finite_stays_by_itself(physics):
  states, controls, warm = drawn(physics, 4)
  stepper = Stepper(physics, threads=2)
  whole = stepper.step(states, controls, warm)
  states[1, 3] = np.nan
  found = stepper.step(states, controls, warm)
  assert not np.isfinite(found[1]).all()
  np.testing.assert_array_equal(found[[0, 2, 3]], whole[[0, 2, 3]])


def test_no_states_are_no_states(physics):
  states, controls, warm = drawn(physics, 2)
  assert Stepper(physics, threads=2).step(states[:0], controls[:0], warm[:0]).shape == (
      0, states.shape[1])
