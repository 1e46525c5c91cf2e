"""The device: its name, and its settings, in processes of their own: they hold until a
process ends."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from maml_tf import config, devices, experiment

ROOT = Path(__file__).parent.parent
REPEATED_STEPS = """
import hashlib
import numpy as np
import tensorflow as tf
from maml_tf import devices, experiment
from maml_tf.config import resolve
from maml_tf.episodes import Episodes

config = resolve(dict(datasource={datasource!r}, meta_batch_size={tasks}))
devices.set_up({side_by_side})
assert devices.cores_for_tasks() == (devices.available_cores() if {side_by_side} else None)
model = experiment.build_model(config)
images = np.random.default_rng(0).random(
    ({tasks}, 5, *{shape}), np.float32)
labels = np.tile(np.arange(5, dtype=np.int32), ({tasks}, 1))
episodes = Episodes.of(*map(tf.constant, (images, labels, images[:, ::-1], labels[:, ::-1])))
gradient = tf.function(model.meta_gradient, autograph=False)
digests = set()
for _ in range(5):
  _, gradients = gradient(episodes)
  digests.add(hashlib.sha256(b''.join(g.numpy().tobytes() for g in gradients.values()))
              .hexdigest())
print(len(digests))
"""
TOO_LATE = """
import tensorflow as tf
from maml_tf import config, devices, experiment
tf.constant(0.0)   # starts TensorFlow's threads
devices.set_up(side_by_side=True)
print(devices.cores_for_tasks())
"""


def last_word(script):
  """Of what a process that runs `script` prints."""
  found = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True,
                         text=True, check=True)
  return found.stdout.split()[-1]


@pytest.mark.slow
@pytest.mark.parametrize('datasource, shape, tasks, side_by_side', [
    ('omniglot', (28, 28, 1), 32, True), ('omniglot', (28, 28, 1), 32, False),
    ('miniimagenet', (84, 84, 3), 2, True)])
def test_a_step_of_real_size_is_repeatable(datasource, shape, tasks, side_by_side):
  script = REPEATED_STEPS.format(datasource=datasource, shape=shape, tasks=tasks,
                                 side_by_side=side_by_side)
  assert last_word(script) == '1'


def test_threads_that_were_started_before_stay_as_they_are():
  assert last_word(TOO_LATE) == 'None'


@pytest.mark.parametrize('told, expected', [
    ('echo 81559; echo 40960', 40960 * 2**20), ('echo no devices; exit 9', None),
    ('echo [N/A]', None)])
def test_the_memory_of_the_smallest_gpu(told, expected, tmp_path, monkeypatch):
  program = tmp_path / 'nvidia-smi'
  program.write_text(f'#!/bin/sh\n{told}\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['card'])
  assert devices.gpu_memory() == expected


@pytest.mark.parametrize('asked, visible', [(0, '-1'), (-1, '5'), (1, '5')])
def test_a_run_that_wants_no_gpu_sees_none(asked, visible, monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5')
  monkeypatch.setattr(devices, 'set_up', lambda side_by_side: 'a device')
  assert experiment.set_up(config.resolve({'num_gpus': asked})) == 'a device'
  assert os.environ['CUDA_VISIBLE_DEVICES'] == visible


def test_without_a_gpu_nothing_is_asked(monkeypatch):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [])
  monkeypatch.setattr(devices.subprocess, 'run', None)
  assert devices.gpu_memory() is None


def test_the_device_is_named():
  expected = 'GPU (' if tf.config.list_physical_devices('GPU') else 'CPU'
  assert devices.set_up().startswith(expected)


def test_a_gpu_s_memory_grows(monkeypatch):
  grown = []
  monkeypatch.setattr(tf.config, 'list_physical_devices',
                      lambda kind: [SimpleNamespace(name='first'),
                                    SimpleNamespace(name='second')])
  monkeypatch.setattr(tf.config.experimental, 'set_memory_growth',
                      lambda gpu, grow: grown.append((gpu.name, grow)))
  monkeypatch.setattr(tf.config.experimental, 'get_device_details',
                      lambda gpu: {'device_name': 'A100'} if gpu.name == 'first' else {})
  assert devices.set_up() == 'GPU (A100, second)'
  assert grown == [('first', True), ('second', True)]


def test_a_gpu_in_use_is_left_as_it_is(monkeypatch):
  def refuse(gpu, grow):
    raise RuntimeError('Physical devices cannot be modified after being initialized')
  monkeypatch.setattr(tf.config, 'list_physical_devices',
                      lambda kind: [SimpleNamespace(name='card')])
  monkeypatch.setattr(tf.config.experimental, 'set_memory_growth', refuse)
  monkeypatch.setattr(tf.config.experimental, 'get_device_details',
                      lambda gpu: {'device_name': 'a card'})
  assert devices.set_up() == 'GPU (a card)'
