"""Runs an exported meta-step by JAX: times it, and trains with it.

  python run_exported.py FOLDER --images=train.npy [--steps=N]

FOLDER is what `maml_tf.export_step` wrote. This file needs NumPy and JAX alone, and can
be copied to the machine with the folder and the images. Prints the device, how long the
compilation took, the loss as it goes, and one line of JSON with the median time of a
step; writes the state after the last step into FOLDER/state.npz. Exits 2 where something is
missing, and 1 where the state cannot be written.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import time
import zipfile

import numpy as np

WINDOW = 10   # steps between two synchronisations with the device


def main(argv) -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('folder', type=os.path.expanduser)
  parser.add_argument('--images', type=os.path.expanduser, required=True)
  parser.add_argument('--steps', type=int, default=100)
  options = parser.parse_args(argv[1:])
  if options.steps < 1:
    parser.error(f'--steps={options.steps} is not allowed: it must be 1 or more')
  try:
    description, module, state, recipes = exported(options.folder)
    images = np.load(options.images, allow_pickle=False)
    problem = differing(options.images, images, description['images'])
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    problem = f'{error}: FOLDER is what maml_tf.export_step wrote, and --images its train.npy.'
  if not problem and importlib.util.find_spec('jax') is None:
    problem = 'JAX is not installed here: install the one for this device (pip install jax).'
  if problem:
    return said(problem, 2)
  figures, state = run(module, images, state, recipes, options.steps)
  print(json.dumps(figures), flush=True)   # before a full disk ends this
  path = os.path.join(options.folder, 'state.npz')
  try:
    np.savez(path, **{item['name']: value for item, value in zip(description['state'], state)})
  except OSError as error:
    return said(f'{path} cannot be written ({error}); the figures are those above.', 1)
  return 0


def said(problem, code):
  """`code`, after the problem on standard error."""
  print(f'run_exported: {problem}', file=sys.stderr)
  return code


def exported(folder):
  """What is in the folder: (description, HLO module, state, recipes)."""
  with open(os.path.join(folder, 'step.json'), encoding='utf-8') as file:
    description = json.load(file)
  with open(os.path.join(folder, 'step.hlo'), 'rb') as file:
    module = file.read()
  with open(os.path.join(folder, 'inputs.npz'), 'rb') as file, np.load(
      file, allow_pickle=False) as arrays:
    state = [arrays[f'state/{i:03}'] for i in range(len(description['state']))]
    recipes = [arrays[f'recipes/{item["name"]}'] for item in description['recipes']]
  return description, module, state, recipes


def differing(path, images, expected):
  """In a sentence, what makes the images others than those that the step was exported for, to
  which its recipes point by place; None where they are the same."""
  if list(images.shape) != expected['shape']:
    return (f'{path} has the shape {list(images.shape)}; the step was exported for '
            f'{expected["shape"]}.')
  hashed = hashlib.sha256()
  with open(path, 'rb') as file:
    for part in iter(lambda: file.read(1 << 20), b''):
      hashed.update(part)
  digest = hashed.hexdigest()
  if digest != expected.get('sha256', digest):   # which earlier exports do not have
    return (f'{path} has other images (SHA-256 {digest[:12]}) than the step was exported for '
            f'({expected["sha256"][:12]}): copy the train.npy of then.')
  return None


def run(module, images, state, recipes, steps):
  """`steps` steps of an HLO module, recipes repeated as needed: ({figure: value}, state as
  arrays)."""
  import jax
  device = jax.devices()[0]
  started = time.perf_counter()
  step = load(module, device)
  seconds_to_compile = time.perf_counter() - started
  def put(value):
    return jax.device_put(np.ascontiguousarray(value), device)
  state, images = [put(value) for value in state], put(images)
  seconds, losses, accuracies = [], [], []
  for first in range(0, steps, WINDOW):
    count = min(WINDOW, steps - first)
    batches = [[put(values[index % len(values)]) for values in recipes]
               for index in range(first, first + count)]
    started = time.perf_counter()
    for batch in batches:
      *state, loss, accuracy = step([*state, images, *batch])
      losses.append(loss)
      accuracies.append(accuracy)
    loss.block_until_ready()
    seconds.append((time.perf_counter() - started) / count)
    if first % (10 * WINDOW) == 0:
      print(f'step {first + count}: loss {float(loss):.4f}, accuracy {float(accuracy):.3f}',
            flush=True)
  figures = {
      'device': device.device_kind, 'jax': jax.__version__, 'steps': steps,
      'seconds_to_compile': seconds_to_compile,
      'step_ms_median': 1e3 * float(np.median(seconds[1:] or seconds)),
      'first_loss': float(losses[0]), 'last_loss': float(losses[-1]),
      'mean_accuracy_of_last_100': float(np.mean([float(a) for a in accuracies[-100:]])),
  }
  return figures, [np.asarray(value) for value in state]


def load(module, device):
  """The HLO module compiled for `device`: a function of a flat list of device arrays."""
  from jaxlib import xla_client
  computation = xla_client.XlaComputation(module)
  module = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
  devices = xla_client.DeviceList((device,))
  options = xla_client.CompileOptions()
  executable = device.client.compile_and_load(module, devices, options)
  def step(arguments):
    results = executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
    return [values[0] for values in results]
  return step


if __name__ == '__main__':
  sys.exit(main(sys.argv))
