"""How the tasks of a meta-batch are divided: which share a graph, which have a core each.

Two ways to use several cores. Either all of them work on one operation of one group of
tasks; small operations then wait for one another. Or each operation has one thread, and
each core works on a group of its own, small enough for its cache ("side by side"); this is
faster where there are enough tasks. docs/speed.md has the times.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple, Optional

from maml_tf.errors import ConfigError

# Numbers in the inputs of one example, up to which all tasks share a graph where all
# cores work on one operation: many small images gain from one batched product, large ones
# lose more to their patches than they gain.
SMALL_EXAMPLE = 4096
# Numbers in the inputs of a group that has one core: six tasks of 5-way 1-shot Omniglot.
# Up to here, fewer and larger operations are faster; beyond, activations leave the cache.
GROUP = 50_000
# Numbers in the inputs of a task that is too large for a second one beside it in memory:
# 5-way 5-shot mini-ImageNet has 2.1 million, 10-way 10-shot 5.3 million.
LARGE_TASK = 3_000_000
# Of a device's memory, for each number in the inputs of a group. Measured on a CPU: 1,450
# for 32 tasks of 5-way 1-shot Omniglot with one update, 540 for four of mini-ImageNet with
# five; the rest is room for what was not measured, a GPU's own buffers among it.
BYTES_PER_INPUT = 2000
# Side by side pays where at least this share of the cores' time is used.
BUSY = 0.8


class TaskGroups(NamedTuple):
  """A division of tasks.

  Attributes:
    size: tasks of a group, which share a graph; a divisor of the number of tasks.
    side_by_side: groups that are computed at the same time.
  """
  size: int
  side_by_side: int = 1


def task_groups(tasks: int, examples: int, example_size: int, *, at_once: int = 0,
                cores: Optional[int] = None, memory: Optional[int] = None) -> TaskGroups:
  """The division of a meta-batch.

  Args:
    tasks: of the meta-batch.
    examples: of a task, support and query set together.
    example_size: numbers in the input of one example.
    at_once: tasks whose activations are in memory together; 0: chosen here.
    cores: that work side by side; None: one group after the other, each on the whole
      device.
    memory: bytes of a device without a CPU's caches, where a group is the better the
      larger it is; None: a CPU.

  Raises:
    ConfigError: when `at_once` does not divide `tasks`.
  """
  if not divides(at_once, tasks):
    raise ConfigError(f'tasks_at_once must divide the number of tasks. Received: '
                      f'tasks_at_once={at_once} and {tasks} tasks.')
  if at_once:
    return _of_so_many(min(at_once, tasks), cores)
  task_size = examples * example_size
  if memory is not None:
    return TaskGroups(_largest_divisor(tasks, memory // (BYTES_PER_INPUT * task_size)))
  if cores is None:
    return TaskGroups(tasks if example_size <= SMALL_EXAMPLE else 1)
  if task_size > LARGE_TASK:
    return TaskGroups(1)
  if tasks * task_size <= GROUP:
    return TaskGroups(tasks)
  size = _largest_divisor(tasks, min(GROUP // task_size, tasks // cores))
  return TaskGroups(size, min(cores, tasks // size))


def divides(at_once: int, tasks: int) -> bool:
  """Whether so many tasks at once make full groups; 0, and more than there are, do."""
  return at_once == 0 or tasks % min(at_once, tasks) == 0


def keeps_cores_busy(tasks: int, groups: TaskGroups, cores: int) -> bool:
  """Whether it pays to give each operation of `groups` one thread."""
  if groups.side_by_side < cores:
    return False
  number = tasks // groups.size
  return number / (math.ceil(number / cores) * cores) >= BUSY


def available_cores() -> int:
  """Those that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _of_so_many(at_once: int, cores: Optional[int]) -> TaskGroups:
  if cores is None or at_once % cores:
    return TaskGroups(at_once)
  return TaskGroups(at_once // cores, cores)


def _largest_divisor(number: int, limit: int) -> int:
  return max(size for size in range(1, max(1, min(limit, number)) + 1)
             if number % size == 0)
