"""The point beside computations by hand, and what needs no library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from maml_tf.errors import ConfigError
from maml_tf.rl import animals, catalogue
from maml_tf.rl.errors import MissingLibrary
from maml_tf.rl.goal_in_observation import GoalInObservation
from maml_tf.rl.point_navigation import PointNavigation
from maml_tf.rl.streams import stream


def started(goals):
  goals = np.array(goals)
  return PointNavigation().start(goals, [stream(0, index) for index in range(len(goals))])


def running(count):
  return np.ones(count, bool)


def test_a_step_moves_by_a_tenth_of_the_action_and_pays_the_distance():
  points = started([[0.5, 0.0], [-0.2, 0.1], [0.0, 0.5]])
  np.testing.assert_array_equal(points.observations, np.zeros((3, 2)))
  rewards, ended = points.step(np.array([[1.0, 0.0], [-0.5, 0.25], [0.0, 0.0]]), running(3))
  np.testing.assert_allclose(points.observations, [[0.1, 0], [-0.05, 0.025], [0, 0]],
                             atol=1e-12)
  np.testing.assert_allclose(rewards, [-0.4, -np.hypot(0.15, 0.075), -0.5], atol=1e-12)
  assert not ended.any()


def test_each_coordinate_moves_by_a_tenth_at_most():
  points = started([[0.5, 0.5]])
  points.step(np.array([[7.0, -1.5]]), running(1))
  np.testing.assert_allclose(points.observations, [[0.1, -0.1]], atol=1e-12)


def test_it_ends_where_both_coordinates_are_within_a_hundredth():
  points = started([[0.05, 0.05]] * 3)
  _, ended = points.step(
      np.array([[0.405, 0.595], [0.395, 0.5], [0.5, 0.605]]), running(3))
  np.testing.assert_array_equal(ended, [True, False, False])


def test_a_point_whose_episode_is_over_stays():
  points = started([[0.05, 0.05]] * 2)
  points.step(np.ones((2, 2)), np.array([True, False]))
  np.testing.assert_allclose(points.observations, [[0.1, 0.1], [0, 0]])


def test_goals_are_uniform_in_the_square():
  goals = PointNavigation().draw_tasks(4000, stream(3, 0))
  assert goals.shape == (4000, 2) and np.abs(goals).max() <= 0.5
  np.testing.assert_allclose(goals.mean(axis=0), 0, atol=0.02)
  np.testing.assert_allclose(goals.std(axis=0), 12 ** -0.5, atol=0.01)


def test_standing_still_costs_what_the_papers_numbers_say():
  """38.3 a hundred steps on average; squared distances, as in its text, would be 16.7."""
  goals = PointNavigation().draw_tasks(20000, stream(4, 0))
  rewards, _ = started(goals).step(np.zeros_like(goals), running(len(goals)))
  assert 100 * rewards.mean() == pytest.approx(-38.3, abs=0.3)
  assert 100 * (rewards ** 2).mean() == pytest.approx(16.7, abs=0.3)


def test_held_out_goals_are_those_of_the_papers_evaluation():
  np.testing.assert_array_equal(
      PointNavigation().test_tasks(40, seed=1),
      np.random.RandomState(1).uniform(-0.5, 0.5, (40, 2)))


def test_streams_depend_on_their_key_alone():
  first = stream(5, 1, 2).standard_normal(4)
  np.testing.assert_array_equal(first, stream(5, 1, 2).standard_normal(4))
  others = [stream(*key).standard_normal(4) for key in ((5, 2, 1), (6, 1, 2), (5, 1, 2, 0))]
  assert all(not np.array_equal(first, other) for other in others)


def test_an_environment_that_is_not_there_is_named():
  with pytest.raises(ConfigError, match="one of point_navigation, .*'humanoid'"):
    catalogue.environment_named('humanoid')
  assert catalogue.environment_named('point_navigation').horizon == 100


def test_without_gymnasium_and_mujoco_the_point_works_and_a_cheetah_is_one_sentence(
    monkeypatch):
  for name in ('gymnasium', 'mujoco'):
    monkeypatch.setitem(sys.modules, name, None)
  animals.loaded.cache_clear()
  catalogue.environment_named('point_navigation')
  with pytest.raises(MissingLibrary, match='gymnasium is not installed: pip install'):
    catalogue.environment_named('cheetah_direction')


def test_importing_all_of_it_imports_neither_gymnasium_nor_mujoco():
  program = ('import pkgutil, importlib, sys, maml_tf.rl as rl\n'
             'for module in pkgutil.iter_modules(rl.__path__):\n'
             '  importlib.import_module(f"maml_tf.rl.{module.name}")\n'
             'print(sorted({"gymnasium", "mujoco"} & set(sys.modules)))')
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                        check=True, timeout=600)
  assert done.stdout.strip() == '[]'


def test_an_oracle_sees_the_task_behind_the_observation():
  oracle = GoalInObservation(PointNavigation())
  assert oracle.observation_size == 4 and oracle.horizon == 100
  goals = oracle.draw_tasks(2, stream(0))
  simulation, plain = oracle.start(goals, [None] * 2), started(goals)
  actions = np.ones((2, 2))
  for received, expected in zip(simulation.step(actions, running(2)),
                                plain.step(actions, running(2))):
    np.testing.assert_array_equal(received, expected)
  np.testing.assert_array_equal(simulation.observations,
                                np.concatenate([plain.observations, goals], axis=1))


class Given(PointNavigation):
  """Its tasks are given; points start whatever they are."""

  def __init__(self, tasks):
    super().__init__()
    self._tasks = tasks

  def test_tasks(self, count, seed):
    return (self._tasks * count)[:count]

  def start(self, tasks, randoms):
    return super().start(np.zeros((len(tasks), 2)), randoms)


@pytest.mark.parametrize('tasks', [[0.5, 2], [np.float32(0.5), 2.0], [[0.5], np.array([2])]])
def test_a_task_that_is_a_number_is_seen_as_one(tasks):
  oracle = GoalInObservation(Given(tasks))
  assert oracle.observation_size == 3
  np.testing.assert_array_equal(oracle.start(tasks, [None] * 2).observations,
                                [[0, 0, 0.5], [0, 0, 2]])


@pytest.mark.parametrize('tasks', [
    [{'goal': 1}], ['left', 'right'], [[0.5], [0.5, 1.0]], [0.5, [1.0]], [[[0.5, 1.0]]],
    [(np.zeros(2), 1.0)]])
def test_an_oracle_of_tasks_that_are_no_vectors_of_numbers_is_refused(tasks):
  with pytest.raises(ConfigError, match='numbers of one length. point_navigation has tasks '
                                        'like .* and .*: make its tasks so, or choose'):
    GoalInObservation(Given(tasks))


def test_tasks_of_another_length_than_those_before_are_refused():
  oracle = GoalInObservation(Given([[0.5, 1.0]]))
  with pytest.raises(ConfigError, match=r'has tasks like \[1.0\] and \[2.0\]'):
    oracle.start([[1.0], [2.0]], [None] * 2)
