"""Environments of one's own: what works, and what is refused at the start in a sentence."""

from __future__ import annotations

import csv
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from rl_problems import product_threads

import flags
from maml_tf import application
from maml_tf.rl.environments import ContinuousActions, DiscreteActions
from maml_tf.rl.errors import EnvironmentFault
from maml_tf.rl.goal_in_observation import GoalInObservation
from maml_tf.rl.policy import policy_for
from maml_tf.rl.policy_learner import PolicyLearner
from maml_tf.rl.settings import Settings
from maml_tf.rl.streams import stream
from maml_tf.rl.task_streams import Iterations
from maml_tf.rl.trpo import TrustRegion

gymnasium = pytest.importorskip('gymnasium', reason='gymnasium is not installed (extra rl)')
from maml_tf.rl.gymnasium_tasks import GymnasiumTasks  # noqa: E402
from maml_tf.rl.same_tasks import same_task  # noqa: E402

SPACES = gymnasium.spaces
EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'own_environment.py'


class Walk(gymnasium.Env):
  """A walk to a goal, left or right of a random start; the task is the goal."""
  observation_space = SPACES.Box(-np.inf, np.inf, (2,), np.float64)
  action_space = SPACES.Box(-0.5, 0.5, (1,), np.float32)

  def sample_tasks(self, n):
    return list(self.np_random.uniform(-2, 2, n))

  def set_task(self, task):
    self.goal = task

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.position = 0.1 * self.np_random.standard_normal()
    return self._observation(), {}

  def step(self, action):
    self.position += float(action[0])
    distance = abs(self.position - self.goal)
    return self._observation(), -distance, distance < 0.05, False, {}

  def _observation(self):
    return np.array([self.position, 1.0])


class Discrete(Walk):
  """Left, right, or stay; the first action is number 1."""
  action_space = SPACES.Discrete(3, start=1)

  def step(self, action):
    return super().step([0.25 * (action - 2)])


def wrapped(**changes):
  """`Walk` with other methods or spaces."""
  return type('Changed', (Walk,), changes)


def test_episodes_are_those_of_the_environment_by_itself():
  environment = GymnasiumTasks(Walk, horizon=6)
  assert environment.actions == ContinuousActions(1) and environment.observation_size == 2
  tasks = [1.0, -1.5]
  simulation = environment.start(tasks, [stream(0, 0), stream(0, 1)])
  actions = np.random.RandomState(0).normal(size=(6, 2, 1))
  plain = Walk()
  plain.set_task(-1.5)
  first, _ = plain.reset(seed=int(stream(0, 1).integers(2 ** 31)))
  np.testing.assert_array_equal(simulation.observations[1], first)
  for step in range(6):
    rewards, ended = simulation.step(actions[step], np.ones(2, bool))
    # What is sampled is clipped to what the environment allows.
    observation, reward, over, _, _ = plain.step(
        np.clip(actions[step, 1], -0.5, 0.5).astype(np.float32))
    np.testing.assert_array_equal(simulation.observations[1], observation)
    assert (rewards[1], ended[1]) == (reward, over)


def test_an_episode_that_is_over_is_not_stepped():
  steps = []

  def step(self, action):
    steps.append(self.goal)
    return Walk.step(self, action)
  environment = GymnasiumTasks(wrapped(step=step), horizon=6, check=False)
  simulation = environment.start([1.0, 2.0], [stream(0, 0), stream(0, 1)])
  simulation.step(np.zeros((2, 1)), np.array([False, True]))
  assert steps == [2.0]


def test_tasks_depend_on_their_stream_alone():
  environment, other = (GymnasiumTasks(Walk, horizon=6) for _ in range(2))
  tasks = environment.draw_tasks(4, stream(3))
  other.start(tasks, [stream(1, index) for index in range(4)])
  assert other.draw_tasks(4, stream(3)) == tasks != other.draw_tasks(4, stream(4))
  assert environment.test_tasks(4, 1) == other.test_tasks(4, 1) != tasks


def test_tasks_may_come_from_a_generator_that_draws_them_late():
  class Late(Walk):
    def sample_tasks(self, n):
      return (np.random.uniform(-2, 2) for _ in range(n))
  one, other = (GymnasiumTasks(Late, horizon=6) for _ in range(2))
  assert one.test_tasks(3, seed=1) == other.test_tasks(3, seed=1)

  class Broken(Walk):
    def sample_tasks(self, n):
      yield 1.0
      raise RuntimeError('no more')
  with pytest.raises(EnvironmentFault, match=r'sample_tasks\(\) raised RuntimeError: no more'):
    GymnasiumTasks(Broken, horizon=6)


class Unseeded(Walk):
  """Its `reset` seeds nothing, and draws as much as the task says."""

  def reset(self, *, seed=None, options=None):
    self.position = 0.1 * len(self.np_random.random(int(10 + getattr(self, 'goal', 0))))
    return self._observation(), {}


def test_tasks_depend_on_the_seed_alone_whatever_reset_does():
  one, other = (GymnasiumTasks(Unseeded, horizon=6) for _ in range(2))
  expected = one.test_tasks(3, 1)
  assert one.test_tasks(3, 1) == expected == other.test_tasks(3, 1)
  one.start([5.0], [stream(0, 0)])   # which is the task that `reset` finds then
  assert one.test_tasks(3, 1) == expected


@pytest.mark.parametrize('seed', [None, 0])
def test_tasks_of_a_generator_that_no_seed_reaches_are_refused(seed):
  class OwnGenerator(Walk):
    def __init__(self):
      self.random = np.random.default_rng(seed)

    def sample_tasks(self, n):
      return list(self.random.uniform(-2, 2, n))
  with pytest.raises(EnvironmentFault, match='returned other tasks with the same seed'):
    GymnasiumTasks(OwnGenerator, horizon=6)


def test_what_makes_the_same_object_each_time_is_refused():
  one = Walk()
  for make in (lambda: one, lambda: gymnasium.wrappers.TimeLimit(one, 9)):
    with pytest.raises(EnvironmentFault, match='Walk returned the same object twice'):
      GymnasiumTasks(make, horizon=6)
    unchecked = GymnasiumTasks(make, horizon=6, check=False)
    with pytest.raises(EnvironmentFault, match='make a new one in each call'):
      unchecked.start([1.0, 2.0], [stream(0, 0), stream(0, 1)])


def test_what_is_drawn_while_it_is_made_is_noticed():
  def init(self):
    self.mass = np.random.uniform(1, 2)

  def step(self, action):
    return Walk.step(self, action / self.mass)
  with pytest.raises(EnvironmentFault, match=r'actions differ.*draw none in __init__\(\)'):
    GymnasiumTasks(wrapped(__init__=init, step=step), horizon=6)


def test_statistics_of_earlier_episodes_are_named_as_a_cause():
  with pytest.raises(EnvironmentFault, match='one episode to the next, as NormalizeObserv'):
    GymnasiumTasks(lambda: gymnasium.wrappers.NormalizeObservation(Walk()), horizon=6)


def test_what_an_episode_leaves_behind_is_noticed():
  def step(self, action):
    self.age = getattr(self, 'age', 0) + 1
    return Walk.step(self, action * self.age)
  with pytest.raises(EnvironmentFault, match='same task, seed and actions differ'):
    GymnasiumTasks(wrapped(step=step), horizon=6)


def test_tasks_from_numpys_global_generator_can_be_repeated_and_leave_it_alone():
  environment = GymnasiumTasks(wrapped(
      sample_tasks=lambda self, n: list(np.random.uniform(size=n))), horizon=6)
  np.random.seed(4)
  expected = np.random.uniform()
  np.random.seed(4)
  assert environment.draw_tasks(3, stream(3)) == environment.draw_tasks(3, stream(3))
  assert np.random.uniform() == expected


@pytest.mark.parametrize('kind, actions', [(Walk, ContinuousActions(1)),
                                           (Discrete, DiscreteActions(3))])
def test_it_can_be_learned_from(kind, actions):
  environment = GymnasiumTasks(kind, horizon=6)
  assert environment.actions == actions
  settings = Settings(tasks=3, rollouts=4, trust_region=TrustRegion(cg_iterations=3))
  policy = policy_for(environment, hidden_sizes=(6,))
  models = [PolicyLearner(environment, policy, settings) for _ in range(2)]
  returns = []
  for model in models:   # whatever ran in these instances before
    model.compile()
    logs = [model.train_step(Iterations().batch(iteration)) for iteration in range(2)]
    returns.append([float(log['return']) for log in logs])
  assert np.isfinite(returns).all() and returns[0] == returns[1]
  np.testing.assert_array_equal(models[0].theta(), models[1].theta())


def test_wrappers_hide_nothing():
  def make():
    return gymnasium.wrappers.TimeLimit(Walk(), 9)
  environment = GymnasiumTasks(make, horizon=6)
  assert environment.name == 'Walk'
  assert len(environment.draw_tasks(2, stream(0))) == 2


def test_the_horizon_is_the_environments_own_where_it_has_one():
  spec = gymnasium.envs.registration.EnvSpec('Walk-v0', max_episode_steps=7)
  assert GymnasiumTasks(wrapped(spec=spec)).horizon == 7
  with pytest.raises(EnvironmentFault, match='Give a horizon of at least 1. Received: None'):
    GymnasiumTasks(Walk)


def test_observations_of_any_shape_are_flattened():
  kind = wrapped(observation_space=SPACES.Box(-np.inf, np.inf, (2, 1), np.float64),
                 _observation=lambda self: np.array([[self.position], [1.0]]))
  assert GymnasiumTasks(kind, horizon=6).observation_size == 2


def reset_to_another_task(self, *, seed=None, options=None):
  observation = Walk.reset(self, seed=seed)
  self.goal = self.np_random.uniform(-2, 2)
  return observation


def not_repeatable(self, *, seed=None, options=None):
  super(Walk, self).reset(seed=seed)
  self.position = np.random.default_rng().normal()
  return self._observation(), {}


def bad_reward(self, action):
  observation, _, over, cut, info = Walk.step(self, action)
  return observation, np.nan, over, cut, info


def bad_shape(self):
  return np.zeros(3)


@pytest.mark.parametrize('changes, sentence', [
    (dict(set_task=None), 'Changed has no set_task. An environment of tasks is'),
    (dict(set_task=None, sample_tasks=None), 'has no sample_tasks and no set_task'),
    (dict(observation_space=SPACES.Discrete(3)), 'observations of Changed must be a'),
    (dict(observation_space=None), 'observations of Changed must be a .* Received: None'),
    (dict(action_space=SPACES.MultiBinary(2)), 'Box of floats, or Discrete. Received'),
    (dict(action_space=SPACES.Box(0, 3, (1,), np.int64)), 'Box of floats, or Discrete'),
    (dict(reset=reset_to_another_task), 'task of Changed has no effect'),
    (dict(reset=reset_to_another_task, get_task=lambda self: self.goal),
     r'reset\(\) of Changed changes the task'),
    (dict(set_task=lambda self, task: setattr(self, 'goal', 1.0)), 'has no effect'),
    (dict(reset=not_repeatable), 'same task, seed and actions differ'),
    (dict(step=bad_reward), 'not finite: nan'),
    (dict(reset=lambda self, **_: (np.full(2, np.nan), {})), r'not finite: 0.0, \[nan nan\]'),
    (dict(_observation=bad_shape), 'observation of 3 numbers, and its observation_space'),
    (dict(sample_tasks=lambda self, n: [1.0]), r'sample_tasks\(5\) returned 1 tasks'),
    (dict(sample_tasks=lambda self, n: None), 'return a list of 5 tasks. Received: NoneType'),
    (dict(sample_tasks=lambda self, n: 'abcde'), 'return a list of 5 tasks. Received: str')])
def test_what_does_not_fit_is_one_sentence(changes, sentence):
  with pytest.raises(EnvironmentFault, match=sentence):
    GymnasiumTasks(wrapped(**changes), horizon=6)


def broken(*_, **__):
  raise RuntimeError('the motor\nis broken')


BROKEN = r'raised RuntimeError: the motor is broken \(.*test_rl_gymnasium.py, line \d+\)'


@pytest.mark.parametrize('changes, sentence', [
    *((dict([(method, broken)]), rf'^Changed\.?{name}\(\) {BROKEN}')
      for method, name in (('__init__', ''), ('reset', 'reset'), ('step', 'step'),
                           ('set_task', 'set_task'), ('sample_tasks', 'sample_tasks'),
           ('get_task', 'get_task'))),
    (dict(step=lambda self, action: sys.exit('lost')), r'step\(\) raised SystemExit: lost'),
    (dict(reset=lambda self: (None, {})), r'reset\(\) raised TypeError: .*seed'),
    (dict(reset=lambda self, *, seed=None: np.zeros(2)), 'has to return .observation, info'),
    (dict(step=lambda self, action: (np.zeros(2), 0.0, False, {})), 'truncated, info.*of 4'),
    (dict(step=lambda self, action: (np.zeros(2), None, False, False, {})), 'no number: None'),
    (dict(step=lambda self, action: (np.zeros(2), 0.0, np.zeros(2), False, {})),
     'an end that is neither True nor False: ndarray'),
    (dict(_observation=lambda self: 'here'), 'no array of numbers: str'),
    (dict(horizon='6'), "at least 1. Received: '6'"), (dict(horizon=6.5), 'Received: 6.5'),
    (dict(horizon=np.inf), 'how long .* Received: inf'),
    (dict(horizon=np.nan), 'Received: nan')],
    ids=lambda value: value if isinstance(value, str) else '-'.join(value))
def test_what_its_own_code_does_wrong_is_one_sentence(changes, sentence):
  with pytest.raises(EnvironmentFault, match=sentence):
    GymnasiumTasks(wrapped(**{'horizon': 6, **changes}))


def test_what_breaks_later_is_one_sentence_too():
  environment = GymnasiumTasks(Walk, horizon=6)
  simulation = environment.start([1.0], [stream(0, 0)])
  environment.instances(1)[0].step = broken
  with pytest.raises(EnvironmentFault, match=BROKEN):
    simulation.step(np.zeros([1, 1]), np.ones(1, bool))


def sampled(environment, tasks, steps=6):
  """All that comes out of episodes with given actions."""
  simulation = environment.start(tasks, [stream(0, index) for index in range(len(tasks))])
  actions = np.random.RandomState(0).normal(size=(steps, len(tasks), 1))
  running = np.ones(len(tasks), bool)
  seen = [simulation.observations.copy()]
  for step in range(steps):
    rewards, ended = simulation.step(actions[step], running)
    running = running & ~ended
    seen += [simulation.observations.copy(), rewards, ended]
  return seen


class Short(Walk):
  """Over as soon as it is half a step away from the goal."""

  def step(self, action):
    observation, reward, *_ = super().step(action)
    return observation, reward, reward > -0.25, False, {}


@pytest.mark.parametrize('episodes', [5, 1])
def test_several_processes_make_the_same_bits(episodes):
  environments = [GymnasiumTasks(Short, horizon=6, processes=count) for count in (1, 3)]
  tasks = [0.1, 1.0, -1.5, 0.6, -0.1][:episodes]
  for _ in range(2):
    one, several = (sampled(environment, tasks) for environment in environments)
    for expected, received in zip(one, several):
      np.testing.assert_array_equal(received, expected)
      assert received.dtype == expected.dtype
  ended = sum(ended.sum() for ended in one[3::3])
  assert 0 < ended < 5 or episodes == 1   # those are not stepped on


class Threaded(Walk):
  """Its position is the most threads in which a library of NumPy's computes products."""

  def _observation(self):
    return np.array([max(product_threads()), 1.0])


def test_processes_compute_products_in_one_thread_as_sampling_does():
  if not product_threads() or os.cpu_count() < 2:
    pytest.skip("There is one core, or the threads of NumPy's library cannot be told.")
  environment = GymnasiumTasks(Threaded, horizon=6, processes=2, check=False)
  assert (sampled(environment, [0.1, 1.0], steps=1)[0][:, 0] == 1).all()


@pytest.mark.parametrize('seen_as', [lambda environment: environment, GoalInObservation])
def test_a_budget_of_steps_makes_no_more_instances_than_the_first_rollouts(seen_as):
  environment = GymnasiumTasks(Short, horizon=60, check=False)
  acted_in = seen_as(environment)
  model = PolicyLearner(acted_in, policy_for(acted_in, hidden_sizes=(6,)), Settings())
  found = model.learning.sampler.sample(
      np.tile(model.theta(), (3, 1)), [0.1, 0.5, 3.0], 2, (0,), budget='steps')
  assert np.count_nonzero(found.lengths, axis=1)[0] > 4 and found.lengths.sum(1).min() >= 120
  assert len(environment._instances) == 6


class _Own(Walk):
  """Its tasks are of a class that is in no module."""

  def sample_tasks(self, n):
    kind = type('Goal', (), {'__eq__': lambda self, other: self.at == other.at})
    goals = [kind() for _ in range(n)]
    for goal, at in zip(goals, super().sample_tasks(n)):
      goal.at = at
    return goals

  def set_task(self, task):
    self.goal = task.at


def test_tasks_of_any_kind_reach_the_processes():
  environment = GymnasiumTasks(_Own, horizon=6, processes=2)
  tasks = environment.draw_tasks(2, stream(0))
  expected = sampled(GymnasiumTasks(Walk, horizon=6), [task.at for task in tasks])
  np.testing.assert_array_equal(sampled(environment, tasks)[-3], expected[-3])


def test_what_is_wrong_in_a_process_is_the_same_sentence(capfd):
  class Late(Walk):
    def step(self, action):
      if self.goal == 5.0:
        raise ValueError('five')
      return super().step(action)
  environment = GymnasiumTasks(Late, horizon=6, processes=2)
  with pytest.raises(EnvironmentFault, match=r'Late.step\(\) raised ValueError: five \('):
    sampled(environment, [1.0, 5.0])
  assert len(sampled(environment, [1.0, 2.0])) == 19   # and goes on
  assert capfd.readouterr().err == ''


def test_a_process_that_is_killed_is_one_sentence():
  environment = GymnasiumTasks(Walk, horizon=6, processes=2)
  simulation = environment.start([1.0, 2.0], [stream(0, 0), stream(0, 1)])
  environment._processes._blocks.processes[1].kill()
  with pytest.raises(EnvironmentFault, match='A process that steps Walk has ended .*killed'):
    for _ in range(3):
      simulation.step(np.zeros((2, 1)), np.ones(2, bool))
  assert len(sampled(environment, [1.0, 2.0])) == 19   # in new ones


def test_signals_to_all_leave_the_processes_to_the_run():
  environment = GymnasiumTasks(Walk, horizon=6, processes=2)
  sampled(environment, [1.0, 2.0])
  processes = environment._processes._blocks.processes
  for process in processes:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
      os.kill(process.pid, number)
  assert len(sampled(environment, [1.0, 2.0])) == 19
  assert environment._processes._blocks.processes is processes
  del environment   # and them
  gc.collect()
  for process in processes:
    process.join(20)
    assert process.exitcode == -signal.SIGKILL


def test_a_program_ends_with_its_processes(tmp_path):
  (tmp_path / 'script.py').write_text(
      'import numpy as np\n'
      'from maml_tf.rl.gymnasium_tasks import GymnasiumTasks\n'
      'from maml_tf.rl.streams import stream\n'
      f'import sys; sys.path.append({str(EXAMPLE.parent)!r})\n'
      'from own_environment import Thermostat\n'
      "if __name__ == '__main__':\n"
      '  environment = GymnasiumTasks(Thermostat, horizon=6, processes=2, check=False)\n'
      '  tasks = environment.test_tasks(2, 1)\n'
      '  environment.start(tasks, [stream(0, 0), stream(0, 1)])\n'
      "  print('begun')\n", encoding='utf-8')
  found = subprocess.run([sys.executable, str(tmp_path / 'script.py')], timeout=600,
                         env={**os.environ, 'PYTHONPATH': str(EXAMPLE.parents[1])},
                         capture_output=True, text=True, check=False)
  assert (found.returncode, found.stdout, found.stderr) == (0, 'begun\n', '')


def test_tasks_that_cannot_be_sent_to_a_process_are_one_sentence():
  environment = GymnasiumTasks(_Own, horizon=6, processes=2)
  tasks = environment.draw_tasks(2, stream(0))
  tasks[1].guard = threading.Lock()
  with pytest.raises(EnvironmentFault, match='The tasks of _Own cannot be sent to .*lock'):
    sampled(environment, tasks)
  assert len(sampled(environment, environment.draw_tasks(2, stream(0)))) == 19   # in new ones


class Moving(Walk):
  """The goal moves: `set_task` keeps what it was given, and steps write into it."""
  last = False   # whether it only does in a later task

  def set_task(self, task):
    self.task = task
    self.at = {np.ndarray: lambda: task, dict: lambda: task['at'], list: lambda: task[0]
               }.get(type(task), lambda: task.at)()

  def step(self, action):
    if not self.last or self.at[0] >= 1:
      self.at += 0.1
    self.goal = self.at[0]
    return super().step(action)


@pytest.mark.parametrize('made', [np.copy, lambda at: dict(at=at), lambda at: [at]])
def test_an_episode_may_write_into_the_arrays_of_its_task(made):
  kind = type('Own', (Moving,), dict(
      sample_tasks=lambda self, n: [made(np.array([at])) for at in np.arange(n) + 0.0]))
  environment = GymnasiumTasks(kind, horizon=6)
  task = environment.draw_tasks(3, stream(0))[2]
  for values, again in zip(sampled(environment, [task]), sampled(environment, [task])):
    np.testing.assert_array_equal(values, again)
  assert same_task(task, made(np.array([2.0])))


@pytest.mark.parametrize('last', [False, True])
def test_a_task_that_changes_in_an_episode_is_named_as_a_cause(last):
  def tasks(self, n):
    return [types.SimpleNamespace(at=np.array([at])) for at in np.arange(n) + 0.0]
  with pytest.raises(EnvironmentFault, match=r'has to be copied in set_task\(\)'):
    GymnasiumTasks(type('Own', (Moving,), dict(sample_tasks=tasks, last=last)), horizon=6)


def test_what_cannot_be_sent_to_a_process_is_one_sentence():
  lock = threading.Lock()

  class Locked(Walk):
    guard = lock
  environment = GymnasiumTasks(Locked, horizon=6, processes=2)
  with pytest.raises(EnvironmentFault, match='Locked cannot be sent to another proc.*lock'):
    environment.start([1.0], [stream(0, 0)])
  with pytest.raises(EnvironmentFault, match='processes=0 is not allowed'):
    GymnasiumTasks(Walk, horizon=6, processes=0)


def test_what_makes_none_is_refused():
  with pytest.raises(EnvironmentFault, match='class, or a function.*Received: int 3'):
    GymnasiumTasks(3, horizon=6)
  with pytest.raises(EnvironmentFault, match=r'Sized\(\) needs size, and is called without'):
    GymnasiumTasks(type('Sized', (Walk,), {'__init__': lambda self, size: None}), horizon=6)


class Sparse(Walk):
  """A reward as far out as the task says, and nothing before."""

  def sample_tasks(self, n):
    return list(self.np_random.uniform(3, 4, n))

  def step(self, action):
    observation, *_ = super().step(action)
    return observation, float(abs(self.position) > self.goal), False, False, {}


@pytest.mark.parametrize('horizon, is_met', [(6, False), (200, True)])
def test_a_task_of_sparse_rewards_is_looked_for_in_whole_episodes(horizon, is_met):
  if is_met:
    GymnasiumTasks(Sparse, horizon=horizon)
  else:
    with pytest.raises(EnvironmentFault, match=r'has no effect.*add get_task\(\)'):
      GymnasiumTasks(Sparse, horizon=horizon)


def test_an_environment_that_says_its_task_may_have_sparse_rewards():
  class Telling(Sparse):
    def get_task(self):
      return self.goal
  assert GymnasiumTasks(Telling, horizon=6).horizon == 6


def test_an_environment_that_cannot_be_reset_without_a_task():
  class Aimed(Walk):
    def _observation(self):
      return np.array([self.position, self.goal])
  one, other = (GymnasiumTasks(Aimed, horizon=6) for _ in range(2))
  assert one.test_tasks(3, seed=1) == other.test_tasks(3, seed=1)


def test_an_array_that_an_environment_writes_into_is_copied():
  class Same(Walk):
    buffer = np.zeros(2)

    def _observation(self):
      self.buffer[:] = self.position, 1.0
      return self.buffer
  environment = GymnasiumTasks(Same, horizon=6)
  first = environment.begun(environment.instances(1)[0], 1.0, seed=0)
  before = first.copy()
  environment.stepped(environment.instances(1)[0], np.ones(1))
  np.testing.assert_array_equal(first, before)


def test_tasks_may_be_anything():
  class Object(Walk):
    def sample_tasks(self, n):
      return [{'goal': np.array([value]), 'name': 'x'} for value in super().sample_tasks(n)]

    def set_task(self, task):
      self.goal = float(task['goal'][0])

    def get_task(self):
      return {'goal': np.array([self.goal]), 'name': 'x'}
  assert GymnasiumTasks(Object, horizon=6).draw_tasks(1, stream(0))[0]['name'] == 'x'


def test_a_task_may_be_stored_in_single_precision():
  class Single(Walk):
    def set_task(self, task):
      self.goal = np.float32(task)

    def get_task(self):
      return self.goal
  assert GymnasiumTasks(Single, horizon=6).horizon == 6


PAIR = np.array([1.0, 2.0])
RAGGED = np.array([PAIR, None], object)


@pytest.mark.parametrize('first, second, same', [
    (PAIR, PAIR.copy(), True), (PAIR, np.array([1.0, 3.0]), False),
    (PAIR, np.arange(3.0), False), (np.ones(2), np.ones(1), False),
    (np.zeros(0), np.ones(1), False), (PAIR, [1.0, 2.0], True), (PAIR, [1.0, 2, 3], False),
    (1.0, np.array([1.0]), True), ((PAIR, 3.0), [PAIR, 3.0], True),
    ((PAIR, 3.0), (np.arange(3.0), 3.0), False), (RAGGED, RAGGED.copy(), True),
    (RAGGED, np.array([np.arange(3.0), None], object), False), ({'a': PAIR}, PAIR, False),
    (0.1, np.float32(0.1), True), (0.1, np.float32(0.2), False), (0.1, 0.1 + 1e-12, False),
    (PAIR / 3, (PAIR / 3).astype(np.float32), True), ([0.1], np.float32([0.1]), True),
    (type('Own', (), {'__eq__': lambda self, other: 1 / 0})(), 1.0, False)])
def test_tasks_of_any_kind_are_compared(first, second, same):
  assert same_task(first, second) is same


def test_tasks_of_several_lengths_may_be_drawn():
  class Ragged(Walk):
    def sample_tasks(self, n):
      goals = super().sample_tasks(n)
      return [np.full(1 + index % 3, goal) for index, goal in enumerate(goals)]

    def set_task(self, task):
      self.goal = float(task[0])
  assert len(GymnasiumTasks(Ragged, horizon=6).draw_tasks(4, stream(0))) == 4


class Shaped(Walk):
  """Its actions are a matrix, within other bounds in each place."""
  action_space = SPACES.Box(np.array([[-0.5], [0.0]], np.float32),
                            np.array([[0.5], [0.01]], np.float32))

  def step(self, action):
    return super().step(action[0])


@pytest.mark.parametrize('kind', [Walk, Discrete, Shaped])
def test_an_adapted_policy_acts_as_in_training(kind):
  seen = []

  class Noting(kind):
    def step(self, action):
      seen.append(action)
      return super().step(action)
  environment = GymnasiumTasks(Noting, horizon=6, check=False)
  model = PolicyLearner(environment, policy_for(environment, hidden_sizes=(6,)), Settings())
  adapted = model.adapt(1.0, rollouts=1, num_updates=0)
  random, taken, simulation = np.random.default_rng(0), [], environment.start(
      [1.0], [stream(0, 0)])
  for _ in range(20):
    copied = np.random.default_rng(0)
    copied.bit_generator.state = random.bit_generator.state
    observation = simulation.observations[0]
    taken.append(adapted.act(observation, random))
    simulation.step(adapted.chosen(observation, copied)[np.newaxis], np.ones(1, bool))
  assert len(seen) == len(taken) == 20
  for action, stepped in zip([*taken, adapted.act(np.zeros(2))], [*seen, None]):
    assert environment_has(kind, action)
    assert stepped is None or (np.array_equal(action, stepped)
                               and type(action) is type(stepped))
  assert len({str(action) for action in taken}) > 1


def environment_has(kind, action):
  space = kind.action_space
  return space.contains(action) and getattr(action, 'dtype', np.int64) == space.dtype


SMALL = ('--datasource=gym', '--meta_batch_size=2', '--update_batch_size=3',
         '--test_query_size=2', '--num_test_tasks=3', '--cg_iterations=2', '--horizon=9',
         '--metatrain_iterations=2', '--num_validation_tasks=2')


def test_the_example_is_trained_and_tested_by_the_flags(tmp_path, capsys):
  config = flags.parse(['main.py', *SMALL, f'--env={EXAMPLE}:Thermostat',
                        f'--logdir={tmp_path}'])
  assert application.run(config) == 0
  out = capsys.readouterr().out
  assert '.Thermostat.horizon9' in out and 'Test: 3 tasks' in out
  line = next(line for line in out.splitlines() if line.startswith('3 '))
  assert -20 < float(line.split()[1]) < 0
  assert len(EXAMPLE.read_text().splitlines()) <= 45


def test_an_oracle_of_the_example_is_trained_and_tested(tmp_path, capsys):
  config = flags.parse(['main.py', *SMALL, f'--env={EXAMPLE}:Thermostat',
                        '--baseline=oracle', '--metatrain_iterations=0',
                        '--pretrain_iterations=1', f'--logdir={tmp_path}'])
  assert application.run(config) == 0
  assert 'Test: 3 tasks' in capsys.readouterr().out


def test_an_oracle_of_tasks_that_it_cannot_see_is_one_sentence(tmp_path, capsys):
  (tmp_path / 'mine.py').write_text(
      f'import sys\nsys.path.append({str(EXAMPLE.parent)!r})\n'
      'from own_environment import Thermostat\n'
      'class Mine(Thermostat):\n'
      '  sample_tasks = lambda self, n: [([1.0], w) for w in super().sample_tasks(n)]\n'
      '  set_task = lambda self, task: super().set_task(task[1])\n'.replace(
          'super()', 'super(Mine, self)'), encoding='utf-8')
  config = flags.parse(['main.py', *SMALL, f'--env={tmp_path}/mine.py:Mine',
                        '--baseline=oracle', '--metatrain_iterations=0',
                        '--pretrain_iterations=1', f'--logdir={tmp_path}/logs'])
  assert application.run(config) == 2
  error = capsys.readouterr().err
  assert 'An oracle needs tasks that are numbers' in error and error.count('\n') == 1


def test_the_number_of_processes_changes_nothing(tmp_path):
  """Of an environment that is in a file, which each process loads."""
  def rows(processes):
    config = flags.parse(['main.py', *SMALL, f'--env={EXAMPLE}:Thermostat',
                          f'--simulation_processes={processes}', '--validation_interval=1',
                          f'--logdir={tmp_path / str(processes)}'])
    assert application.run(config) == 0
    (history,) = (tmp_path / str(processes)).rglob('history.csv')
    with open(history, encoding='utf-8') as file:
      return [[row['return'], row['kl'], row['val_return_1']] for row in csv.DictReader(file)]
  one, several = rows(1), rows(2)
  assert one == several and len(one) == 2


def test_an_environment_says_its_horizon_itself():
  class Long(Walk):
    horizon = 31
  assert GymnasiumTasks(Long).horizon == 31
  assert GymnasiumTasks(Long, horizon=4).horizon == 4


@pytest.mark.parametrize('body, sentence', [
    ('pass', 'has no sample_tasks and no set_task'),
    ('horizon = 3\n  sample_tasks = lambda self, n: [0.5] * n\n'
     '  set_task = lambda self, task: None\n'
     '  reset = lambda self, seed=None, options=None: (np.zeros(2), {})\n'
     '  step = lambda self, action: (np.zeros(2), float("nan"), False, False, {})',
     'a reward or an observation that is not finite')])
def test_one_that_cannot_be_used_is_one_sentence(tmp_path, capsys, body, sentence):
  (tmp_path / 'mine.py').write_text(
      'import gymnasium\nimport numpy as np\nBox = gymnasium.spaces.Box\n'
      'class Mine(gymnasium.Env):\n'
      '  observation_space = Box(-1, 1, (2,))\n  action_space = Box(-1, 1, (1,))\n'
      f'  {body}\n', encoding='utf-8')
  config = flags.parse(['main.py', '--datasource=gym', f'--env={tmp_path}/mine.py:Mine',
                        f'--logdir={tmp_path}/logs'])
  assert application.run(config) == 1
  error = capsys.readouterr().err
  assert sentence in error and error.startswith('main.py: Mine ') and error.count('\n') == 1
