"""The paper's test: held-out tasks, and the return after each update (5.3).

Column k of the result is the mean undiscounted return of the stochastic policy after k
updates. Each update is a plain policy gradient on fresh samples; the original takes smaller
steps after the first: half as large, for the ant's direction a hundredth.
"""

from __future__ import annotations

import contextlib
from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from maml_tf.rl.errors import Diverged
from maml_tf.rl.streams import EVALUATION
from maml_tf.rl.training import Learning
from maml_tf.rl.trajectories import Trajectories


class Protocol(NamedTuple):
  """How a policy is tested.

  Attributes:
    task_seed: of the tasks, and of what happens in them.
    rollouts: of each task, before each update and behind the last.
    budget: see `Sampler.sample`.
    step_sizes: of each update.
  """
  task_seed: int = 1
  rollouts: int = 40
  budget: str = 'steps'
  step_sizes: Tuple[float, ...] = (0.1, 0.05, 0.05)


def later_steps(step_size: float, updates: int, later_step: float = 0.5,
                trained_updates: int = 1) -> Tuple[float, ...]:
  """alpha in as many updates as training has, then alpha x `later_step`: the step sizes of the
  paper's evaluations, whose trainings have one.

  Example:
    >>> later_steps(0.1, 3)
    (0.1, 0.05, 0.05)
  """
  return tuple(step_size if update < max(1, trained_updates) else step_size * later_step
               for update in range(updates))


def returns_on(learning: Learning, parameters: np.ndarray, tasks: Sequence,
               protocol: Protocol, numbers: Optional[Sequence[int]] = None) -> np.ndarray:
  """The return of each task before the first update and after each one.

  Args:
    learning: whose environment, policy and way of judging are used.
    parameters: theta, `[P]`.
    tasks: of the environment.
    protocol: see there.
    numbers: of the tasks, by which they are acted in; None: from 0 on.

  Returns:
    `[tasks, updates + 1]`; NaN from the first update on that leads to a policy of no use, in
    whichever task: what came before it stays.
  """
  returns = np.full((len(tasks), len(protocol.step_sizes) + 1), np.nan)
  with contextlib.suppress(Diverged):
    for phase, trajectories in enumerate(
        adapted_rollouts(learning, parameters, tasks, protocol, numbers)):
      returns[:, phase] = trajectories.mean_returns()
  return returns


def adapted_rollouts(learning: Learning, parameters: np.ndarray, tasks: Sequence,
                     protocol: Protocol, numbers: Optional[Sequence[int]] = None
                     ) -> Iterator[Trajectories]:
  """What policies do before the first update and after each one; see `returns_on`.

  Raises:
    Diverged: where a policy is of no use.
  """
  points = np.tile(parameters, (len(tasks), 1))
  for phase, step_size in enumerate((*protocol.step_sizes, None)):
    trajectories = learning.sampler.sample(
        points, tasks, protocol.rollouts, (EVALUATION, protocol.task_seed, phase),
        protocol.budget, numbers)
    yield trajectories
    if step_size is not None:
      points = learning.adapted_to(points, trajectories, step_size)
