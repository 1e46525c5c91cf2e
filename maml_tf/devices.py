"""The device in use."""

from __future__ import annotations

import tensorflow as tf


def set_up() -> str:
  """Lets a GPU's memory grow instead of taking it all; a line that names the device."""
  gpus = tf.config.list_physical_devices('GPU')
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
