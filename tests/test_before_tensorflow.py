"""What TensorFlow reads while it is loaded."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from maml_tf import before_tensorflow
from maml_tf.before_tensorflow import set_environment

ROOT = Path(__file__).parent.parent
LOG, KERNELS = 'TF_CPP_MIN_LOG_LEVEL', 'TF_ENABLE_ONEDNN_OPTS'
# An entry point as far as the import of TensorFlow, which is seen and refused.
AS_FAR_AS_TENSORFLOW = """
import os, sys
class Watch:
  def find_spec(self, name, path=None, target=None):
    if name == 'tensorflow':
      print('SEEN', os.environ.get('TF_CPP_MIN_LOG_LEVEL'),
            os.environ.get('TF_ENABLE_ONEDNN_OPTS'), flush=True)
      os._exit(0)
sys.meta_path.insert(0, Watch())
import importlib
sys.argv = {argv!r}
module = importlib.import_module({module!r})
module.main({argument!r})
print('TensorFlow was not imported')
"""


@pytest.mark.parametrize('machine, kernels', [
    ('x86_64', '1'), ('AMD64', '1'), ('aarch64', None), ('arm64', None)])
def test_the_kernels_are_asked_for_where_there_are_some(machine, kernels, monkeypatch):
  monkeypatch.setattr(platform, 'machine', lambda: machine)
  for name in (LOG, KERNELS):
    monkeypatch.setenv(name, '')   # to be put back, or taken away again
    monkeypatch.delenv(name)
  set_environment()
  assert (os.environ[LOG], os.environ.get(KERNELS)) == ('3', kernels)


def test_what_the_user_has_set_stays(monkeypatch):
  monkeypatch.setenv(LOG, '1')
  monkeypatch.setenv(KERNELS, '0')
  set_environment()
  assert (os.environ[LOG], os.environ[KERNELS]) == ('1', '0')


@pytest.mark.parametrize('module, arguments', [
    ('main', ['main.py']), ('maml_tf.benchmark', ['benchmark', '--steps=2']),
    ('maml_tf.export_step', ['export_step', '--out=nowhere']),
    ('maml_tf.verify', ['--row=sinusoid_5shot', '--train']),
    ('maml_tf.verify', ['--report'])])
def test_entry_points_set_it_in_time(module, arguments, monkeypatch):
  for name in (LOG, KERNELS):   # which these tests have set for themselves
    monkeypatch.delenv(name, raising=False)
  script = AS_FAR_AS_TENSORFLOW.format(argv=arguments, module=module, argument=arguments)
  done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, text=True,
                        capture_output=True, check=True)
  expected = '1' if platform.machine() in ('x86_64', 'AMD64') else 'None'
  assert done.stdout.split()[-3:] == ['SEEN', '3', expected]


@pytest.mark.parametrize('limit, said', [
    (None, ''), (before_tensorflow.ENOUGH, ''), (1500000 << 10, 'may have 1,464 MiB')])
def test_little_address_space_is_said_before(limit, said, monkeypatch, capsys):
  """Where TensorFlow gets none its last words are not about memory."""
  monkeypatch.setattr(before_tensorflow, 'address_space', lambda: limit)
  before_tensorflow.load_tensorflow()
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == bool(said)


def test_the_limit_of_the_shell_is_known():
  resource = pytest.importorskip('resource')
  script = ('import resource\n'
            'from maml_tf.before_tensorflow import address_space\n'
            'print(address_space())\n'
            'resource.setrlimit(resource.RLIMIT_AS, (1 << 31, resource.RLIM_INFINITY))\n'
            'print(address_space())\n')
  unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                        cwd=Path(__file__).parent.parent, timeout=600, check=True)
  first, second = done.stdout.split()
  assert second == str(1 << 31) and (first == 'None') == unlimited


@pytest.mark.parametrize('system, unit', [('linux', 1 << 10), ('darwin', 1)])
def test_the_peak_of_memory_is_in_mib_where_the_system_counts_in_bytes_too(system, unit,
                                                                           monkeypatch):
  usage = SimpleNamespace(ru_maxrss=(300 << 20) // unit)
  monkeypatch.setattr(sys, 'platform', system)
  monkeypatch.setitem(sys.modules, 'resource', SimpleNamespace(
      RUSAGE_SELF=0, getrusage=lambda _: usage))
  assert before_tensorflow.peak_memory() == 300
  monkeypatch.setitem(sys.modules, 'resource', None)   # as on Windows
  assert before_tensorflow.peak_memory() is None
