"""The tasks of a meta-batch, shared out among the processes that compute together.

What a process finds for its tasks is exchanged task by task, not as a sum: so all of them
add up the same numbers in the same order as one process would. Conjugate gradients and the
paths of policies magnify rounding; so nothing of training depends on how many processes there
are, to the last bit, where groups of tasks (`MetaPolicy`) divide the share of each.

Held-out tasks are none of it: they are shared out in batches (`HeldOutTasks`), each of which
acts and adapts as if it were all, and rounds so.
"""

from __future__ import annotations

import time
from typing import List, Optional, Sequence

import numpy as np

from maml_tf.replicas import Replicas
from maml_tf.rl.trajectories import Trajectories


class Shares:
  """Who has which tasks.

  Args:
    replicas: that compute together; None: this process alone.

  Attributes:
    workers: processes.
    devices: of this process, to compute with.
    seconds: for which this process has waited for others, and exchanged.
  """

  def __init__(self, replicas: Optional[Replicas] = None):
    self._replicas = replicas
    several = replicas is not None and replicas.are_several
    self.workers = replicas.workers if several else 1
    self.devices: Sequence[str] = (replicas.strategy.extended.worker_devices if several
                                   else ())
    self.seconds = 0.0

  def own(self, tasks: int) -> range:
    """Numbers of the tasks of this process, of `tasks`."""
    if self.workers == 1:
      return range(tasks)
    worker = self._replicas.worker
    return range(worker * tasks // self.workers, (worker + 1) * tasks // self.workers)

  def whole(self, tasks: int, *parts: np.ndarray) -> List[np.ndarray]:
    """Arrays `[tasks, ...]` of those that each process has of its own tasks, bit for bit."""
    if self.workers == 1:
      return list(parts)
    own, since = self.own(tasks), time.perf_counter()
    wholes = [np.zeros((tasks, *part.shape[1:]), part.dtype) for part in parts]
    for whole, part in zip(wholes, parts):
      whole[own.start:own.stop] = part
    wholes = self._replicas.combined(wholes)
    self.seconds += time.perf_counter() - since
    return wholes

  def joined(self, tasks: int, own: Trajectories) -> Trajectories:
    """The trajectories of all tasks."""
    if self.workers == 1:
      return own
    sizes = np.zeros((self.workers, 2), np.int64)
    sizes[self._replicas.worker] = own.rewards.shape[1:]
    rollouts, steps = self._replicas.combined([sizes])[0].max(axis=0)
    return Trajectories(*self.whole(tasks, *own.padded(rollouts, steps)))

  def largest(self, number: int) -> int:
    """Of the numbers, 0 or more, that all processes give."""
    if self.workers == 1:
      return number
    since, numbers = time.perf_counter(), np.zeros(self.workers, np.int64)
    numbers[self._replicas.worker] = number
    [numbers] = self._replicas.combined([numbers])
    self.seconds += time.perf_counter() - since
    return int(numbers.max())

  def of_writer(self, vector: np.ndarray) -> np.ndarray:
    """That of the writing process: another kind of processor may round otherwise."""
    return vector if self.workers == 1 else self._replicas.of_writer([vector])[0]


ALONE = Shares()
