"""What a policy is trained and tested on, as a sequence: of iterations, or of tasks."""

from __future__ import annotations

import hashlib
import re
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.data_generator import WHOLE, Part
from maml_tf.errors import ConfigError
from maml_tf.rl.environments import Environment


class Iterations:
  """The endless sequence of meta-iterations: what one samples depends on theta, so that a
  batch is nothing but its number."""

  def dataset(self, first: int, count: int, share: Part = WHOLE) -> tf.data.Dataset:
    """`count` numbers from `first` on; whatever the `share`, since policies divide the tasks
    of an iteration themselves."""
    return tf.data.Dataset.range(first, first + count)

  def batch(self, index: int) -> tf.Tensor:
    return tf.constant(index, tf.int64)


class HeldOut(NamedTuple):
  """Tasks to test on.

  Attributes:
    tasks: of the environment.
    numbers: of the tasks, among all held-out ones; None: these are all.
    seed: they were drawn by, and rollouts are.
    rollouts: of each task before each update, and behind the last one.
    budget: see `Sampler.sample`.
  """
  tasks: Sequence
  numbers: Optional[Sequence[int]]
  seed: int
  rollouts: int
  budget: str


class HeldOutTasks:
  """The held-out tasks of a seed.

  Args:
    environment: whose tasks they are.
    drawn: tasks are drawn together, of which the first `num_tasks` are used.
    num_tasks: how many.
    seed: of the tasks, and of what happens in them.
    rollouts, budget: see `HeldOut`.
    batches: in which they come, of the same size: the last task is repeated in the last one.
  """

  def __init__(self, environment: Environment, drawn: int, num_tasks: int, seed: int,
               rollouts: int, budget: str = 'steps', batches: int = 1):
    self.meta_batch_size = -(-num_tasks // batches)
    self._num_tasks = num_tasks
    self._batches = batches
    self._environment = environment
    self._drawn = max(drawn, num_tasks)
    self._seed = seed
    self._rollouts = rollouts
    self._budget = budget

  def dataset(self, first: int, count: int, every: Part = WHOLE) -> List[HeldOut]:
    """Batches `first` to `first + count - 1`; of these the part that a process has."""
    if not 0 <= first <= first + count <= self._batches:
      raise ConfigError(f'There are {self._batches} batches of held-out tasks. Received: '
                        f'batches {first} to {first + count - 1}.')
    return [self.batch(index) for index in range(first + every.number, first + count,
                                                 every.of)]

  def batch(self, index: int) -> HeldOut:
    start = index * self.meta_batch_size
    return self._held_out(range(start, start + self.meta_batch_size))

  def first(self, count: int) -> HeldOut:
    """The first tasks, as many as there are up to `count`."""
    return self._held_out(range(min(count, self._num_tasks)))

  def _held_out(self, places: Sequence[int]) -> HeldOut:
    tasks = self._tasks()
    numbers = [min(place, self._num_tasks - 1) for place in places]
    are_all = len(numbers) == self._num_tasks
    return HeldOut([tasks[number] for number in numbers], None if are_all else numbers,
                   self._seed, self._rollouts, self._budget)

  def fingerprint(self, count: int) -> str:
    """SHA-256 of the environment's name, the first tasks, and how they are tested."""
    words = (self._environment.name, self._environment.horizon, self._seed, self._rollouts,
             self._budget)
    digest = hashlib.sha256(repr(words).encode())
    for task in self._tasks()[:count]:
      digest.update(as_bytes(task))
    return digest.hexdigest()

  def _tasks(self) -> Sequence:
    return self._environment.test_tasks(self._drawn, self._seed)


def as_bytes(task) -> bytes:
  """Of numbers themselves; of parts that make no array together, as (array, number), those
  of each; of other tasks what they are written as."""
  try:
    array = np.asarray(task)
  except Exception:   # of parts of several shapes, and whatever a user's class does
    if isinstance(task, (list, tuple)):
      return b'%d: ' % len(task) + b', '.join(map(as_bytes, task))
    return _as_written(task)
  if array.dtype.kind in 'fiub':
    return array.astype(array.dtype.newbyteorder('<')).tobytes()
  return _as_written(task)


def _as_written(task) -> bytes:
  """Without addresses."""
  return re.sub(r' at 0x[0-9a-f]+', '', repr(task)).encode()
