"""What an environment is: many episodes at once, each with a task of its own.

An environment has no state. `start` begins a number of episodes, which know nothing of
tasks and rollouts: whoever samples lays both out along one axis, `[episodes]`.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np


class ContinuousActions(NamedTuple):
  """Vectors of `size` numbers, unbounded here: an environment clips them itself."""
  size: int


class DiscreteActions(NamedTuple):
  """0, ..., count - 1."""
  count: int


Actions = Union[ContinuousActions, DiscreteActions]


class Drawing(NamedTuple):
  """What there is to see of an episode at one time, in the plane.

  Attributes:
    lines: `[n, 2, 2]`, from (x, y) to (x, y).
    widths: `[n]`, half the width of each.
    centre: what the view follows, `[2]`.
    goal: `[2]`, or None.
    reach: half of what the view shows.
  """
  lines: np.ndarray
  widths: np.ndarray
  centre: np.ndarray
  goal: Optional[np.ndarray]
  reach: float


class Simulation(abc.ABC):
  """Episodes that run side by side.

  Attributes:
    observations: `[episodes, size]`, before the next step. Of an episode that is over,
      any finite numbers.
  """
  observations: np.ndarray

  @abc.abstractmethod
  def step(self, actions: np.ndarray, running: np.ndarray
           ) -> Tuple[np.ndarray, np.ndarray]:
    """One step of every episode that is not over.

    Args:
      actions: `[episodes, size]`, or `[episodes]` where they are discrete.
      running: `[episodes]`, False for those that are over: their actions and what is
        returned for them mean nothing.

    Returns:
      rewards `[episodes]` (float64), and whether an episode has come to its end,
      `[episodes]` (bool). A horizon is not an end, and is watched by the caller.
    """

  def drawing(self, episode: int) -> Optional[Drawing]:
    """What there is to see of an episode; None: nothing was said about it."""
    return None


class Environment(abc.ABC):
  """A distribution of tasks, and the episodes of each.

  Attributes:
    name: of the environment.
    observation_size: numbers in an observation.
    actions: what an action is.
    horizon: most steps of an episode.
    side_by_side: environments like this one that threads can act in at the same time, two
      or more; empty where that gains nothing.
    keeps_instances: whether it keeps something for each episode that ran at the same time as
      others, so that there should be few of these.
  """
  name: str
  observation_size: int
  actions: Actions
  horizon: int
  side_by_side: Sequence['Environment'] = ()
  keeps_instances: bool = False

  @abc.abstractmethod
  def draw_tasks(self, count: int, random: np.random.Generator) -> Sequence:
    """`count` tasks, in the order in which they are drawn."""

  @abc.abstractmethod
  def test_tasks(self, count: int, seed: int) -> Sequence:
    """`count` held-out tasks. The evaluations of the paper draw them by
    `numpy.random.RandomState(seed)`."""

  @abc.abstractmethod
  def start(self, tasks: Sequence, randoms: Sequence[np.random.Generator]) -> Simulation:
    """Begins episodes.

    Args:
      tasks: of each episode.
      randoms: of each episode, for whatever is random in it.
    """

  def action(self, chosen: np.ndarray) -> Any:
    """What is stepped with, of an action that the policy chose: the same, where episodes
    take it as it is, and clip it themselves."""
    return chosen


def clipped(actions: np.ndarray, bound: float) -> np.ndarray:
  """What the environment does of what the policy wanted."""
  return np.clip(actions, -bound, bound)
