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
from maml_tf.rl.errors import EnvironmentFault, MissingLibrary, short
from maml_tf.rl.gymnasium_checks import check_tasks
from maml_tf.rl.gymnasium_processes import Begin, EpisodeProcesses
from maml_tf.rl.same_tasks import copied
from maml_tf.rl.streams import CHECKS, stream

INSTALL = "pip install 'gymnasium>=1.0'"
METHODS = ('sample_tasks', 'set_task')
# What seeds may be: gymnasium wants a non-negative int, NumPy's old generators 32 bits.
SEEDS = 2 ** 31


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
      check_tasks(self)

  def draw_tasks(self, count: int, random: np.random.Generator) -> Sequence:
    return self.drawn(count, int(random.integers(SEEDS)))

  def test_tasks(self, count: int, seed: int) -> Sequence:
    """Drawn by a seed of their own; whether they occur in training, too, is up to
    `sample_tasks`."""
    return self.drawn(count, int(stream(seed, CHECKS).integers(SEEDS)))

  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    seeds = [int(random.integers(SEEDS)) for random in randoms]
    begin = self.begin if self._processes is None else self._processes.start
    return begin(tasks, seeds)

  def begin(self, tasks: Sequence, seeds: Sequence[int]) -> Simulation:
    """Episodes in this process."""
    return _Episodes(self, self.instances(len(tasks)), tasks, seeds)

  def action(self, chosen: np.ndarray) -> Any:
    """What the environment gets of an action of the policy."""
    if isinstance(self.actions, DiscreteActions):
      return int(chosen) + self._bounds
    low, high, dtype, shape = self._bounds
    return np.clip(chosen, low, high).astype(dtype).reshape(shape)

  def begun(self, instance: Any, task: Any, seed: int) -> np.ndarray:
    """Sets a task and resets: the first observation, flat."""
    self._call('set_task', _method(instance, 'set_task'), copied(task))
    returned = self._call('reset', instance.reset, seed=seed)
    if not isinstance(returned, tuple) or len(returned) != 2:
      raise EnvironmentFault(f'{self.name}.reset() has to return (observation, info), as in '
                             f'gymnasium. Received: {short(returned)}.')
    return self._flat(returned[0])

  def stepped(self, instance: Any, chosen: np.ndarray) -> Tuple[np.ndarray, float, bool]:
    """Observation, reward, and whether the episode is over."""
    returned = self._call('step', instance.step, self.action(chosen))
    if not isinstance(returned, tuple) or len(returned) != 5:
      raise EnvironmentFault(f'{self.name}.step() has to return (observation, reward, '
                             'terminated, truncated, info), as in gymnasium. Received: '
                             f'{short(returned)}.')
    observation, reward, terminated, truncated, _ = returned
    reward = self._as(float, reward, 'a reward that is no number')
    ends = [self._as(bool, value, 'an end that is neither True nor False')
            for value in (terminated, truncated)]
    return self._flat(observation), reward, any(ends)

  @property
  def says_its_task(self) -> bool:
    """Whether it has `get_task`."""
    return _method(self._instances[0], 'get_task') is not None

  def task_of(self, instance: Any) -> Any:
    """What `get_task` says."""
    return self._call('get_task', _method(instance, 'get_task'))

  def instances(self, count: int) -> List[Any]:
    """So many, each an object of its own, which are kept."""
    first = _innermost(self._instances[0])
    while len(self._instances) < count:
      another = self._made()
      if _innermost(another) is first:
        raise EnvironmentFault(
            f'What makes {self.name} returned the same object twice, and every rollout needs '
            'one of its own: make a new one in each call, def make(): return MyEnv(...).')
      self._instances.append(another)
    return self._instances[:count]

  def _made(self) -> Any:
    if not callable(self._make):
      raise EnvironmentFault('An environment has to be a class, or a function that makes '
                             f'one. Received: {short(self._make)}.')
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
      raise EnvironmentFault(f'{self.name}.step() returned {wrong}: {short(value)}.'
                             ) from error

  def _flat(self, observation: Any) -> np.ndarray:
    try:   # a copy, since an environment may write into its array
      flat = np.array(observation, np.float64).ravel()
    except (TypeError, ValueError) as error:
      raise EnvironmentFault(f'{self.name} returned an observation that is no array of '
                             f'numbers: {short(observation)}.') from error
    if flat.size != self.observation_size:
      raise EnvironmentFault(
          f'{self.name} returned an observation of {flat.size} numbers, and its '
          f'observation_space says {self.observation_size}.')
    return flat

  def drawn(self, count: int, seed: int) -> Sequence:
    """So many tasks of `sample_tasks`, as a function of the seed."""
    instance = self._instances[0]
    with _global_seeds(seed):
      with contextlib.suppress(Exception):   # of one that cannot without a task; or else
        instance.reset(seed=seed)            # `begun` says it
      # After all that `reset` drew, as it did for the task that was set last.
      self._seed(instance, seed)
      returned = self._call('sample_tasks', _method(instance, 'sample_tasks'), count)
      if not isinstance(returned, Iterable) or isinstance(returned, (str, Mapping)):
        raise EnvironmentFault(f'{self.name}.sample_tasks({count}) has to return a list of '
                               f'{counted(count, "task")}. Received: {short(returned)}.')
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


def _required_arguments(function: Callable) -> List[str]:
  """Names of those without a default; none where Python cannot say."""
  try:
    parameters = inspect.signature(function).parameters.values()
  except (TypeError, ValueError):
    return []
  return [parameter.name for parameter in parameters
          if parameter.default is parameter.empty
          and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]


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
