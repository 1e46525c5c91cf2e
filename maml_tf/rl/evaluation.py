"""The paper's test: held-out tasks, and the return after each update (5.3).

Column k of the result is the mean undiscounted return of the stochastic policy after k
updates. Each update is a plain policy gradient on fresh samples; the original halves the
step size after the first.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

import numpy as np

from maml_tf.rl.rollouts import packed
from maml_tf.rl.streams import EVALUATION
from maml_tf.rl.training import Learning


class Protocol(NamedTuple):
  """How a policy is tested.

  Attributes:
    tasks: held-out ones.
    task_seed: of them.
    rollouts: of each task, before each update and behind the last.
    budget: see `Sampler.sample`.
    step_sizes: of each update.
  """
  tasks: int = 40
  task_seed: int = 1
  rollouts: int = 40
  budget: str = 'steps'
  step_sizes: Tuple[float, ...] = (0.1, 0.05, 0.05)


def halved(step_size: float, updates: int) -> Tuple[float, ...]:
  """alpha, then alpha / 2: the step sizes of most of the paper's evaluations."""
  return tuple(step_size if update == 0 else step_size / 2 for update in range(updates))


def task_returns(learning: Learning, parameters: np.ndarray,
                 protocol: Protocol) -> np.ndarray:
  """The return of each task before the first update and after each one.

  Args:
    learning: whose environment, policy and way of judging are used.
    parameters: theta, `[P]`.
    protocol: see there.

  Returns:
    `[tasks, updates + 1]`.
  """
  tasks = learning.environment.test_tasks(protocol.tasks, protocol.task_seed)
  return returns_on(learning, parameters, tasks, protocol)


def returns_on(learning: Learning, parameters: np.ndarray, tasks: Sequence,
               protocol: Protocol) -> np.ndarray:
  """As `task_returns`, on `tasks`."""
  points = np.tile(parameters, (len(tasks), 1))
  returns = []
  for phase, step_size in enumerate((*protocol.step_sizes, None)):
    trajectories = learning.sampler.sample(
        points, tasks, protocol.rollouts, (EVALUATION, protocol.task_seed, phase),
        protocol.budget)
    returns.append(trajectories.mean_returns())
    if step_size is not None:
      batch = packed(trajectories, learning.judged(trajectories), learning.settings.dtype)
      points = learning.adapted(points, batch, step_size)
  return np.stack(returns, axis=1)
