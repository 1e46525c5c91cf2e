"""`main.py` on logical devices, in a process of its own (see `forked`)."""

from __future__ import annotations

from types import SimpleNamespace

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


def run_on(forks, folder, devices, arguments, iterations, interval):
  """Such a run up to `iterations`, in a process of `forks`; what has its `folder`."""
  process = forks.start(
      'logical_devices:train', f'{folder}.txt', devices,
      [*arguments, f'--metatrain_iterations={iterations}', f'--logdir={folder}'], interval)
  assert process.wait() == 0, process.output_text()
  return SimpleNamespace(folder=next(path for path in folder.iterdir() if path.is_dir()))
