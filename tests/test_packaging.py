"""`pip install .`: what pyproject.toml and setup.py say. No network, nothing is installed."""

from __future__ import annotations

import importlib
import platform
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import maml_tf
from maml_tf.paper import records
from maml_tf.paper.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
tomllib = pytest.importorskip('tomllib', reason='Python 3.11 has it')
PYTHONS = [f'3.{minor}' for minor in range(9, 14)]


@pytest.fixture(scope='module')
def project():
  with open(ROOT / 'pyproject.toml', 'rb') as file:
    return tomllib.load(file)['project']


@pytest.fixture
def packed(monkeypatch):
  """{package: the files that are installed of it} by setup.py."""
  given = {}
  monkeypatch.setattr(setuptools, 'setup', lambda **values: given.update(values))
  monkeypatch.chdir(ROOT)
  runpy.run_path(str(ROOT / 'setup.py'))
  files = {}
  for package in given['packages']:
    folder = ROOT / given['package_dir'].get(package, package.replace('.', '/'))
    patterns = ['*.py', *given['package_data'].get(package, [])]
    files[package] = {str(path.relative_to(folder)) for pattern in patterns
                      for path in folder.glob(pattern)}
  return files


def test_every_module_flagfile_and_plan_is_installed(packed):
  for top in ('maml_tf', 'flags', 'data_scripts'):
    for path in (ROOT / top).rglob('*'):
      if path.suffix in ('.py', '.flags', '.csv'):
        package = '.'.join(path.parent.relative_to(ROOT).parts)
        assert path.name in packed[package], path
  assert not [package for package in packed if package.startswith('tests')]


def test_the_records_and_weights_are_installed_and_nothing_else_of_the_results(packed):
  results = packed['maml_tf.results']
  assert {Path(name).suffix for name in results} == {'.json', '.npz'}
  assert not [name for name in results if '.run' in name]
  for row in ROWS:
    for seed in records.seeds(row, '.npz', records.IN_REPOSITORY):
      assert {f'{row.name}/seed{seed}.npz', f'{row.name}/seed{seed}.json'} <= results


@pytest.mark.parametrize('python', PYTHONS)
def test_what_requirements_txt_pins_is_allowed(project, python):
  """On every Python, and nothing that is needed is missing there."""
  pins = {}
  for line in (ROOT / 'requirements.txt').read_text().splitlines():
    if line and not line.startswith('#'):
      pin = Requirement(line)
      if pin.marker is None or pin.marker.evaluate({'python_version': python}):
        pins[pin.name] = re.fullmatch(r'==([\w.]+)', str(pin.specifier))[1]
  extras = project['optional-dependencies']
  for text in [*project['dependencies'], *extras['test'], *extras['addons']]:
    needed = Requirement(text)
    if needed.marker is None or needed.marker.evaluate({'python_version': python}):
      assert needed.specifier.contains(pins[needed.name]), (python, text)
  assert SpecifierSet(project['requires-python']).contains(f'{python}.1')


@pytest.mark.parametrize('python', PYTHONS)
def test_the_lock_has_what_requirements_txt_pins(python):
  """And no index by name, nor anything without its hashes."""
  text = (ROOT / 'requirements.lock').read_text()
  entries = [entry for entry in re.split(r'\n(?=\w)', re.sub('(?m)^#.*\n', '', text)) if entry]
  locked = {}
  for entry in entries:
    requirement, *hashes = entry.replace(' \\', '').strip().splitlines()
    assert hashes and all(re.fullmatch(r' *--hash=sha256:[0-9a-f]{64}', one) for one in hashes)
    pin = Requirement(requirement)
    if pin.marker is None or pin.marker.evaluate({'python_version': python,
                                                  'python_full_version': f'{python}.1',
                                                  'sys_platform': 'linux',
                                                  'platform_machine': 'x86_64'}):
      locked[pin.name] = str(pin.specifier)
  for line in (ROOT / 'requirements.txt').read_text().splitlines():
    if line and not line.startswith('#'):
      pin = Requirement(line)
      if pin.marker is None or pin.marker.evaluate({'python_version': python,
                                                    'sys_platform': 'linux',
                                                    'platform_machine': 'x86_64'}):
        assert locked[pin.name] == str(pin.specifier)
  assert '://' not in text


def test_the_version_is_that_of_the_package(project):
  assert maml_tf.__version__ == project['version']
  done = subprocess.run([sys.executable, 'main.py', '--version'], capture_output=True,
                        text=True, cwd=ROOT, timeout=600, check=True)
  assert done.stdout == f'maml-tf {maml_tf.__version__}, Python {platform.python_version()}\n'


def test_a_python_without_tensorflow_is_refused_by_pip(project):
  for python in ('3.8.20', '3.14.0'):
    assert not SpecifierSet(project['requires-python']).contains(python)


def test_the_command_is_there(project):
  module, function = project['scripts']['maml-tf'].split(':')
  assert callable(getattr(importlib.import_module(module), function))


def test_an_installed_copy_writes_nothing_into_itself(monkeypatch, tmp_path, capsys):
  from maml_tf import verify
  monkeypatch.setattr(records, 'RESULTS', str(tmp_path / 'maml_tf' / 'results'))
  monkeypatch.setattr(verify.train_all, 'run', lambda *_: 0)
  for arguments in (['--report'], ['--row=sinusoid_5shot', '--test'], ['--study=omniglot'],
                    ['--train-all']):
    assert verify.main(arguments) == 2
    assert '--results=FOLDER is needed' in capsys.readouterr().err


BROKEN = """
import sys
for name in {missing!r}:
  sys.modules[name] = None   # makes `import` fail
from maml_tf import before_tensorflow
before_tensorflow.NEWEST_PYTHON = {newest!r}
sys.argv = ['main.py']
import main
sys.exit(main.main(sys.argv))
"""


@pytest.mark.parametrize('missing', [['tensorflow'], ['absl', 'tensorflow']])
@pytest.mark.parametrize('newest, said', [
    ((3, 99), 'pip install -r requirements.txt'),
    ((3, 8), 'There is no TensorFlow for Python')])   # as 3.14 is to 3.13
def test_without_tensorflow_there_is_one_sentence(missing, newest, said):
  done = subprocess.run(
      [sys.executable, '-c', BROKEN.format(missing=missing, newest=newest)], cwd=ROOT,
      capture_output=True, text=True, check=False)
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr.count('\n') == 1 and done.stderr.startswith('main.py: ')
  assert said in done.stderr


def test_a_flagfile_of_the_project_is_found_from_everywhere(tmp_path, monkeypatch):
  import flags
  monkeypatch.chdir(tmp_path)
  config = flags.parse(['x', '--flagfile=flags/sinusoid_5shot.flags'])
  assert config.training.metatrain_iterations == 70000
  # One that is there comes first.
  (tmp_path / 'flags').mkdir()
  (tmp_path / 'flags' / 'sinusoid_5shot.flags').write_text('--metatrain_iterations=7\n')
  config = flags.parse(['x', '--flagfile=flags/sinusoid_5shot.flags'])
  assert config.training.metatrain_iterations == 7
