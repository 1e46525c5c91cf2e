"""Half-cheetah and ant beside plain MuJoCo calls, and the checks of the model."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from rl_problems import generic_parameters

from maml_tf.rl import animals, locomotion
from maml_tf.rl.errors import EnvironmentFault, MissingLibrary
from maml_tf.rl.goal_in_observation import GoalInObservation
from maml_tf.rl.policy import policy_for
from maml_tf.rl.rollouts import Sampler
from maml_tf.rl.streams import stream

mujoco = pytest.importorskip('mujoco', reason='mujoco is not installed (extra rl)')
pytest.importorskip('gymnasium', reason='gymnasium is not installed (extra rl)')

NAMES = ('cheetah_direction', 'cheetah_velocity', 'ant_direction', 'ant_velocity')
ANTS, CHEETAHS = NAMES[2:], NAMES[:2]


@pytest.fixture(autouse=True)
def _loaded_anew():
  """Whatever other tests have left behind."""
  yield
  animals.loaded.cache_clear()


def randoms(count, first=0):
  return [stream(11, first + index) for index in range(count)]


def started(name, tasks, threads=1):
  environment = locomotion.Locomotion(name, threads)
  return environment, environment.start(np.array(tasks)[:, None], randoms(len(tasks)))


def velocities_of(environment, simulation):
  return environment.physics.parts(simulation._states)[1]


def plain_reward(name, task, velocity, action, forces):
  """As rllab's environments compute it."""
  cost = np.sum(np.clip(action, -1, 1) ** 2)
  if name == 'cheetah_direction':
    return task * velocity - 0.05 * cost
  if name == 'cheetah_velocity':
    return -abs(velocity - task) - 0.05 * cost
  contact = 0.5 * 1e-3 * np.sum(forces ** 2)
  if name == 'ant_direction':
    return task * velocity + 0.05 - 0.005 * cost - contact
  return -abs(velocity - task) + 1 + 0.05 - 0.005 * cost - contact


def centre_of_mass(model, data):
  """Position, and velocity along x, of all bodies together."""
  masses = model.body_mass
  position = masses @ data.xipos / masses.sum()
  velocity = np.zeros(6)
  total = 0.0
  for body in range(1, model.nbody):
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, velocity, 0)
    total += masses[body] * velocity[3]
  return position, total / masses.sum()


@pytest.mark.parametrize('name', NAMES)
def test_steps_are_those_of_a_plain_loop_over_mujoco(name):
  """One environment, `mj_step` and `mj_forward`, as rllab does."""
  environment, simulation = started(name, [1.0, -1.0])
  model, start = environment.physics.model, environment.physics.start
  data = mujoco.MjData(model)
  noise = randoms(2)[1].standard_normal(model.nq + model.nv)
  data.qpos[:] = start + 0.01 * noise[:model.nq]
  data.qvel[:] = 0.1 * noise[model.nq:]
  mujoco.mj_forward(model, data)
  actions = np.random.RandomState(0).normal(size=(20, 2, model.nu))
  for step in range(20):
    rewards, ended = simulation.step(actions[step], np.ones(2, bool))
    data.ctrl[:] = np.clip(actions[step, 1], -1, 1)
    mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    forces = np.clip(data.cfrc_ext, -1, 1)
    position, velocity = centre_of_mass(model, data)
    if name in ANTS:
      seen = [data.qpos, data.qvel, forces.ravel(), data.xmat[1], position]
    else:
      seen = [data.qpos[1:], data.qvel, position]
    np.testing.assert_allclose(simulation.observations[1], np.concatenate(seen),
                               rtol=0, atol=1e-12)
    assert rewards[1] == pytest.approx(
        plain_reward(name, -1.0, velocity, actions[step, 1], forces), abs=1e-12)
    assert bool(ended[1]) == (name in ANTS and not 0.2 <= data.qpos[2] <= 1)


@pytest.mark.parametrize('name, size, actions', [
    ('cheetah_direction', 20, 6), ('ant_velocity', 125, 8)])
def test_sizes(name, size, actions):
  environment, simulation = started(name, [1.0] * 3)
  assert environment.observation_size == size and environment.actions.size == actions
  assert simulation.observations.shape == (3, size) and environment.horizon == 200


def test_the_models_are_rllabs():
  cheetah, ant = (locomotion.Locomotion(name).physics.model
                  for name in ('cheetah_velocity', 'ant_velocity'))
  assert cheetah.body_mass.sum() == pytest.approx(14, abs=1e-6)
  assert ant.body_mass.sum() == pytest.approx(0.911, abs=5e-4)
  assert (cheetah.opt.timestep, ant.opt.timestep) == (0.01, 0.02)
  np.testing.assert_array_equal(ant.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (14, 1)))
  for model in (cheetah, ant):
    assert model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)


def test_the_cheetahs_mass_has_the_bits_that_the_xml_gives(tmp_path):
  """What is left out of the XML comes back by a call; elsewhere it is printed about."""
  import gymnasium
  path = os.path.join(os.path.dirname(gymnasium.__file__),
                      'envs/mujoco/assets/half_cheetah.xml')
  program = ('import mujoco, numpy, sys\n'
             'model = mujoco.MjModel.from_xml_path(sys.argv[1])\n'
             'numpy.savez(sys.argv[2], mass=model.body_mass, inertia=model.body_inertia, '
             'invweight=model.body_invweight0, dof=model.dof_invweight0)')
  subprocess.run([sys.executable, '-c', program, path, str(tmp_path / 'model.npz')],
                 check=True, capture_output=True, timeout=600, cwd=tmp_path)
  ours = locomotion.Locomotion('cheetah_direction').physics.model
  with np.load(tmp_path / 'model.npz') as model:
    for name, values in (('mass', ours.body_mass), ('inertia', ours.body_inertia),
                         ('invweight', ours.body_invweight0), ('dof', ours.dof_invweight0)):
      np.testing.assert_array_equal(model[name], values)


def test_nothing_is_printed_and_no_file_is_written(tmp_path):
  program = ('from maml_tf.rl.locomotion import Locomotion\n'
             'from maml_tf.rl.streams import stream\n'
             'import numpy as np\n'
             'for name in ("cheetah_direction", "ant_direction"):\n'
             '  environment = Locomotion(name)\n'
             '  simulation = environment.start(np.ones((1, 1)), [stream(0)])\n'
             '  simulation._states[0, 3] = np.nan\n'
             '  try:\n'
             '    simulation.step(np.zeros((1, environment.actions.size)), np.ones(1, bool))\n'
             '  except RuntimeError: pass\n')
  repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  done = subprocess.run(
      [sys.executable, '-c', program], cwd=tmp_path, capture_output=True, text=True,
      check=True, timeout=600, env={**os.environ, 'PYTHONPATH': repository})
  assert done.stdout == '' and done.stderr == ''
  assert os.listdir(tmp_path) == []


def test_a_state_that_is_not_finite_ends_an_ants_episode_and_no_other():
  actions = np.random.RandomState(0).normal(size=(4, 3, 8))
  whole = started('ant_velocity', [1.0, 2.0, 3.0])[1]
  environment, simulation = started('ant_velocity', [1.0, 2.0, 3.0])
  running = np.ones(3, bool)
  for step in range(4):
    if step == 2:
      velocities_of(environment, simulation)[1, 0] = np.nan
    # The two share no data.
    rewards, ended = simulation.step(actions[step], running)
    expected, _ = whole.step(actions[step], np.ones(3, bool))
    np.testing.assert_array_equal(rewards[[0, 2]], expected[[0, 2]])
    np.testing.assert_array_equal(simulation.observations[[0, 2]], whole.observations[[0, 2]])
    assert bool(ended[1]) == (step == 2) and np.isfinite(simulation.observations).all()
    running &= ~ended
  assert rewards[1] == 0.0


def test_a_cheetah_whose_physics_breaks_down_is_one_sentence():
  environment, simulation = started('cheetah_velocity', [1.0])
  velocities_of(environment, simulation)[0, 0] = np.nan
  with pytest.raises(EnvironmentFault, match='cheetah_velocity is not finite any more'):
    simulation.step(np.zeros((1, 6)), np.ones(1, bool))


@pytest.mark.parametrize('name', ['cheetah_direction', 'ant_direction'])
def test_threads_and_what_ran_before_change_no_bit(name):
  actions = np.random.RandomState(0).normal(size=(10, 5, 8))

  def ran(environment):
    simulation = environment.start(np.ones((5, 1)), randoms(5))
    running, seen = np.ones(5, bool), []
    for step in range(10):
      rewards, ended = simulation.step(actions[step, :, :environment.actions.size], running)
      running &= ~ended
      seen.append((rewards, simulation.observations.copy()))
    return seen
  single, threads = locomotion.Locomotion(name), locomotion.Locomotion(name, threads=3)
  first = ran(single)
  for other in (ran(single), ran(threads)):
    for (rewards, observations), (wanted, expected) in zip(other, first):
      np.testing.assert_array_equal(rewards, wanted)
      np.testing.assert_array_equal(observations, expected)


@pytest.mark.parametrize('name', ['cheetah_velocity', 'ant_velocity'])
@pytest.mark.parametrize('with_goal', [False, True])
@pytest.mark.parametrize('threads', [2, 3])
def test_sampling_in_threads_changes_no_bit(name, with_goal, threads):
  def sampled(threads):
    environment = locomotion.Locomotion(name, threads, horizon=30)
    assert len(environment.side_by_side) == (2 if threads > 1 else 0)
    if with_goal:
      environment = GoalInObservation(environment)
    policy = policy_for(environment)
    points = np.stack([generic_parameters(policy, task) for task in range(3)])
    tasks = environment.draw_tasks(3, stream(0))
    return Sampler(environment, policy, seed=4).sample(points, tasks, 5, (1,), 'steps')
  for values, expected in zip(sampled(threads), sampled(1)):
    np.testing.assert_array_equal(values, expected)


def test_one_rollout_by_itself_is_the_same():
  actions = np.random.RandomState(0).normal(size=(10, 3, 6))
  environment, together = started('cheetah_direction', [1.0] * 3)
  alone = locomotion.Locomotion('cheetah_direction').start(np.ones((1, 1)), randoms(1, 2))
  for step in range(10):
    together.step(actions[step], np.ones(3, bool))
    alone.step(actions[step, 2:], np.ones(1, bool))
    np.testing.assert_array_equal(together.observations[2], alone.observations[0])


def test_tasks():
  direction, velocity = (locomotion.Locomotion(name) for name in CHEETAHS)
  held_out = direction.test_tasks(40, seed=1)
  assert held_out.shape == (40, 1) and (held_out == -1).sum() == 22
  np.testing.assert_array_equal(velocity.test_tasks(40, seed=1)[:, 0],
                                np.random.RandomState(1).uniform(0, 2, 40))
  drawn = locomotion.Locomotion('ant_velocity').draw_tasks(2000, stream(0))
  assert 0 <= drawn.min() < 0.01 and 2.99 < drawn.max() <= 3
  assert set(np.unique(locomotion.Locomotion('ant_direction').draw_tasks(
      50, stream(0)))) == {-1.0, 1.0}


def test_an_ant_that_lies_down_or_jumps_has_ended():
  environment, simulation = started('ant_direction', [1.0] * 3)
  for index, height in enumerate((0.15, 0.5, 1.2)):
    environment.physics.parts(simulation._states)[0][index, 2] = height
    velocities_of(environment, simulation)[index] = 0
  _, ended = simulation.step(np.zeros((3, 8)), np.ones(3, bool))
  np.testing.assert_array_equal(ended, [True, False, True])


def test_a_model_of_another_version_is_one_sentence(monkeypatch):
  monkeypatch.setattr(animals.Ant, 'margin', 0.02)
  with pytest.raises(MissingLibrary, match='contacts with a margin of .* instead of 0.02'):
    locomotion.Locomotion('ant_direction')
  monkeypatch.setattr(animals.HalfCheetah, 'sizes', (9, 9, 6, 9))
  with pytest.raises(MissingLibrary, match='half_cheetah.xml of sizes'):
    locomotion.Locomotion('cheetah_direction')
  monkeypatch.undo()
  monkeypatch.setattr(animals.Ant, 'mass', 1.0)
  with pytest.raises(MissingLibrary, match='a mass of 0.91.* instead of 1.0'):
    locomotion.Locomotion('ant_direction')


@pytest.mark.parametrize('name, capsules, axes', [('cheetah_direction', 8, (0, 2)),
                                                  ('ant_velocity', 12, (0, 1))])
def test_a_drawing_shows_the_capsules_around_the_centre_of_mass(name, capsules, axes):
  environment, simulation = started(name, [1.0])
  before = simulation.drawing(0)
  for _ in range(5):
    simulation.step(np.ones((1, environment.actions.size)), np.array([True]))
  drawing = simulation.drawing(0)
  assert drawing.lines.shape == (capsules, 2, 2) and drawing.widths.shape == (capsules,)
  # The centre of mass ends an observation.
  np.testing.assert_allclose(drawing.centre, simulation.observations[0, -3:][list(axes)],
                             atol=1e-7)   # an observation is float64, a state is the source
  assert np.abs(drawing.lines - drawing.centre).max() < drawing.reach
  assert not np.array_equal(before.lines, drawing.lines)
