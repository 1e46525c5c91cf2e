"""Sampling beside a plain loop over single episodes, budgets, packing and faults."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import threadpoolctl
from rl_problems import Line, generic_parameters, product_threads

from maml_tf.errors import ConfigError
from maml_tf.rl.errors import Diverged, EnvironmentFault
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.rollouts import Sampler
from maml_tf.rl.streams import stream
from maml_tf.rl.trajectories import Trajectories, packed

KEY = (7, 3)


def make(line=None, seed=5):
  """(sampler, policy, parameters of three tasks, tasks)."""
  line = line or Line()
  policy = GaussianPolicy(1, 1, (4,))
  points = np.stack([generic_parameters(policy, task) for task in range(3)])
  return (Sampler(line, policy, seed, 'float64'), policy, points,
          line.draw_tasks(3, stream(0)))


def assert_same_rollout(received, task, rollout, expected, tolerance=0.0):
  """`expected`: (observations, actions, rewards) of one episode."""
  length = len(expected[2])
  assert received.lengths[task, rollout] == length
  for values, wanted in zip(received[:3], expected):
    np.testing.assert_allclose(values[task, rollout, :length], wanted, rtol=0, atol=tolerance)
    assert not values[task, rollout, length:].any()


def assert_equal(received, expected):
  for values, wanted in zip(received, expected):
    np.testing.assert_array_equal(values, wanted)


def plain_episode(policy, point, task, rollout, number, seed=5, horizon=12):
  """One episode in a plain loop: (observations, actions, rewards)."""
  named = policy.split(point)
  random = stream(seed, *KEY, number, rollout)
  position = 0.1 * random.standard_normal(1)
  noise = random.standard_normal((horizon, 1))
  observations, actions, rewards = [], [], []
  for step in range(horizon):
    hidden = np.maximum(position @ named['hidden1/kernel'] + named['hidden1/bias'], 0)
    mean = hidden @ named['output/kernel'] + named['output/bias']
    action = mean + np.exp(named['log_std']) * noise[step]
    observations.append(position)
    actions.append(action)
    position = position + action
    rewards.append(-abs(position[0] - task))
    if abs(position[0]) >= task:
      break
  return observations, actions, rewards


def test_every_rollout_is_that_of_a_plain_loop():
  sampler, policy, points, tasks = make()
  received = sampler.sample(points, tasks, 4, KEY)
  assert received.rewards.shape[:2] == (3, 4) and (received.lengths < 12).any()
  for task in range(3):
    for rollout in range(4):
      assert_same_rollout(received, task, rollout, plain_episode(
          policy, points[task], tasks[task], rollout, task), 1e-12)


def test_returns_are_undiscounted_means_over_rollouts():
  sampler, _, points, tasks = make()
  received = sampler.sample(points, tasks, 4, KEY)
  sums = [[received.rewards[task, rollout, :received.lengths[task, rollout]].sum()
           for rollout in range(4)] for task in range(3)]
  np.testing.assert_allclose(received.mean_returns(), np.mean(sums, axis=1))


def test_more_rollouts_begin_with_the_same_ones():
  sampler, _, points, tasks = make()
  few, many = (sampler.sample(points, tasks, count, KEY) for count in (2, 5))
  np.testing.assert_array_equal(few.lengths, many.lengths[:, :2])
  steps = few.rewards.shape[2]
  np.testing.assert_allclose(few.rewards, many.rewards[:, :2, :steps], atol=1e-12)


def test_fewer_tasks_at_a_time_give_the_same_bits():
  sampler, _, points, tasks = make()
  whole, part = sampler.sample(points, tasks, 3, KEY), sampler.sample(
      points[:2], tasks[:2], 3, KEY)
  steps = part.rewards.shape[2]
  np.testing.assert_array_equal(whole.observations[:2, :, :steps], part.observations)


@pytest.mark.parametrize('budget', ['rollouts', 'steps'])
def test_environments_side_by_side_give_the_same_bits(budget):
  sampler, _, points, tasks = make()
  expected = sampler.sample(points, tasks, 4, KEY, budget)
  threads = set()

  class Heard(Line):
    def start(self, tasks, randoms):
      threads.add((threading.get_ident(), len(tasks)))
      return super().start(tasks, randoms)
  line = Line()
  line.side_by_side = [Heard(), Heard()]
  sampler, _, points, tasks = make(line)
  assert_equal(sampler.sample(points, tasks, 4, KEY, budget), expected)
  assert {(ident, episodes) for ident, episodes in threads
          if ident != threading.get_ident()} == threads
  assert {8, 4} <= {episodes for _, episodes in threads}   # two of three tasks, and one


def test_a_fault_of_an_environment_beside_another_names_its_task():
  line = Line()
  line.side_by_side = [Line(), Line(bad_step=0)]
  sampler, _, points, tasks = make(line)
  with pytest.raises(EnvironmentFault, match='in step 1 of rollout 3 of task 2.'):
    sampler.sample(points, tasks, 4, KEY)


def test_a_single_task_is_sampled_by_the_environment_itself():
  line = Line()
  line.side_by_side = [None, None]   # would fail
  sampler, _, points, tasks = make(line)
  assert sampler.sample(points[:1], tasks[:1], 4, KEY).lengths.shape == (1, 4)


def test_products_are_computed_in_the_thread_that_asks_for_them():
  seen = []

  class Heard(Line):
    def start(self, tasks, randoms):
      seen.extend(product_threads())
      return super().start(tasks, randoms)
  sampler, _, points, tasks = make(Heard())
  with threadpoolctl.threadpool_limits(limits=2, user_api='blas'):
    if 2 not in product_threads():
      pytest.skip('The threads of NumPy\'s library cannot be told here.')
    sampler.sample(points, tasks, 4, KEY)
    assert 2 in product_threads()
  assert set(seen) == {1}


def test_seed_and_key_decide():
  _, policy, points, tasks = make()
  first = make()[0].sample(points, tasks, 2, KEY)
  again = make()[0].sample(points, tasks, 2, KEY)
  for one, other in zip(first, again):
    np.testing.assert_array_equal(one, other)
  for sampler, key in ((make(seed=6)[0], KEY), (make()[0], (7, 4))):
    other = sampler.sample(points, tasks, 2, key)
    assert not np.array_equal(first.actions[:, :, 0], other.actions[:, :, 0])


def test_a_budget_of_steps_takes_whole_rollouts_until_there_are_enough():
  sampler, _, points, tasks = make()
  many = sampler.sample(points, tasks, 40, KEY)
  received = sampler.sample(points, tasks, 3, KEY, budget='steps')
  for task in range(3):
    wanted = np.searchsorted(np.cumsum(many.lengths[task]), 3 * 12) + 1
    np.testing.assert_array_equal(received.lengths[task, :wanted],
                                  many.lengths[task, :wanted])
    assert not received.lengths[task, wanted:].any()
    assert received.lengths[task].sum() >= 36
    steps = min(received.rewards.shape[2], many.rewards.shape[2])
    np.testing.assert_allclose(received.observations[task, :wanted, :steps],
                               many.observations[task, :wanted, :steps], atol=1e-12)
  assert received.lengths.max(axis=0).all()      # as wide as the widest task
  # Rollouts that a task does not have count for nothing.
  assert len({np.count_nonzero(row) for row in received.lengths}) > 1
  sums = received.rewards.sum(axis=(1, 2))
  np.testing.assert_allclose(received.mean_returns(),
                             sums / np.count_nonzero(received.lengths, axis=1))


def test_a_budget_that_is_not_there_is_named():
  sampler, _, points, tasks = make()
  with pytest.raises(ConfigError, match="rollouts, steps. Received: 'episodes'"):
    sampler.sample(points, tasks, 2, KEY, budget='episodes')


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_reward_that_is_not_finite_is_one_sentence(value):
  sampler, _, points, _ = make(Line(bad_step=2, bad_value=value))
  with pytest.raises(EnvironmentFault, match='line returned a reward that is not finite, '
                     'in step 3 of rollout 1 of task 2'):
    sampler.sample(points, np.full(3, 50.0), 2, KEY)


def test_a_fault_in_a_further_rollout_names_its_number():
  class Later(Line):
    def start(self, tasks, randoms):
      self.bad_step = None if len(tasks) == 2 else 0   # the task's two rollouts come first
      self.last = 1 + len(tasks)
      return super().start(tasks, randoms)
  line = Later()
  sampler, _, points, _ = make(line)
  with pytest.raises(EnvironmentFault, match='in step 1 of rollout') as caught:
    sampler.sample(points[:1], [0.2], 2, KEY, 'steps')
  assert f'rollout {line.last} of task 0' in str(caught.value)


class Far(Line):
  """A walk far away, and a thousand times further with each step."""

  def __init__(self, start):
    super().__init__()
    self.far = start

  def start(self, tasks, randoms):
    walks = super().start(tasks, randoms)
    walks.observations = np.full((len(tasks), 1), self.far)
    step = walks.step
    def further(actions, running):
      walks.observations = 1e3 * walks.observations
      return step(actions, running)
    walks.step = further
    return walks


@pytest.mark.parametrize('start, when', [(1e39, 'at the start'), (1e36, 'in step 1')])
def test_an_observation_beyond_single_precision_is_one_sentence(start, when):
  _, policy, points, _ = make()
  with warnings.catch_warnings(), pytest.raises(
      EnvironmentFault, match=f'line returned an observation that is not finite, {when} of '
      r'rollout 0 of task 0 \(as float32\)'):
    warnings.filterwarnings('error', 'overflow encountered in cast')
    Sampler(Far(start), policy).sample(0 * points, [1e300] * 3, 2, KEY)


def test_a_reward_of_an_episode_that_is_over_may_be_anything():
  sampler, _, points, _ = make(Line(bad_step=2))
  tasks = [3.0, 3.0, 0.0]        # the last ones end with their first step
  received = sampler.sample(points, tasks, 4, KEY)
  assert received.lengths[2].max() == 1 and received.lengths.max() > 3
  np.testing.assert_array_equal(received.rewards,
                                make()[0].sample(points, tasks, 4, KEY).rewards)


@pytest.mark.parametrize('budget', ['rollouts', 'steps'])
def test_episodes_that_all_end_at_once_are_one_sentence(budget):
  sampler, _, points, _ = make()
  with pytest.raises(EnvironmentFault, match='Every episode of line ended with its first'):
    sampler.sample(points, [1e-9] * 3, 2, KEY, budget)
  # Those of one task may be so.
  received = sampler.sample(points, [3.0, 1e-9, 3.0], 2, KEY, budget)
  assert received.lengths[1].max() == 1 and received.lengths.max() > 1
  assert sampler.sample(points[:1], [1e-9], 2, KEY, budget).lengths.max() == 1


def test_an_action_that_is_not_finite_is_one_sentence():
  sampler, _, points, tasks = make()
  points[1, -1] = 800.0
  with np.errstate(over='ignore'), pytest.raises(Diverged, match='action that is not finite'):
    sampler.sample(points, tasks, 2, KEY)


def trajectories(lengths, seed=0):
  random = np.random.RandomState(seed)
  lengths = np.array(lengths)
  shape = (*lengths.shape, 4)
  return Trajectories(random.normal(size=(*shape, 2)), random.normal(size=(*shape, 1)),
                      random.normal(size=shape), lengths)


def test_packing_puts_valid_samples_in_front():
  found = trajectories([[4, 1], [2, 0]])
  advantages = np.random.RandomState(1).normal(size=found.rewards.shape)
  batch = packed(found, advantages, 'float64')
  np.testing.assert_array_equal(
      batch.observations[0], np.concatenate([found.observations[0, 0],
                                             found.observations[0, 1, :1]]))
  np.testing.assert_array_equal(batch.actions[1, :2], found.actions[1, 0, :2])
  np.testing.assert_array_equal(batch.weights, [[1 / 7] * 5, [1 / 7] * 2 + [0] * 3])
  np.testing.assert_allclose(batch.advantages[0], [*advantages[0, 0] / 5,
                                                   advantages[0, 1, 0] / 5])
  np.testing.assert_allclose(batch.advantages[1], [*advantages[1, 0, :2] / 2, 0, 0, 0])
  assert not batch.observations[1, 2:].any()


def test_packing_every_other_sample_keeps_means_means():
  found = trajectories([[4, 1], [2, 0]])
  batch = packed(found, np.ones(found.rewards.shape), 'float64', every=2)
  np.testing.assert_allclose(batch.advantages.sum(axis=1), 1)
  np.testing.assert_allclose(batch.weights, [[1 / 4] * 3, [1 / 4, 0, 0]])
  np.testing.assert_array_equal(batch.observations[0], np.stack(
      [found.observations[0, 0, 0], found.observations[0, 0, 2],
       found.observations[0, 1, 0]]))


def test_discrete_actions_stay_integers():
  found = trajectories([[4, 1], [2, 3]])._replace(
      actions=np.arange(16, dtype=np.int32).reshape(2, 2, 4))
  batch = packed(found, np.ones(found.rewards.shape))
  assert batch.actions.dtype == np.int32 and batch.observations.dtype == np.float32
  np.testing.assert_array_equal(batch.actions[1], [8, 9, 12, 13, 14])


def test_rollouts_of_all_tasks_as_those_of_one():
  found = trajectories([[4, 1], [2, 3]])
  together = found.in_one_task()
  assert together.rewards.shape == (1, 4, 4)
  np.testing.assert_array_equal(together.lengths, [[4, 1, 2, 3]])
  np.testing.assert_array_equal(together.observations[0, 2], found.observations[1, 0])
