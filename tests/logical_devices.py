"""`main.py` on logical devices, in a process of its own (see `forked`)."""

from __future__ import annotations

from faults import run


def train(devices, arguments, interval) -> int:
  """On so many CPUs, `mirrored`; 1: without a strategy."""
  if devices == 1:
    return run(arguments, interval)
  import tensorflow as tf
  [cpu] = tf.config.list_physical_devices('CPU')
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
  return run([*arguments, '--distribution_strategy=mirrored'], interval)
