"""Sampling: policies act in an environment, and what came of it as batches."""

from __future__ import annotations

import concurrent.futures
from typing import Callable, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from maml_tf.errors import ConfigError
from maml_tf.rl.advantages import valid_steps
from maml_tf.rl.environments import Environment, Simulation
from maml_tf.rl.errors import Diverged, EnvironmentFault
from maml_tf.rl.policy import Policy
from maml_tf.rl.streams import stream

BUDGETS = ('rollouts', 'steps')


class Trajectories(NamedTuple):
  """What happened. Everything beyond a rollout's length is 0.

  Attributes:
    observations: `[tasks, rollouts, steps, size]`, those that the actions answer.
    actions: `[tasks, rollouts, steps, ...]`, as sampled.
    rewards: `[tasks, rollouts, steps]`, float64, of those actions.
    lengths: `[tasks, rollouts]`, int32; 0 where a task has fewer rollouts than others.
  """
  observations: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  lengths: np.ndarray

  @property
  def valid(self) -> np.ndarray:
    """`[tasks, rollouts, steps]`: whether there was such a step."""
    return valid_steps(self.lengths, self.rewards.shape[2])

  def mean_returns(self) -> np.ndarray:
    """The mean undiscounted return of each task's rollouts, `[tasks]`."""
    return self.rewards.sum(axis=(1, 2)) / np.count_nonzero(self.lengths, axis=1)

  def padded(self, rollouts: int, steps: int) -> 'Trajectories':
    """With places for so many."""
    def pad(value: np.ndarray) -> np.ndarray:
      missing = [(0, size - there) for size, there in zip((rollouts, steps), value.shape[1:3])]
      return np.pad(value, [(0, 0), *missing, *[(0, 0)] * (value.ndim - 1 - len(missing))])
    return Trajectories(*map(pad, self))

  def in_one_task(self) -> 'Trajectories':
    """The same rollouts as those of a single task, for policies that adapt to none."""
    return Trajectories(*(value.reshape(1, -1, *value.shape[2:]) for value in self))


class Batch(NamedTuple):
  """The samples of a phase, each task's in front, and zeros behind them.

  Attributes:
    observations: `[tasks, samples, size]`.
    actions: `[tasks, samples, ...]`.
    advantages: `[tasks, samples]`, divided by the number of the task's samples: what a
      mean over a task multiplies by.
    weights: `[tasks, samples]`, 1 / samples of all tasks together; 0 behind a task's
      samples.
  """
  observations: np.ndarray
  actions: np.ndarray
  advantages: np.ndarray
  weights: np.ndarray


def packed(trajectories: Trajectories, advantages: np.ndarray, dtype: str = 'float32',
           every: int = 1, all_counts: Optional[np.ndarray] = None) -> Batch:
  """The valid samples as a batch.

  Args:
    trajectories: of a phase.
    advantages: `[tasks, rollouts, steps]`.
    dtype: of the floats.
    every: keep only each task's sample 0, every, 2 x every, ...
    all_counts: valid samples of each task of the meta-batch, of which `trajectories` are a
      share; None: they are all.
  """
  chosen = [np.flatnonzero(mask)[::every] for mask in trajectories.valid]
  counts = np.array([len(indices) for indices in chosen])
  # As wide as that of all: what is added up in other blocks rounds otherwise.
  of_all = counts if all_counts is None else -(-all_counts // every)
  samples, total = of_all.max(), of_all.sum()

  def pack(values, by=None):
    merged = values.reshape(len(values), -1, *values.shape[3:])
    result = np.zeros((len(values), samples, *merged.shape[2:]), values.dtype)
    for task, indices in enumerate(chosen):
      part = merged[task][indices]
      result[task, :len(indices)] = part if by is None else part / by[task]
    return result if values.dtype.kind == 'i' else result.astype(dtype)
  weights = pack(np.ones(trajectories.rewards.shape)) / total
  return Batch(pack(trajectories.observations), pack(trajectories.actions),
               pack(np.asarray(advantages, np.float64), counts), weights.astype(dtype))


class Sampler:
  """Lets policies act, one of each task, in all rollouts at once.

  Args:
    environment: to act in.
    policy: what acts.
    seed: of all that is random.
    dtype: of the observations and of the arithmetic of the policy.
  """

  def __init__(self, environment: Environment, policy: Policy, seed: int = 0,
               dtype: str = 'float32'):
    self._environment = environment
    self._policy = policy
    self._seed = seed
    self._dtype = dtype

  def sample(self, vectors: np.ndarray, tasks: Sequence, rollouts: int, key: Sequence[int],
             budget: str = 'rollouts', numbers: Optional[Sequence[int]] = None,
             largest: Callable[[int], int] = lambda number: number) -> Trajectories:
    """The trajectories of one phase.

    Args:
      vectors: parameters of each task's policy, `[tasks, P]`.
      tasks: of the environment.
      rollouts: of each task.
      key: what the sampling is for, see `streams`. Rollout r of task t depends on
        (seed, *key, t, r) and its policy alone.
      budget: 'rollouts', or 'steps': whole rollouts until each task has as many steps as
        `rollouts` of them can have. The original code samples so (for points, until all
        tasks together have that many).
      numbers: t of each task, which are a part of all of them then: whether any of them
        acts for more than a step is left to the caller. None: these are all, from 0 on.
      largest: of what each of the processes says that act in the other tasks at the same
        time, each of which asks as often. Without, 'steps' round as the tasks given here
        alone would.

    Raises:
      EnvironmentFault: where the environment does not do what it has to.
      Diverged: where an action is not finite.
    """
    if budget not in BUDGETS:
      raise ConfigError(f'budget must be one of {", ".join(BUDGETS)}. Received: {budget!r}.')
    parameters = self._policy.split(np.asarray(vectors, self._dtype))
    are_all = numbers is None
    numbers = np.arange(len(tasks)) if are_all else np.asarray(numbers)
    found = self._run(parameters, tasks, [range(rollouts)] * len(tasks), rollouts, key,
                      numbers)
    if budget == 'steps':
      found = self._filled_up(found, parameters, tasks, rollouts, key, numbers, largest)
    if are_all:
      self.check_longest(found.lengths.max(axis=1))
    return found

  def _filled_up(self, found: Trajectories, parameters, tasks, rollouts, key, numbers,
                 largest) -> Trajectories:
    """`found`, and further rollouts until the steps of each task are enough.

    How many come at a time is a guess by their mean length, and no more than at first where
    each needs an instance; those behind the one that completes the number are dropped, so the
    result does not depend on the guess. Who has enough goes on to ask for the `largest` until
    all have.
    """
    wanted = rollouts * self._environment.horizon
    most = rollouts if self._environment.keeps_instances else wanted
    while True:
      missing = wanted - found.lengths.sum(axis=1)
      done = np.count_nonzero(found.lengths, axis=1)
      means = found.lengths.sum(axis=1) / done
      more = np.minimum(np.ceil(np.maximum(missing, 0) / means).astype(int), most)
      width = largest(int(more.max()))
      if not width:
        return first_steps(found, wanted)
      indices = [range(first, first + count) for first, count in zip(done, more)]
      short = np.flatnonzero(more)
      if not len(short):
        continue
      further = self._run(
          {name: value[short] for name, value in parameters.items()},
          [tasks[task] for task in short], [indices[task] for task in short], width, key,
          numbers[short])
      found = _appended(found, further, short, done)

  def _run(self, parameters: Mapping[str, np.ndarray], tasks: Sequence,
           indices: Sequence[range], width: int, key: Sequence[int],
           numbers: np.ndarray) -> Trajectories:
    """Rollouts `indices[t]`, up to `width`, of each task t, whose number is `numbers[t]`."""
    others = self._environment.side_by_side
    if len(tasks) < 2 or not others:
      return self._act(self._environment, parameters, tasks, indices, width, key, numbers)

    def act(environment: Environment, part: np.ndarray) -> Trajectories:
      rows = slice(part[0], part[-1] + 1)
      return self._act(environment, {name: value[rows] for name, value in parameters.items()},
                       tasks[rows], indices[rows], width, key, numbers[rows])
    parts = np.array_split(np.arange(len(tasks)), min(len(others), len(tasks)))
    with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
      return one_below_the_other(list(pool.map(act, others, parts)))

  def _act(self, environment: Environment, parameters: Mapping[str, np.ndarray],
           tasks: Sequence, indices: Sequence[range], width: int, key: Sequence[int],
           numbers: np.ndarray) -> Trajectories:
    """`_run` in one thread; `width`: rollouts that there are places for. Of a task, they
    decide how products are rounded; other tasks do not."""
    horizon, shape = environment.horizon, (len(tasks), width)
    exists = np.arange(width) < np.array([[len(wanted)] for wanted in indices])
    # Places without a rollout hold one all the same, which never runs.
    whose = [(int(number), wanted.start + place)
             for number, wanted in zip(numbers, indices) for place in range(width)]
    randoms = [stream(self._seed, *key, *task_and_rollout) for task_and_rollout in whose]
    simulation = environment.start(
        [task for task in tasks for _ in range(width)], randoms)
    noise = np.stack([self._policy.draw_noise(random, horizon) for random in randoms], 1)
    running, lengths = exists.reshape(-1), np.zeros(shape, np.int32).reshape(-1)
    observations, actions, rewards = [], [], []
    following = self._seen(simulation)
    self._check('an observation', following, running, 0, whose)
    for step in range(horizon):
      seen = following.reshape(*shape, -1)
      taken = self._policy.act(parameters, seen, noise[step].reshape(
          *shape, *noise.shape[2:]))
      flat = taken.reshape(-1, *taken.shape[2:])
      self._check_actions(flat[running])
      received, ended = simulation.step(flat, running)
      following = self._seen(simulation)
      for what, values in (('an observation', following), ('a reward', received)):
        self._check(what, values, running, step + 1, whose)
      observations.append(_kept(seen, running.reshape(shape)))
      actions.append(_kept(taken, running.reshape(shape)))
      rewards.append(np.where(running, received, 0.0).reshape(shape))
      lengths += running
      running = running & ~ended
      if not running.any():
        break
    return Trajectories(*(np.stack(values, axis=2) for values in
                          (observations, actions, rewards)), lengths.reshape(shape))

  def _check_actions(self, actions: np.ndarray) -> None:
    if not self._policy.could_choose(actions).all():
      raise Diverged('The policy chose an action that is not finite; its deviation or its '
                     'mean has grown out of bounds. Choose a smaller inner step size '
                     '(update_lr).')

  def _seen(self, simulation: Simulation) -> np.ndarray:
    """A copy of the observations, in the type of the policy's arithmetic."""
    with np.errstate(over='ignore'):   # what it cannot hold is not finite, see `_check`
      return simulation.observations.astype(self._dtype)

  def _check(self, what, values, running, step, whose) -> None:
    finite = np.isfinite(values.reshape(len(running), -1)).all(axis=1)
    if not finite[running].all():
      task, rollout = whose[np.flatnonzero(running & ~finite)[0]]
      when = f'in step {step}' if step else 'at the start'
      raise EnvironmentFault(
          f'{self._environment.name} returned {what} that is not finite, {when} of rollout '
          f'{rollout} of task {task} (as {values.dtype}). Correct the environment, '
          'or let it end the episode before that.')

  def check_longest(self, lengths: np.ndarray) -> None:
    """Of each task's longest episode `[tasks]`.

    Raises:
      EnvironmentFault: where all of several tasks are of a single step, and may be longer.
    """
    if self._environment.horizon > 1 and len(lengths) > 1 and lengths.max() <= 1:
      raise EnvironmentFault(
          f'Every episode of {self._environment.name} ended with its first step, of all '
          f'{len(lengths)} tasks. Look at where episodes start, and at what ends one; where '
          'all are to have one step, give a horizon of 1.')


def one_below_the_other(parts: Sequence[Trajectories]) -> Trajectories:
  """Those of all tasks, of as many rollouts each."""
  first, starts = parts[0], np.cumsum([0, *(len(part.lengths) for part in parts)])
  steps = max(part.rewards.shape[2] for part in parts)

  def joined(values: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros((starts[-1], first.rewards.shape[1], steps, *values[0].shape[3:]),
                      values[0].dtype)
    for start, value in zip(starts, values):
      result[start:start + len(value), :, :value.shape[2]] = value
    return result
  return Trajectories(*map(joined, zip(*(part[:3] for part in parts))),
                      np.concatenate([part.lengths for part in parts]))


def _kept(values: np.ndarray, running: np.ndarray) -> np.ndarray:
  """`values` `[tasks, rollouts, ...]` where an episode runs, else 0."""
  mask = running.reshape(*running.shape, *[1] * (values.ndim - 2))
  return np.where(mask, values, np.zeros((), values.dtype))


def first_steps(found: Trajectories, wanted: int) -> Trajectories:
  """Each task's first rollouts, up to the one that completes `wanted` steps."""
  before = np.cumsum(found.lengths, axis=1) - found.lengths
  needed = (before < wanted) & (found.lengths > 0)
  width = np.count_nonzero(needed, axis=1).max()
  return Trajectories(
      *(_kept(values, needed)[:, :width] for values in found[:3]),
      np.where(needed, found.lengths, 0)[:, :width])


def _appended(found: Trajectories, further: Trajectories, tasks: np.ndarray,
              done: np.ndarray) -> Trajectories:
  """`found` with the rollouts of `further`, which are of `tasks`, behind its own."""
  counts = done.copy()
  added = np.count_nonzero(further.lengths, axis=1)
  counts[tasks] += added
  steps = max(found.rewards.shape[2], further.rewards.shape[2])

  def append(old: np.ndarray, new: np.ndarray, timed: bool = True) -> np.ndarray:
    rest = (steps, *old.shape[3:]) if timed else ()
    result = np.zeros((len(old), counts.max(), *rest), old.dtype)
    for source, rows, starts, numbers in (
        (old, range(len(old)), np.zeros(len(old), int), done),
        (new, tasks, done[tasks], added)):
      for values, row, start, count in zip(source, rows, starts, numbers):
        part = values[:count]
        target = result[row, start:start + count]
        if timed:
          target = target[:, :part.shape[1]]
        target[...] = part
    return result
  return Trajectories(*(append(old, new) for old, new in zip(found[:3], further[:3])),
                      append(found.lengths, further.lengths, timed=False))
