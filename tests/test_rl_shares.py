"""Meta-iterations whose tasks are shared out: by workers that are threads here, by logical
devices, and by two processes."""

from __future__ import annotations

import concurrent.futures
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from logical_devices import run_on
from rl_problems import Line
from test_rl_training import SMALL
from test_workers import Run, largest_difference

from maml_tf.evaluation.protocol import Evaluator
from maml_tf.rl.errors import EnvironmentFault
from maml_tf.rl.groups import on_devices
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.policy_learner import PolicyLearner
from maml_tf.rl.shares import ALONE, Shares
from maml_tf.rl.task_streams import HeldOutTasks, Iterations
from maml_tf.rl.training import Learning
from maml_tf.rl.trajectories import Trajectories

LONGEST = 600   # seconds to wait for another thread, on a busy machine
SETTINGS = SMALL._replace(tasks=4, dtype='float64')
CASES = {
    'exact': SETTINGS,
    'two updates, first order': SETTINGS._replace(num_updates=2, first_order=True),
    'every second sample': SETTINGS._replace(hessian_every=2),
    'secant': SETTINGS._replace(hessian='secant', inner_loss='ratio'),
    'secant, every second sample': SETTINGS._replace(hessian='secant', hessian_every=2),
    'as many steps': SETTINGS._replace(budget='steps'),
    'by an optimizer': SETTINGS._replace(trust_region=None),
    'one task': SETTINGS._replace(num_updates=0, one_task=True),
    'one task, as many steps': SETTINGS._replace(num_updates=0, one_task=True,
                                                 budget='steps')}


TRACING = threading.Lock()


class Thread:
  """What `Shares` asks `Replicas`, of a worker that is a thread."""
  are_several = True
  strategy = SimpleNamespace(extended=SimpleNamespace(worker_devices=('CPU:0',)))

  def __init__(self, worker, workers, table, barrier):
    self.worker, self.workers = worker, workers
    self._table, self._barrier = table, barrier

  def combined(self, arrays):
    self._table[self.worker] = arrays
    self._barrier.wait(LONGEST)
    whole = [np.sum(parts, axis=0, dtype=parts[0].dtype) for parts in zip(*self._table)]
    self._barrier.wait(LONGEST)
    return whole

  def of_writer(self, arrays):
    return self.combined(arrays if self.worker == 0 else [0 * array for array in arrays])


def by_workers(workers, function):
  """What `function` of its `Shares` gives in each worker."""
  table, barrier = [None] * workers, threading.Barrier(workers)
  shares = [Shares(Thread(worker, workers, table, barrier)) for worker in range(workers)]
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    return list(pool.map(function, shares))


def traced(meta_policy):
  """TensorFlow's cache of forward derivatives is not made for threads that trace at once, as
  workers in one process alone do."""
  with TRACING:
    for function in vars(meta_policy).values():
      if hasattr(function, 'get_concrete_function'):
        function.get_concrete_function()


def trained(settings, shares, iterations=2):
  """Parameters after some iterations, and what was logged but for times."""
  environment = Line()
  model = PolicyLearner(environment, GaussianPolicy(1, 1, (6,)), settings, seed=1)
  model.learning = Learning(environment, model.learner, settings, 1, shares)
  model.compile()
  traced(model.learning.meta_policy)
  logs = [{name: float(value) for name, value in model.train_step(
      Iterations().batch(iteration)).items() if not name.startswith('seconds')}
          for iteration in range(iterations)]
  return model.theta(), logs


def assert_the_same(case, workers):
  theta, logs = trained(CASES[case], ALONE)
  assert logs[0]['kl'] > 0   # of a step that was accepted; else nothing would be compared
  for other, others in by_workers(workers, lambda shares: trained(CASES[case], shares)):
    error = np.abs(other - theta).max() / np.abs(theta).max()
    print(f'{case}, {workers} workers: {error:.1e}')
    assert error < 1e-12
    for own, expected in zip(others, logs):
      assert own == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.slow
def test_two_workers_do_together_what_one_does():
  assert_the_same('exact', 2)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [2, 4])
@pytest.mark.parametrize('case', CASES)
def test_workers_do_together_what_one_does(case, workers):
  assert_the_same(case, workers)


def test_each_task_is_acted_in_by_one_worker():
  def own(shares):
    learning = Learning(Line(), GaussianPolicy(1, 1, (6,)), SETTINGS, 1, shares)
    samples = learning.sampled(np.zeros(learning.policy.num_parameters), 0)
    return shares.own(SETTINGS.tasks), samples.phases[0].rewards, samples.steps
  (first, rewards, steps), (second, others, also) = by_workers(2, own)
  [(_, whole, all_steps)] = [own(ALONE)]
  assert (list(first), list(second)) == ([0, 1], [2, 3])
  assert len(rewards) == len(others) == 2 and steps == also == all_steps
  for part, expected in ((rewards, whole[:2]), (others, whole[2:])):
    np.testing.assert_array_equal(part, expected[:, :, :part.shape[2]])


@pytest.mark.parametrize('workers', [2, 4])
def test_as_many_steps_round_as_those_of_one_worker(workers):
  settings = SETTINGS._replace(dtype='float32', budget='steps')

  def phases(shares):
    learning = Learning(Line(), GaussianPolicy(1, 1), settings, 0, shares)
    theta = np.random.RandomState(0).normal(scale=0.3, size=learning.policy.num_parameters)
    traced(learning.meta_policy)
    return learning.sampled(theta, 0).phases
  whole, parts = phases(ALONE), by_workers(workers, phases)
  numbers = set()
  for own, expected in zip(zip(*parts), whole):
    expected = expected.padded(50, 12)
    for index, part in enumerate(own):
      tasks = slice(index * 4 // workers, (index + 1) * 4 // workers)
      numbers.add(part.rewards.shape[1])
      for received, values in zip(part.padded(50, 12)[:3], expected[:3]):
        np.testing.assert_array_equal(received, values[tasks])
  assert len(numbers) > 1   # else there is nothing to agree on


def test_only_where_all_tasks_of_all_workers_end_at_once_is_it_an_error():
  class Ends(Line):
    """With the first step where the task is 0."""

    def draw_tasks(self, count, random):
      return np.array([0.0, 0.0, 0.0, self.last])

  def sampled(shares, last):
    environment = Ends()
    environment.last = last
    learning = Learning(environment, GaussianPolicy(1, 1, (6,)), SETTINGS, 1, shares)
    return learning.sampled(np.zeros(learning.policy.num_parameters), 0).steps
  assert len(set(by_workers(2, lambda shares: sampled(shares, 50.0)))) == 1
  with pytest.raises(EnvironmentFault, match='of all 4 tasks'):
    by_workers(2, lambda shares: sampled(shares, 0.0))


def test_tasks_that_are_not_divided_evenly_are_shared_too():
  for workers in (1, 2, 3, 5):
    found = by_workers(workers, lambda shares: (
        list(shares.own(4)), shares.whole(4, np.array(shares.own(4), float)[:, None] - 1)))
    assert [task for own, _ in found for task in own] == [0, 1, 2, 3]
    for _, [whole] in found:
      np.testing.assert_array_equal(whole[:, 0], [-1, 0, 1, 2])


def test_trajectories_of_other_sizes_are_joined():
  def of(tasks, rollouts, steps):
    shape = (tasks, rollouts, steps)
    return Trajectories(np.full((*shape, 3), tasks, np.float32), np.ones(shape, np.int32),
                        np.full(shape, -0.5), np.full(shape[:2], steps, np.int32))
  for joined in by_workers(2, lambda shares: shares.joined(
      2, of(1, *[(2, 5), (4, 3)][shares.own(2)[0]]))):
    assert joined.rewards.shape == (2, 4, 5) and joined.observations.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(joined.lengths, [[5, 5, 0, 0], [3, 3, 3, 3]])
    assert joined.actions.sum() == 10 + 12 and joined.actions.dtype == np.int32
    assert joined.rewards.sum() == -0.5 * 22


def test_groups_go_to_the_devices_in_turn():
  import tensorflow as tf
  seen = on_devices(lambda number: (number, tf.constant(0).device[-5:]), range(5),
                    ['CPU:0', 'CPU:0'])
  assert seen == [(number, 'CPU:0') for number in range(5)]


@pytest.mark.parametrize('tasks, batches', [(5, 2), (4, 4), (2, 3)])
def test_held_out_tasks_in_batches_give_the_same_returns(tasks, batches):
  model = PolicyLearner(Line(), GaussianPolicy(1, 1, (6,)), SETTINGS, seed=1)
  def returns(batches):
    held_out = HeldOutTasks(Line(), drawn=5, num_tasks=tasks, seed=1, rollouts=3,
                            batches=batches)
    return held_out, Evaluator(model, held_out, tasks, 1)().query['return']
  (one, expected), (several, received) = returns(1), returns(batches)
  assert received.shape == (tasks, 2)
  np.testing.assert_allclose(received, expected, rtol=1e-12)
  assert several.fingerprint(tasks) == one.fingerprint(tasks)
  assert several.first(3)[:2] == one.first(3)[:2] and len(one.first(3).tasks) == min(3, tasks)


ARGUMENTS = ['--datasource=point_navigation', '--update_batch_size=3', '--horizon=10',
             '--validation_interval=2', '--num_validation_tasks=5', '--num_test_tasks=5',
             '--test_query_size=3', '--dtype=float64', '--meta_batch_size=4']
# In groups that the tasks of a replica consist of: see `shares`.


@pytest.mark.slow
@pytest.mark.parametrize('given', [
    ['--num_updates=2', '--hessian_every=2', '--tasks_at_once=1'],
    ['--tasks_at_once=1', '--meta_optimizer=adam'],
    ['--tasks_at_once=2', '--method=context_vector', '--rollout_budget=steps']])
def test_logical_devices_train_policies_as_one_does(forks, tmp_path, given):
  arguments = [*ARGUMENTS, *given]
  alone = run_on(forks, tmp_path / 'alone', 1, arguments, 6, interval=2)
  for devices, iterations in ((2, 2), (1, 4), (4, 6)):
    changing = run_on(forks, tmp_path / 'changing', devices, arguments, iterations, interval=2)
  error = largest_difference(alone, changing)
  print(f'2, then 1, then 4 logical devices, {given}: {error:.1e}')
  assert error < 1e-12


OF_PROCESSES = ['--pretrain_iterations=0', '--xla=auto', '--test_num_updates=3', *ARGUMENTS,
                '--tasks_at_once=2']


@pytest.mark.slow
def test_two_processes_train_policies_as_one_does(forks, tmp_path):
  """Their number changes between the starts; who has no disk has no checkpoint either."""
  def run(name, iterations, workers):
    return Run(forks, tmp_path / name, iterations, workers, OF_PROCESSES).done()
  alone = run('alone', 6, 1)
  run('two', 2, 2)
  run('two', 4, 1)
  two = run('two', 6, 2)
  assert 'Resumed at iteration 4 of 6' in two.texts()[1]
  for text in two.texts():
    assert 'Traceback' not in text and 'retracing' not in text
  error = largest_difference(alone, two)
  print(f'2, then 1, then 2 processes: {error:.1e}')
  assert error < 1e-12
  assert not (tmp_path / 'two' / 'disk1').exists()


# Few and short rollouts of MuJoCo's half-cheetah.
CHEETAH = ['--datasource=cheetah_direction', '--horizon=5', '--num_updates=1',
           '--num_validation_tasks=2', '--num_test_tasks=2', '--test_query_size=2',
           '--test_num_updates=1']


@pytest.mark.slow
def test_logical_devices_train_a_cheetah_as_one_does(forks, tmp_path):
  pytest.importorskip('mujoco', reason='mujoco is not installed (extra rl)')
  arguments = [*ARGUMENTS, '--tasks_at_once=2', *CHEETAH]
  alone, two = (run_on(forks, tmp_path / str(devices), devices, arguments, 4, interval=2)
                for devices in (1, 2))
  error = largest_difference(alone, two)
  print(f'a cheetah, 2 logical devices: {error:.1e}')
  assert error < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize('iterations, given', [
    pytest.param(0, ['--baseline=pretrained', '--pretrain_iterations=6'], id='pretrained'),
    pytest.param(4, ['--rollout_budget=steps'], id='steps'),
    pytest.param(4, CHEETAH, id='cheetah')])
def test_two_processes_train_others_as_one_does(forks, tmp_path, iterations, given):
  if given is CHEETAH:
    pytest.importorskip('mujoco', reason='mujoco is not installed (extra rl)')
  given = [*OF_PROCESSES, *given]
  alone, two = (Run(forks, tmp_path / str(workers), iterations, workers, given).done()
                for workers in (1, 2))
  error = largest_difference(alone, two)
  print(f'2 processes, {given}: {error:.1e}')
  assert error < 1e-12


@pytest.mark.slow
def test_a_policy_that_diverges_in_one_process_ends_both(forks, tmp_path):
  run = Run(forks, tmp_path, 6, 2, [
      '--pretrain_iterations=0', '--xla=auto', *ARGUMENTS, '--update_lr=1e300'])
  assert run.codes() == [1, 1], run.texts()
  for text in run.texts():
    assert sum('main.py: ' in line for line in text.splitlines()) == 1, text
