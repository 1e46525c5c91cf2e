"""The device in use."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Optional

import tensorflow as tf

from maml_tf.task_groups import available_cores


def set_up(side_by_side: bool = False) -> str:
  """Makes steps repeatable on a CPU, and lets a GPU's memory grow instead of taking it all.

  TensorFlow's graph optimizer replaces the sums of a large graph by accumulation in the
  order in which the terms happen to be ready, to save memory: two runs of the same step
  then differ in the last bits. That pass cannot be switched off by itself, so on a CPU
  all of them are; a step takes some percent longer.

  Args:
    side_by_side: give each operation one thread, so that the cores of a CPU work on
      different tasks (see `task_groups`). Without effect where TensorFlow has already
      started its threads.

  Returns:
    A line that names the device.
  """
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
    if side_by_side:
      _give_each_operation_one_thread()
  for gpu in gpus:
    try:
      tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
      # The GPU was initialised before this call, by a program that uses the package:
      # its choice stands.
      break
  return name()


def name() -> str:
  """'CPU', or 'GPU' and the names of all that there are."""
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    return 'CPU'
  names = [tf.config.experimental.get_device_details(gpu).get('device_name', gpu.name)
           for gpu in gpus]
  return f'GPU ({", ".join(names)})'


def cores_for_tasks() -> Optional[int]:
  """How many groups of tasks to compute at the same time; None: all cores work on one."""
  one_thread = tf.config.threading.get_intra_op_parallelism_threads() == 1
  return available_cores() if one_thread else None


def gpu_memory() -> Optional[int]:
  """Bytes of the smallest GPU, for `task_groups`; None without one, and where its driver
  does not tell: TensorFlow does not, before it has taken the memory."""
  if not tf.config.list_physical_devices('GPU'):
    return None
  query = ['nvidia-smi', '--query-gpu=memory.total', '--format=csv,noheader,nounits']
  try:
    told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    return min(map(int, told.stdout.split())) * 2**20
  except (OSError, ValueError, subprocess.SubprocessError):
    return None


def _give_each_operation_one_thread() -> None:
  # Refused where TensorFlow has started its threads, for a program that uses the package.
  with contextlib.suppress(RuntimeError):
    tf.config.threading.set_intra_op_parallelism_threads(1)
