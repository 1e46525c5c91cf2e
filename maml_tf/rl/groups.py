"""Functions of tasks, computed by groups of them, of which some are side by side."""

from __future__ import annotations

import concurrent.futures
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from maml_tf.task_groups import available_cores

_GROUPS_SIDE_BY_SIDE = 2


class Groups:
  """How many tasks are in memory together, and where.

  Args:
    size: tasks of a group. Results of groups are joined in a fixed order.
    dtype: of the arithmetic.
    devices: of this process, by name; none: TensorFlow's choice.
  """

  def __init__(self, size: int, dtype: str, devices: Sequence[str]):
    self._size = size
    self._dtype = dtype
    self._devices = devices

  def joined(self, function: Callable, arguments, *shared, kept: Sequence[Tuple] = ()
             ) -> Tuple[np.ndarray, ...]:
    """`function` of groups of tasks, whose results `[tasks, ...]` are joined.

    Args:
      function: of tensors.
      arguments: arrays of all tasks.
      *shared: tensors that all groups have in common.
      kept: of each group, tensors that come before its arguments.
    """
    results = self.each(function, arguments, *shared, kept=kept)
    return tuple(np.concatenate([value.numpy() for value in values]).astype(np.float64)
                 for values in zip(*results))

  def each(self, function: Callable, arguments, *shared, kept: Sequence[Tuple] = ()
           ) -> List:
    """As `joined`, what it gives of each group."""
    size = self._size   # whatever the devices: groups of other sizes round otherwise

    def of_group(first: int):
      group = tf.nest.map_structure(
          lambda value: self._tensor(value[first:first + size]), arguments)
      return function(*(kept[first // size] if kept else ()), *group, *shared)
    return on_devices(of_group, range(0, len(arguments[0]), size), self._places())

  def _places(self) -> Sequence[Optional[str]]:
    """Devices that have groups side by side, by name; None: TensorFlow's choice.

    Two groups on a CPU, too: while TensorFlow is between two operations of one, or in one
    that it does not share out, the other has the cores.
    """
    if len(self._devices) > 1:
      return self._devices
    return [None] * min(_GROUPS_SIDE_BY_SIDE, available_cores())

  def _tensor(self, value) -> tf.Tensor:
    if isinstance(value, tf.Tensor):
      return value
    return tf.constant(value, None if value.dtype.kind == 'i' else self._dtype)


def on_devices(function: Callable, arguments: Sequence, devices: Sequence[Optional[str]]
                ) -> List:
  """`function` of each argument, on one device after the other, which work side by side."""
  if len(devices) < 2 or len(arguments) < 2:
    return [function(argument) for argument in arguments]

  def on(place: int) -> List:
    with tf.device(devices[place]):
      return [function(argument) for argument in arguments[place::len(devices)]]
  with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
    found = list(pool.map(on, range(len(devices))))
  return [found[place % len(devices)][place // len(devices)]
          for place in range(len(arguments))]
