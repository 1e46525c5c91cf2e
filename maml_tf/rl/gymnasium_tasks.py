"""One's own environment: a `gymnasium.Env` with `sample_tasks(n)` and `set_task(task)`.

The convention of RLlib's meta environments and of Meta-World. A task is whatever the
environment takes it to be. Example:

  environment = GymnasiumTasks(lambda: MyEnv(), horizon=100)
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import numbers
import random as standard_random
import traceback
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from maml_tf.errors import UserError
from maml_tf.measures import counted
from maml_tf.rl.environments import (
  Actions,
  ContinuousActions,
  DiscreteActions,
  Environment,
  Simulation,
)
from maml_tf.rl.errors import EnvironmentFault, MissingLibrary
from maml_tf.rl.gymnasium_processes import Begin, EpisodeProcesses
from maml_tf.rl.streams import CHECKS, stream

INSTALL = "pip install 'gymnasium>=1.0'"
METHODS = ('sample_tasks', 'set_task')
CHECKED_TASKS, CHECKED_STEPS = 5, 20
# What seeds may be: gymnasium wants a non-negative int, NumPy's old generators 32 bits.
SEEDS = 2 ** 31

_Episode = List[Tuple[np.ndarray, float]]   # observations, and rewards before them


class GymnasiumTasks(Environment):
  """A distribution of tasks that a `gymnasium.Env` defines.

  Every rollout has an instance of its own, so that only episodes that go on are stepped.
  Where an episode starts with `reset(seed=...)`, its seed depends on the run's and the
  rollout alone: what is random in the environment has to come from `self.np_random`.

  Args:
    make: makes an instance.
    horizon: most steps of an episode; None: `env.spec.max_episode_steps`, or else the
      environment's own attribute `horizon`.
    name: for messages; None: the class's.
    check: try a few episodes of a few tasks first.
    processes: that step the rollouts, `gymnasium.vector.AsyncVectorEnv`'s; 1: this one.
      The results are the same.
    load: gives another process what `make` is here; None: it is pickled.

  Raises:
    EnvironmentFault: when the environment does not do what it has to.
    MissingLibrary: when gymnasium is not installed.
  """

  keeps_instances = True

  def __init__(self, make: Callable[[], Any], horizon: Optional[int] = None,
               name: Optional[str] = None, check: bool = True, processes: int = 1,
               load: Optional[Callable[[], Callable[[], Any]]] = None):
    self.name = name or getattr(make, '__name__', 'The environment')
    self._make = make
    first = self._made()
    self.name = name or type(_innermost(first)).__name__
    self._check_methods(first)
    self._instances: List[Any] = [first]
    self.horizon = self._horizon(first, horizon)
    self.observation_size = self._observation_size(first)
    self.actions, self._bounds = self._actions(first)
    if processes < 1:
      raise EnvironmentFault(f'processes={processes} is not allowed: it must be 1 or more.')
    self._processes = None if processes == 1 else EpisodeProcesses(
        functools.partial(_loaded, load or (lambda: make), horizon, name), processes,
        self.name)
    if check:
      self._check_tasks()

  def draw_tasks(self, count: int, random: np.random.Generator) -> Sequence:
    return self._drawn(count, int(random.integers(SEEDS)))

  def test_tasks(self, count: int, seed: int) -> Sequence:
    """Drawn by a seed of their own; whether they occur in training, too, is up to
    `sample_tasks`."""
    return self._drawn(count, int(stream(seed, CHECKS).integers(SEEDS)))

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    seeds = [int(random.integers(SEEDS)) for random in randoms]
    begin = self.begin if self._processes is None else self._processes.start
    return begin(tasks, seeds)

  def begin(self, tasks: Sequence, seeds: Sequence[int]) -> Simulation:
    """Episodes in this process."""
    self._have_instances(len(tasks))
    return _Episodes(self, self._instances[:len(tasks)], tasks, seeds)

  def action(self, chosen: np.ndarray) -> Any:
    """What the environment gets of an action of the policy."""
    if isinstance(self.actions, DiscreteActions):
      return int(chosen) + self._bounds
    low, high, dtype, shape = self._bounds
    return np.clip(chosen, low, high).astype(dtype).reshape(shape)

  def begun(self, instance: Any, task: Any, seed: int) -> np.ndarray:
    """Sets a task and resets: the first observation, flat."""
    self._call('set_task', _method(instance, 'set_task'), _copied(task))
    returned = self._call('reset', instance.reset, seed=seed)
    if not isinstance(returned, tuple) or len(returned) != 2:
      raise EnvironmentFault(f'{self.name}.reset() has to return (observation, info), as in '
                             f'gymnasium. Received: {_short(returned)}.')
    return self._flat(returned[0])

  def stepped(self, instance: Any, chosen: np.ndarray) -> Tuple[np.ndarray, float, bool]:
    """Observation, reward, and whether the episode is over."""
    returned = self._call('step', instance.step, self.action(chosen))
    if not isinstance(returned, tuple) or len(returned) != 5:
      raise EnvironmentFault(f'{self.name}.step() has to return (observation, reward, '
                             'terminated, truncated, info), as in gymnasium. Received: '
                             f'{_short(returned)}.')
    observation, reward, terminated, truncated, _ = returned
    reward = self._as(float, reward, 'a reward that is no number')
    ends = [self._as(bool, value, 'an end that is neither True nor False')
            for value in (terminated, truncated)]
    return self._flat(observation), reward, any(ends)

  def _have_instances(self, count: int) -> None:
    first = _innermost(self._instances[0])
    while len(self._instances) < count:
      another = self._made()
      if _innermost(another) is first:
        raise EnvironmentFault(
            f'What makes {self.name} returned the same object twice, and every rollout needs '
            'one of its own: make a new one in each call, def make(): return MyEnv(...).')
      self._instances.append(another)

  def _made(self) -> Any:
    if not callable(self._make):
      raise EnvironmentFault('An environment has to be a class, or a function that makes '
                             f'one. Received: {_short(self._make)}.')
    missing = _required_arguments(self._make)
    if missing:
      raise EnvironmentFault(
          f'{self.name}() needs {", ".join(missing)}, and is called without. Give a function '
          'that makes one: def make(): return MyEnv(...).')
    return self._call('', self._make)

  def _call(self, method: str, function: Callable, *arguments: Any, **kwargs: Any) -> Any:
    """What the environment's own code returns; what it raises is named, with its place."""
    try:
      return function(*arguments, **kwargs)
    except UserError:
      raise
    except (Exception, SystemExit) as error:   # whatever is wrong with a user's code
      last = traceback.extract_tb(error.__traceback__)[-1]
      text = ' '.join(str(error).split())
      raise EnvironmentFault(
          f'{self.name}{"." * bool(method)}{method}() raised {type(error).__name__}'
          f'{": " * bool(text)}{text} ({last.filename}, line {last.lineno}): mend the '
          'environment.') from error

  def _as(self, kind: Callable[[Any], Any], value: Any, wrong: str) -> Any:
    try:
      return kind(value)
    except (TypeError, ValueError) as error:
      raise EnvironmentFault(f'{self.name}.step() returned {wrong}: {_short(value)}.'
                             ) from error

  def _flat(self, observation: Any) -> np.ndarray:
    try:   # a copy, since an environment may write into its array
      flat = np.array(observation, np.float64).ravel()
    except (TypeError, ValueError) as error:
      raise EnvironmentFault(f'{self.name} returned an observation that is no array of '
                             f'numbers: {_short(observation)}.') from error
    if flat.size != self.observation_size:
      raise EnvironmentFault(
          f'{self.name} returned an observation of {flat.size} numbers, and its '
          f'observation_space says {self.observation_size}.')
    return flat

  def _drawn(self, count: int, seed: int) -> Sequence:
    instance = self._instances[0]
    with _global_seeds(seed):
      with contextlib.suppress(Exception):   # of one that cannot without a task; or else
        instance.reset(seed=seed)            # `begun` says it
      # After all that `reset` drew, as it did for the task that was set last.
      self._seed(instance, seed)
      returned = self._call('sample_tasks', _method(instance, 'sample_tasks'), count)
      if not isinstance(returned, Iterable) or isinstance(returned, (str, Mapping)):
        raise EnvironmentFault(f'{self.name}.sample_tasks({count}) has to return a list of '
                               f'{counted(count, "task")}. Received: {_short(returned)}.')
      tasks = self._call('sample_tasks', list, returned)   # of a generator, which draws now
    if len(tasks) != count:
      raise EnvironmentFault(f'{self.name}.sample_tasks({count}) returned {len(tasks)} '
                             f'tasks. It has to return a list of {count}.')
    return tasks

  def _seed(self, instance: Any, seed: int) -> None:
    from gymnasium.utils import seeding
    _innermost(instance).np_random = seeding.np_random(seed)[0]

  def _check_methods(self, instance: Any) -> None:
    missing = [name for name in METHODS if _method(instance, name) is None]
    if missing:
      raise EnvironmentFault(
          f'{self.name} has no {" and no ".join(missing)}. An environment of tasks is a '
          'gymnasium.Env with sample_tasks(n), a list of n tasks, and set_task(task).')

  def _horizon(self, instance: Any, horizon: Optional[int]) -> int:
    if horizon is None:
      horizon = getattr(getattr(instance, 'spec', None), 'max_episode_steps', None)
    if horizon is None:
      horizon = getattr(_innermost(instance), 'horizon', None)
    finite = isinstance(horizon, numbers.Real) and 1 <= horizon < math.inf   # no NaN either
    if not finite or horizon != int(horizon):
      raise EnvironmentFault(f'{self.name} does not say how long an episode may be. Give a '
                             f'horizon of at least 1. Received: {horizon!r}.')
    return int(horizon)

  def _observation_size(self, instance: Any) -> int:
    spaces, space = _spaces(), getattr(instance, 'observation_space', None)
    if not isinstance(space, spaces.Box):
      raise EnvironmentFault(f'The observations of {self.name} must be a '
                             f'gymnasium.spaces.Box. Received: {space}. '
                             'gymnasium.wrappers.FlattenObservation makes one.')
    return int(np.prod(space.shape))

  def _actions(self, instance: Any) -> Tuple[Actions, Any]:
    spaces, space = _spaces(), getattr(instance, 'action_space', None)
    if isinstance(space, spaces.Discrete):
      return DiscreteActions(int(space.n)), int(space.start)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
      return (ContinuousActions(int(np.prod(space.shape))),
              (space.low.ravel(), space.high.ravel(), space.dtype, space.shape))
    raise EnvironmentFault(f'The actions of {self.name} must be a gymnasium.spaces.Box of '
                           f'floats, or Discrete. Received: {space}.')

  def _check_tasks(self) -> None:
    """A few episodes of a few tasks: finite, repeatable, and of the task that was set."""
    tasks = self._drawn(CHECKED_TASKS, 0)
    episodes = [self._checked_episode(task) for task in tasks]
    self._check_repetition(tasks, episodes[0])
    different = any(not _same_task(task, tasks[0]) for task in tasks[1:])
    if different and _all_same(episodes) and not self._says_its_task():
      self._check_whole_episodes(tasks)

  def _check_repetition(self, tasks: Sequence[Any], episode: _Episode) -> None:
    """In an instance that other tasks ran in, and in a new one; then of the tasks."""
    self._have_instances(2)
    if not _all_same([episode, *(self._checked_episode(tasks[0], instance=instance)
                                 for instance in self._instances[:2])]):
      raise EnvironmentFault(
          f'Two episodes of {self.name} with the same task, seed and actions differ, so no '
          'run could be repeated. Take random numbers from self.np_random alone, which '
          'reset(seed=...) seeds, draw none in __init__(), keep nothing from one episode to '
          'the next, as NormalizeObservation does, and leave the task as it is: one that '
          'changes in an episode has to be copied in set_task().')
    # Here, since it comes with TensorFlow, which the processes of episodes need not import.
    from maml_tf.rl.task_streams import as_bytes
    again = self._drawn(len(tasks), 0)
    if [*map(as_bytes, again)] != [*map(as_bytes, tasks)]:
      raise EnvironmentFault(
          f'{self.name}.sample_tasks({len(tasks)}) returned other tasks with the same seed, '
          'so no run could be repeated. Take random numbers from self.np_random, which is '
          'seeded before each call; a task that changes in an episode has to be copied in '
          'set_task().')

  def _says_its_task(self) -> bool:
    """Whether `get_task` says which one it is, which `_check_task` compares."""
    return _method(self._instances[0], 'get_task') is not None

  def _check_whole_episodes(self, tasks: Sequence[Any]) -> None:
    """Whether they differ at last, as those of sparse rewards may."""
    if _all_same([self._checked_episode(task, self.horizon) for task in tasks]):
      raise EnvironmentFault(
          f'The task of {self.name} has no effect: episodes of {len(tasks)} tasks with the '
          'same seed and actions are equal. reset() must not choose another task than '
          'set_task(task) did. Where random actions hardly ever meet what a task changes '
          '(sparse rewards), add get_task(), which returns the task that is set: it is '
          'compared instead.')

  def _checked_episode(self, task: Any, steps: int = CHECKED_STEPS,
                       instance: Optional[Any] = None) -> _Episode:
    instance = self._instances[0] if instance is None else instance
    random = stream(0, CHECKS)
    seen = [(self.begun(instance, task, seed=0), 0.0)]
    self._check_task(instance, task)
    for _ in range(min(steps, self.horizon)):
      observation, reward, over = self.stepped(instance, self._random_action(random))
      seen.append((observation, reward))
      if not np.isfinite(reward) or not np.isfinite(observation).all():
        raise EnvironmentFault(
            f'{self.name} returned a reward or an observation that is not finite: {reward}, '
            f'{observation}. Correct the environment, or let it end the episode before that.')
      if over:
        break
    return seen

  def _check_task(self, instance: Any, task: Any) -> None:
    if not self._says_its_task():
      return
    said = self._call('get_task', _method(instance, 'get_task'))
    if not _same_task(said, task):
      raise EnvironmentFault(
          f'reset() of {self.name} changes the task: {_short(task)} was set, and get_task() '
          f'says {_short(said)}. reset() must not choose another task than set_task(task) '
          'did.')

  def _random_action(self, random: np.random.Generator) -> np.ndarray:
    if isinstance(self.actions, DiscreteActions):
      return random.integers(self.actions.count)
    return random.standard_normal(self.actions.size)


class _Episodes(Simulation):

  def __init__(self, environment: GymnasiumTasks, instances: Sequence[Any],
               tasks: Sequence, seeds: Sequence[int]):
    self._environment = environment
    self._instances = instances
    self.observations = np.array([
        environment.begun(instance, task, seed)
        for instance, task, seed in zip(instances, tasks, seeds)
    ]).reshape(len(tasks), environment.observation_size)   # of none, too

  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    rewards, ended = np.zeros(len(running)), np.zeros(len(running), bool)
    for index in np.flatnonzero(running):
      self.observations[index], rewards[index], ended[index] = self._environment.stepped(
          self._instances[index], actions[index])
    return rewards, ended


def _loaded(load: Callable[[], Callable[[], Any]], horizon: Optional[int],
            name: Optional[str]) -> Begin:
  """What begins episodes in another process: what `load` imports is imported at once, and
  an environment is made with the first episode."""
  make = load()
  environment = functools.cache(lambda: GymnasiumTasks(make, horizon, name, check=False))
  return lambda tasks, seeds: environment().begin(tasks, seeds)


def _copied(task: Any) -> Any:
  """With arrays of its own, since an environment may write into them, and all rollouts of a
  task share it. What is of a user's class stays the same object."""
  if isinstance(task, np.ndarray):
    return task.copy()
  if type(task) is dict:
    return {name: _copied(value) for name, value in task.items()}
  return type(task)(map(_copied, task)) if type(task) in (list, tuple) else task


def _required_arguments(function: Callable) -> List[str]:
  """Names of those without a default; none where Python cannot say."""
  try:
    parameters = inspect.signature(function).parameters.values()
  except (TypeError, ValueError):
    return []
  return [parameter.name for parameter in parameters
          if parameter.default is parameter.empty
          and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]


def _short(value: Any) -> str:
  """For a message."""
  of_how_many = f' of {len(value)}' if isinstance(value, tuple) else ''
  return f'{type(value).__name__}{of_how_many} {" ".join(repr(value).split())[:80]}'


def _innermost(instance: Any) -> Any:
  """The environment itself, without its wrappers."""
  return getattr(instance, 'unwrapped', instance)


def _method(instance: Any, name: str) -> Optional[Callable]:
  """Of the environment, or of what its wrappers wrap; None: there is none."""
  found = getattr(instance, name, None)
  if found is None:
    found = getattr(getattr(instance, 'unwrapped', None), name, None)
  return found if callable(found) else None


def _spaces():
  try:
    from gymnasium import spaces
  except ImportError as error:
    raise MissingLibrary(f'An environment of one\'s own needs gymnasium, which is not '
                         f'installed: {INSTALL}') from error
  return spaces


def _all_same(episodes: Sequence[Sequence]) -> bool:
  return all(_same(episode, episodes[0]) for episode in episodes[1:])


def _same(first: Sequence, second: Sequence) -> bool:
  return len(first) == len(second) and all(
      np.array_equal(a, b) and r == s for (a, r), (b, s) in zip(first, second))


def _same_task(first: Any, second: Any) -> bool:
  """Equal, for tasks of any kind: numbers, arrays, dictionaries of them, objects."""
  if isinstance(first, dict) and isinstance(second, dict):
    return first.keys() == second.keys() and all(
        _same_task(value, second[name]) for name, value in first.items())
  if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
    return len(first) == len(second) and all(map(_same_task, first, second))
  if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
    if object in (first.dtype, second.dtype):   # which may have arrays in them
      return _same_task(first.tolist(), second.tolist())
    return np.array_equal(*_as_coarse(first, second))
  try:
    first, second = _as_coarse(first, second)
    return bool(np.all(first == second))
  except Exception:   # of arrays of other shapes, and whatever a user's class does
    return False


def _as_coarse(first: Any, second: Any) -> Tuple[Any, Any]:
  """Floats in the less precise of both types, since an environment may store its task so."""
  arrays = np.asarray(first), np.asarray(second)
  if any(array.dtype.kind != 'f' for array in arrays):
    return first, second
  coarse = min((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)
  return arrays[0].astype(coarse), arrays[1].astype(coarse)


@contextlib.contextmanager
def _global_seeds(seed: int):
  """Python's and NumPy's global generators, which some `sample_tasks` use, seeded and then
  put back."""
  numpy_state, python_state = np.random.get_state(), standard_random.getstate()
  np.random.seed(seed)
  standard_random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(numpy_state)
    standard_random.setstate(python_state)
