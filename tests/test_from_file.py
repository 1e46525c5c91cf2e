"""FILE.py:NAME: what is found, and each of the ways in which it is not."""

import sys

import pytest

from maml_tf import from_file
from maml_tf.errors import ConfigError, UserError
from maml_tf.rl.gymnasium_tasks import INSTALL

WHAT = '--model'


@pytest.fixture
def own(tmp_path):
  """A function that writes a file of that text; its path."""
  def write(text, name='mine.py'):
    path = tmp_path / name
    path.write_text(text, encoding='utf-8')
    return str(path)
  return write


def test_the_attribute_is_loaded_and_the_file_run_once(own, tmp_path):
  counter = tmp_path / 'runs'
  path = own(f'with open({str(counter)!r}, "a") as file:\n  file.write("x")\n\n'
             'def build():\n  return 7\n')
  assert from_file.load(f'{path}:build', WHAT)() == 7
  assert from_file.load(f'{path}:build', WHAT) is from_file.load(f'{path}:build', WHAT)
  assert counter.read_text() == 'x'


def test_its_folder_is_searched_for_what_it_imports(own):
  own('VALUE = 3\n', name='beside_mine.py')
  path = own('from beside_mine import VALUE\n', name='importing.py')
  assert from_file.load(f'{path}:VALUE', WHAT) == 3


def test_two_files_of_one_name_are_two(tmp_path):
  for folder in ('a', 'b'):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'net.py').write_text(f'NAME = {folder!r}\n')
  assert [from_file.load(f'{tmp_path}/{folder}/net.py:NAME', WHAT)
          for folder in ('a', 'b')] == ['a', 'b']


def refusal(spec):
  with pytest.raises(UserError) as caught:
    from_file.load(spec, WHAT)
  assert isinstance(caught.value, ConfigError)
  text = str(caught.value)
  assert '\n' not in text and text.startswith(f'--model={spec}') and text.endswith('.')
  return text


def test_a_missing_file_is_refused():
  assert 'there is no file nowhere.py' in refusal('nowhere.py:build')


def test_a_missing_name_is_refused_with_those_that_there_are(own):
  text = refusal(own('def other():\n  pass\n_hidden = 1\n') + ':build')
  assert 'has no build: choose from other.' in text


@pytest.mark.parametrize('source, reason', [
    ('import os.no_such_module\n', 'ModuleNotFoundError: No module named'),
    ('def build(:\n', 'SyntaxError'),
    ('raise ValueError("two\\nlines")\n', 'ValueError: two lines'),
    ('import sys\nsys.exit(0)\n', "below `if __name__ == '__main__':`")])
def test_a_file_that_cannot_be_run_is_refused_each_time(own, source, reason):
  spec = own(source) + ':build'
  assert reason in refusal(spec)
  assert reason in refusal(spec)


def test_a_package_that_is_missing_is_named_and_no_fault_of_the_file(own):
  path = own('import no_such_one.inner\n')
  text = refusal(f'{path}:build')
  assert f'{path} needs the package no_such_one, which is not installed: install it' in text
  assert 'mend the file' not in text


def test_so_is_one_that_is_imported_later(own):
  spec = own('def build():\n  import no_such_package\n') + ':build'
  with pytest.raises(ConfigError, match='needs the package no_such_package, which is not'):
    from_file.called(spec, WHAT, from_file.load(spec, WHAT))


def test_without_gymnasium_it_is_said_how_to_install_it(own, monkeypatch):
  monkeypatch.setitem(sys.modules, 'gymnasium', None)   # as if it were not installed
  text = refusal(own('import gymnasium\n') + ':Thermostat')
  assert f'needs the package gymnasium, which is not installed: {INSTALL}.' in text


@pytest.mark.parametrize('spec', ['mine.py', 'mine:build', 'mine.txt:build', 'mine.py:',
                                  'mine.py:a b'])
def test_another_form_is_refused(spec):
  assert 'it must be FILE.py:NAME' in refusal(spec)


def test_what_is_such_a_spec():
  assert from_file.is_spec('my_net.py:build') and from_file.is_spec('my_net.py')
  assert not from_file.is_spec('resnet12')
