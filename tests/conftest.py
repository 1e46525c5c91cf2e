"""What several test modules need: small image splits, small episodes, a clean Keras.

And what none may do: use a network, or write elsewhere than in temporary folders.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from maml_tf.before_tensorflow import peak_memory, set_environment

# Before anything imports TensorFlow. Nothing here imports it at module level: the
# tests of the data scripts do without it.
set_environment()
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
if 'PYTEST_XDIST_WORKER' in os.environ:
  # Workers share the cores: more threads than that only disturb each other.
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')
  os.environ.setdefault('TF_NUM_INTEROP_THREADS', '1')

# Before hypothesis is imported: it keeps tables beside the tests.
os.environ.setdefault('HYPOTHESIS_STORAGE_DIRECTORY', os.path.join(
    tempfile.gettempdir(), f'maml_tf-hypothesis-{getattr(os, "getuid", int)()}'))

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# The same cases in every run of the tests; others, and many, with
# HYPOTHESIS_PROFILE=long.
_PROFILE = dict(deadline=None, database=None,
                suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile('short', max_examples=100, derandomize=True, **_PROFILE)
hypothesis.settings.register_profile('long', max_examples=1000, print_blob=True, **_PROFILE)
hypothesis.settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'short'))

REPOSITORY = Path(__file__).resolve().parent.parent
_HOSTS = ('127.0.0.1', '::1', 'localhost', '')
# Caches of Python, pytest and libraries.
_CACHES = [os.path.expanduser(folder) for folder in ('~/.cache', '~/.config', '~/.keras')]
_CACHES += [os.environ[name] for name in ('XDG_CACHE_HOME', 'MPLCONFIGDIR')
            if name in os.environ]
_CACHES += [str(REPOSITORY / '.pytest_cache')]
_TEMPORARY = ['/dev', '/proc', tempfile.gettempdir(), os.path.realpath(tempfile.gettempdir())]
_written_outside: list = []


def load_example(name):
  """The module of `examples/NAME.py`, which is no package."""
  spec = importlib.util.spec_from_file_location(name, REPOSITORY / 'examples' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def pytest_configure(config):
  if config.pluginmanager.hasplugin('xdist'):
    config.pluginmanager.register(_OfWorkers())
  if config.option.basetemp:
    _CACHES.append(os.path.realpath(config.option.basetemp))
  sys.addaudithook(_watch)
  # A shell ignores Ctrl-C on behalf of what it starts in the background, and so would
  # whatever the tests start, and interrupt.
  if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _watch(event, arguments):
  """Sees what Python does: raises for a network, notes what is written elsewhere."""
  check = _CHECKS.get(event)
  if check is not None:
    check(*arguments)


def _check_address(_, address):
  if isinstance(address, tuple):   # the others are sockets in the file system
    _check_host(address[0])


def _check_host(host, *_):
  if host is not None and os.fsdecode(host) not in _HOSTS:
    raise RuntimeError(f'A test uses the network: {host!r}.')


def _check_open(path, mode, flags):
  writes = any(letter in mode for letter in 'wax+') if isinstance(mode, str) else (
      (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
  if writes:
    _check_written(path)


def _check_written(path, *others):
  # A folder's descriptor, the last argument, is of a folder that was opened before.
  if isinstance(path, int) or (others and isinstance(others[-1], int) and others[-1] >= 0):
    return
  path = os.path.abspath(os.fsdecode(path))
  # The repository may itself stand in a temporary folder.
  if '__pycache__' not in path and not _is_in(path, _CACHES) and (
      _is_in(path, [str(REPOSITORY)]) or not _is_in(path, _TEMPORARY)):
    _written_outside.append(path)


def _is_in(path, folders):
  return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _check_rename(source, target, source_folder=-1, target_folder=-1):
  _check_written(source, source_folder)
  _check_written(target, target_folder)


_CHECKS = {
    'socket.connect': _check_address, 'socket.sendto': _check_address,
    'socket.getaddrinfo': _check_host, 'socket.gethostbyname': _check_host,
    'socket.gethostbyaddr': _check_host,
    'open': _check_open, 'os.mkdir': lambda path, _, folder=-1: _check_written(path, folder),
    'os.remove': _check_written, 'os.rmdir': _check_written, 'os.rename': _check_rename,
    'os.link': lambda _, path, *folders: _check_written(path, *folders),
    'os.symlink': lambda _, path, *folders: _check_written(path, *folders),
    'os.truncate': lambda path, _: _check_written(path)}


@pytest.fixture
def written_outside():
  """What the test wrote outside of temporary folders, by Python; to be emptied by it."""
  return _written_outside


@pytest.fixture(autouse=True)
def _as_in_a_terminal():
  """Whoever runs the tests may ignore SIGHUP, as `nohup` does; a test that waits for what
  comes of it would wait for ever."""
  from maml_tf import interruptions
  before = {number: signal.getsignal(number) for number in interruptions.REPEATED}
  for number in before:
    signal.signal(number, signal.SIG_DFL)
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _writes_in_temporary_folders_only():
  """TensorFlow writes without Python's knowledge: the repository is looked at, too."""
  before = set(os.listdir(REPOSITORY))
  yield
  appeared = set(os.listdir(REPOSITORY)) - before - {'.pytest_cache', '__pycache__'}
  written, _written_outside[:] = list(_written_outside), []
  assert not appeared and not written, f'a test wrote {sorted(appeared) + written}'


_peaks = []   # MiB of each worker, or of the one process


def pytest_sessionfinish(session):
  peak = peak_memory() or math.nan
  if hasattr(session.config, 'workeroutput'):
    session.config.workeroutput['peak'] = peak
  else:
    _peaks.append(peak)


def pytest_terminal_summary(terminalreporter):
  of_workers = _peaks[:-1] or _peaks   # the last one is this process
  peaks = ', '.join(f'{peak / 1024:.1f} GB' for peak in of_workers)
  terminalreporter.write_line(f'Peak memory: {peaks}')


class _OfWorkers:
  """A hook that exists with pytest-xdist alone."""

  def pytest_testnodedown(self, node, error):
    _peaks.append(getattr(node, 'workeroutput', {}).get('peak', math.nan))


def pytest_addoption(parser):
  parser.addoption('--kills', type=int, default=3, metavar='N',
                   help='how often test_killed_runs.py kills its run; default 3')


def pytest_collection_modifyitems(items):
  """Processes must give a test the same name, or pytest-xdist runs none of them."""
  for item in items:
    if ' at 0x' in item.nodeid:
      raise pytest.UsageError(f'{item.nodeid} needs an id that is not an address.')


_GROWTH = 150   # MB, after which it is worth looking for what is not used any more
_resident = 0.0   # MB, when that was done last


@pytest.fixture(autouse=True)
def _let_graphs_go():
  """Graphs are large, and of few Python objects: Python would not look for them."""
  yield
  if 'tensorflow' in sys.modules and _resident_now() > _resident + _GROWTH:
    _collect()


def _collect():
  global _resident
  gc.collect()
  with contextlib.suppress(OSError, AttributeError):   # what was freed goes back
    ctypes.CDLL('libc.so.6').malloc_trim(0)
  _resident = _resident_now()


def _resident_now():
  try:
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE') / 1e6
  except OSError:   # not on Linux
    return 0.0


@pytest.fixture(scope='module', autouse=True)
def _clear_keras():
  """No layer names, graphs or float type are handed on from module to module."""
  yield
  if 'tensorflow' in sys.modules:
    keras = sys.modules['tensorflow'].keras
    keras.backend.clear_session()
    _collect()
    assert keras.backend.floatx() == 'float32', 'a test left another default float type'


@pytest.fixture
def shared_data():
  """The folder with the real data sets."""
  folder = REPOSITORY.parent / 'shared' / 'data'
  if not folder.is_dir():
    pytest.skip('the real data sets are not beside the repository')
  return folder


@pytest.fixture
def figures_of(monkeypatch):
  """A function that gives the list of the figures that modules make from then on, to look at
  what was drawn."""
  from matplotlib.figure import Figure

  def recorded(*modules):
    made = []

    class Recorded(Figure):
      def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        made.append(self)
    for module in modules:
      monkeypatch.setattr(module, 'Figure', Recorded)
    return made
  return recorded


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
    return Episodes.of(inputs(ways * shots), labels(shots),
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
    return Episodes.of(part(examples, num_inputs), part(examples, 1),
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
  from data_scripts import make_sample_data
  from data_scripts.plan import Layout
  folders = {}

  def folder_of(datasource):
    if datasource not in folders:
      folders[datasource] = str(tmp_path_factory.mktemp('data') / datasource)
      make_sample_data.write_prepared(datasource, folders[datasource],
                                      Layout(5, 4, 4, 5), seed=0)
    return folders[datasource]
  return folder_of


@pytest.fixture
def small_config(sample_data, tmp_path):
  """A function that makes the `Config` of a small run, which writes below `tmp_path`."""
  from maml_tf.config import resolve
  from maml_tf.meta_learners import WITHOUT_INNER_LOOP
  images = dict(num_classes=3, num_filters=4, train_query_size=2, num_test_tasks=4,
                num_validation_tasks=2, test_num_updates=2)
  small = {
      'sinusoid': dict(meta_batch_size=4, num_test_tasks=6, num_validation_tasks=4,
                       update_lr=0.01, test_num_updates=2, xla='off'),
      'omniglot': dict(meta_batch_size=3, **images),
      'miniimagenet': dict(meta_batch_size=2, num_updates=2, **images),
  }

  def make(datasource='sinusoid', **given):
    values = dict(datasource=datasource, logdir=str(tmp_path / 'logs'), **small[datasource])
    if datasource != 'sinusoid':
      values['data_dir'] = sample_data(datasource)
    if given.get('method') in WITHOUT_INNER_LOOP:
      values = {name: value for name, value in values.items() if 'num_updates' not in name}
      values.update(train_num_classes=3)   # of the 5 that there are
    if not given.get('conv', True):
      values.pop('num_filters', None)   # there are none
    return resolve({**values, **given})
  return make


@pytest.fixture
def read_events():
  """A function that reads a run's TensorBoard files: {tag: [(step, tensor), ...]}, where the
  tags of a folder below have its name in front: 'train: loss/after_1'. Without the text of the
  configuration, which names folders."""
  import tensorflow as tf

  def read(folder, text=False):
    found = {}
    for path in sorted(Path(folder).rglob('events*')):
      part = '' if path.parent == Path(folder) else f'{path.parent.name}: '
      for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
          if text or value.tag != 'configuration':
            found.setdefault(part + value.tag, []).append(
                (event.step, tf.make_ndarray(value.tensor)))
    return found
  return read


@pytest.fixture
def make_record(tmp_path):
  """A function that writes the result files of a row and seed: record, history, weights.

  `values`: (mean, ci95) of the query set after 0, 1, ... updates, from 0 to 1 for
  accuracies.
  """
  from maml_tf.paper import records

  def make(row, seed=0, values=((0.2, 0.01), (0.9, 0.02)), trained=100, planned=100,
           **given):
    measure = row.problem.measure.name
    measured = [{measure: {'mean': mean, 'std': 1.0, 'ci95': ci95}} for mean, ci95 in values]
    names = ['update0_query', *(f'update{update}' for update in range(1, len(values)))]
    fields = {
        'row': row.name, 'seed': seed, 'measure': measure,
        'iterations': {'trained': trained, 'planned': planned},
        'tested': {'checkpoint': f'best/model-{trained}', 'chosen_by': 'validation score',
                   'iteration': trained, 'split': 'test', 'episodes_fingerprint': 'f',
                   'seconds': 1.0},
        'times_tested': 1, 'num_tasks': 600,
        'updates': {'update0_support': measured[0], **dict(zip(names, measured))},
        'first_episodes': {'count': 0, 'episodes_fingerprint': 'f', 'values': []},
        'weights': {'sha256': 'f', 'parameters': 1},
        'training': {'seconds': 125.0, 'iterations': trained},
        'machine': {'cpu': 'A processor', 'cores': 2, 'gpu': None},
        'versions': {'tensorflow': '2.15.1'}, 'commit': '0123456789abcdef',
        'date': '2025-01-31', 'config': {}, **given}
    results = str(tmp_path / 'results')
    records.write(row, fields, results)
    records.write_text(
        records.file_of(row, seed, '.history.csv', results),
        'iteration,iterations,seconds,executions,loss,accuracy,val_support_loss,'
        f'val_{measure}_0,val_{measure}_1\n50,50,1.5,50,3.0,0.5,4.0,0.2,0.6\n'
        '100,50,1.5,50,2.0,0.7,3.0,0.2,0.8\n')
    return results
  return make


@pytest.fixture(scope='session')
def forks():
  """Starts processes that can be killed; see `forked`."""
  import forked
  if not os.path.exists('/proc/self/stat'):
    pytest.skip('what becomes of a process is read from /proc, as Linux has it')
  with forked.Forks() as started:
    yield started


@pytest.fixture(scope='session')
def git():
  """A function: a folder and the arguments of `git` there -> what it prints. Commits are
  nobody's, and are not signed, whatever whoever runs the tests has configured."""
  if shutil.which('git') is None:
    pytest.skip('git is not installed')

  def run(folder, *arguments):
    return subprocess.run(
        ['git', '-c', 'user.name=n', '-c', 'user.email=e', '-c', 'commit.gpgsign=false',
         *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
  return run


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
