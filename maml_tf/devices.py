"""The device in use."""

from __future__ import annotations

import tensorflow as tf


def set_up() -> str:
  """Makes steps repeatable on a CPU, and lets a GPU's memory grow instead of taking it all.

  TensorFlow's graph optimizer replaces the sums of a large graph by accumulation in the
  order in which the terms happen to be ready, to save memory: two runs of the same step
  then differ in the last bits. That pass cannot be switched off by itself, so on a CPU
  all of them are; a step takes some percent longer.

  Returns:
    A line that names the device.
  """
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
  for gpu in gpus:
    try:
      tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
      # The GPU was initialised before this call, by a program that uses the package:
      # its choice stands.
      break
  if not gpus:
    return 'CPU'
  names = [tf.config.experimental.get_device_details(gpu).get('device_name', gpu.name)
           for gpu in gpus]
  return f'GPU ({", ".join(names)})'
