"""What several test modules need: small image splits, small episodes, a clean Keras."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

# Before anything imports TensorFlow. Nothing here imports it at module level: the
# tests of the data scripts do without it.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
if 'PYTEST_XDIST_WORKER' in os.environ:
  # Workers share the cores: more threads than that only disturb each other.
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')
  os.environ.setdefault('TF_NUM_INTEROP_THREADS', '1')

import numpy as np
import pytest


def pytest_addoption(parser):
  parser.addoption('--kills', type=int, default=5, metavar='N',
                   help='how often test_killed_runs.py kills its run; default 5')


@pytest.fixture(scope='module', autouse=True)
def _clear_keras():
  """No layer names, graphs or float type are handed on from module to module."""
  yield
  if 'tensorflow' in sys.modules:
    keras = sys.modules['tensorflow'].keras
    keras.backend.clear_session()
    gc.collect()
    assert keras.backend.floatx() == 'float32', 'a test left another default float type'


@pytest.fixture
def make_split():
  """A function that makes an `ImageSplit` in memory, of random images.

  All images differ. `class_counts` are the images of each class.
  """
  from maml_tf.sources.image_set import ImageSplit

  def make(class_counts=(6,) * 5, image_shape=(4, 4, 1), sha256='0' * 64, seed=0,
           images=None):
    counts = np.array(class_counts, np.int64)
    if images is None:
      random = np.random.RandomState(seed)
      images = random.randint(0, 256, (counts.sum(), *image_shape)).astype(np.uint8)
    return ImageSplit(name='omniglot', split='train', images=images,
                      class_names=tuple(f'class{i:03}' for i in range(len(counts))),
                      class_counts=counts, sha256=sha256)
  return make


@pytest.fixture
def make_classification():
  """A function that makes an `Episodes` of random images, `[tasks, examples, *shape]`.

  The query set has twice the support set's size, in shuffled label order.
  """
  from maml_tf.episodes import Episodes

  def make(tasks, ways, shots, image_shape, seed=0, dtype='float64'):
    import tensorflow as tf
    random = np.random.RandomState(seed)

    def inputs(examples):
      return tf.constant(random.uniform(size=(tasks, examples, *image_shape)), dtype)

    def labels(examples_per_class):
      rows = [random.permutation(np.repeat(np.arange(ways), examples_per_class))
              for _ in range(tasks)]
      return tf.constant(np.stack(rows), tf.int32)
    return Episodes(inputs(ways * shots), labels(shots),
                    inputs(2 * ways * shots), labels(2 * shots))
  return make


@pytest.fixture
def make_regression():
  """A function that makes an `Episodes` of one-dimensional regressions."""
  from maml_tf.episodes import Episodes

  def make(tasks, examples, num_inputs=1, seed=0, dtype='float64'):
    import tensorflow as tf
    random = np.random.RandomState(seed)

    def part(count, size):
      return tf.constant(random.uniform(-3, 3, (tasks, count, size)), dtype)
    return Episodes(part(examples, num_inputs), part(examples, 1),
                    part(examples + 2, num_inputs), part(examples + 2, 1))
  return make


@pytest.fixture
def generic_values():
  """A function that draws parameters for a learner, by NumPy: none is zero or one.

  At the initial values offsets are 0 and scales are 1, where a gradient can be
  right by chance.
  """
  def draw(learner, seed=0, dtype='float64'):
    random = np.random.RandomState(seed)
    values = {}
    for spec in learner.parameter_specs:
      fan_in = int(np.prod(spec.shape[:-1])) if len(spec.shape) > 1 else 10
      value = random.normal(size=spec.shape) * fan_in ** -0.5
      values[spec.name] = (value + spec.name.endswith('gamma')).astype(dtype)
    return values
  return draw


@pytest.fixture(scope='session')
def sample_data(tmp_path_factory):
  """A function that gives the folder of a small prepared set: read only."""
  from data_scripts import make_sample_data, preparation
  folders = {}

  def folder_of(datasource):
    if datasource not in folders:
      folders[datasource] = str(tmp_path_factory.mktemp('data') / datasource)
      make_sample_data.write_prepared(datasource, folders[datasource],
                                      preparation.Layout(5, 4, 4, 5), seed=0)
    return folders[datasource]
  return folder_of


@pytest.fixture
def small_config(sample_data, tmp_path):
  """A function that makes the `Config` of a small run, which writes below `tmp_path`."""
  from maml_tf.config import resolve
  images = dict(num_classes=3, num_filters=4, train_query_size=2, num_test_tasks=4,
                num_validation_tasks=2, test_num_updates=2)
  small = {
      'sinusoid': dict(meta_batch_size=4, num_test_tasks=6, num_validation_tasks=4,
                       update_lr=0.01, test_num_updates=2),
      'omniglot': dict(meta_batch_size=3, **images),
      'miniimagenet': dict(meta_batch_size=2, num_updates=2, **images),
  }

  def make(datasource='sinusoid', **given):
    values = dict(datasource=datasource, logdir=str(tmp_path / 'logs'), **small[datasource])
    if datasource != 'sinusoid':
      values['data_dir'] = sample_data(datasource)
    return resolve({**values, **given})
  return make


@pytest.fixture
def read_events():
  """A function that reads a folder's TensorBoard files: {tag: [(step, tensor), ...]}."""
  import tensorflow as tf

  def read(folder):
    found = {}
    for path in sorted(tf.io.gfile.glob(f'{folder}/events*')):
      for record in tf.data.TFRecordDataset(path):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
          found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found
  return read


@pytest.fixture(scope='session')
def forks():
  """Starts processes that can be killed; see `forked`."""
  import forked
  if not hasattr(os, 'fork'):
    pytest.skip('this system has no fork')
  with forked.Forks() as started:
    yield started


@pytest.fixture
def disk_limit(capsys):
  """A context manager in which every file ends at that many bytes, as on a full disk.

  What is printed is kept in memory meanwhile (`capsys`), not in a file.
  """
  resource = pytest.importorskip('resource')

  @contextlib.contextmanager
  def limit(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
  return limit
