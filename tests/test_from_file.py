"""Functions and classes of a user's own file."""

from __future__ import annotations

import pytest

from maml_tf.errors import ConfigError
from maml_tf.from_file import load


def written(tmp_path, text, name='mine.py'):
  (tmp_path / name).write_text(text, encoding='utf-8')
  return str(tmp_path / name)


def test_what_a_file_defines_is_there_and_stays_the_same(tmp_path):
  written(tmp_path, 'SIZE = 3\n', 'beside.py')
  path = written(tmp_path, 'from beside import SIZE\nclass Env:\n  size = SIZE\n')
  found = load(f'{path}:Env', '--env')
  assert found.size == 3 and load(f'{path}:Env', '--env') is found


@pytest.mark.parametrize('text, spec, sentence', [
    ('', '{0}', 'it must be FILE.py:NAME'),
    ('', '{0}:', 'it must be FILE.py:NAME'),
    ('', 'nowhere.py:Env', 'there is no file'),
    ('def build(): pass\n_x = 1\nimport os\n', '{0}:Env', 'defines no Env; it defines build.'),
    ('a = 1\n', '{0}:Env', 'it defines nothing that could be called'),
    ('a = 1\nimport no_such_library\n', '{0}:Env',
     ", line 2, fails with ModuleNotFoundError: No module named 'no_such_library'"),
    ('a = (\n', '{0}:Env', 'line 1, fails with SyntaxError'),
    ('def f():\n  raise ValueError("a\\nb")\nf()\n', '{0}:Env',
     'line 2, fails with ValueError: a b.')])
def test_what_cannot_be_loaded_is_one_sentence(tmp_path, text, spec, sentence):
  spec = spec.format(written(tmp_path, text))
  with pytest.raises(ConfigError) as caught:
    load(spec, '--env')
  assert str(caught.value).startswith(f'--env={spec}') and sentence in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_file_that_failed_can_be_mended(tmp_path):
  path = written(tmp_path, 'raise ValueError\n')
  with pytest.raises(ConfigError):
    load(f'{path}:X', '--model')
  written(tmp_path, 'X = 5\n')
  assert load(f'{path}:X', '--model') == 5
