"""Sampling: policies act in an environment."""

from __future__ import annotations

import concurrent.futures
from typing import Callable, Mapping, Optional, Sequence

import numpy as np

from maml_tf.errors import ConfigError
from maml_tf.rl.environments import Environment, Simulation
from maml_tf.rl.errors import Diverged, EnvironmentFault
from maml_tf.rl.policy import Policy
from maml_tf.rl.products import one_thread_a_product
from maml_tf.rl.settings import BUDGETS
from maml_tf.rl.streams import stream
from maml_tf.rl.trajectories import (
  Trajectories,
  appended,
  first_steps,
  kept,
  one_below_the_other,
)


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
    with one_thread_a_product():
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
      found = appended(found, further, short, done)

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
      observations.append(kept(seen, running.reshape(shape)))
      actions.append(kept(taken, running.reshape(shape)))
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
