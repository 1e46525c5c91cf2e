"""What policies did: trajectories of rollouts, and batches of their steps."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np

from maml_tf.rl.advantages import valid_steps


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


def kept(values: np.ndarray, where: np.ndarray) -> np.ndarray:
  """`values` `[tasks, rollouts, ...]` `where` they count, `[tasks, rollouts]`, else 0."""
  mask = where.reshape(*where.shape, *[1] * (values.ndim - 2))
  return np.where(mask, values, np.zeros((), values.dtype))


def first_steps(found: Trajectories, wanted: int) -> Trajectories:
  """Each task's first rollouts, up to the one that completes `wanted` steps."""
  before = np.cumsum(found.lengths, axis=1) - found.lengths
  needed = (before < wanted) & (found.lengths > 0)
  width = np.count_nonzero(needed, axis=1).max()
  return Trajectories(
      *(kept(values, needed)[:, :width] for values in found[:3]),
      np.where(needed, found.lengths, 0)[:, :width])


def appended(found: Trajectories, further: Trajectories, tasks: np.ndarray,
             done: np.ndarray) -> Trajectories:
  """`found` with the rollouts of `further`, which are of `tasks`, behind its own.

  Args:
    done: `[tasks]`, rollouts of each task in `found`.
  """
  counts = done.copy()
  counts[tasks] += np.count_nonzero(further.lengths, axis=1)
  steps = max(found.rewards.shape[2], further.rewards.shape[2])
  result = found.padded(counts.max(), steps)
  for whole, part in zip(result, further):
    for task, values in zip(tasks, part):
      behind = slice(done[task], counts[task])
      until = map(slice, values.shape[1:2])   # of its steps, which lengths do not have
      whole[(task, behind, *until)] = values[:counts[task] - done[task]]
  return result
