"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ('maml_tf', 'flags', 'data_scripts')


def modules_with_examples(root=ROOT):
  """Names; a module without an example is not even imported."""
  for package in PACKAGES:
    for path in sorted((root / package).rglob('*.py')):
      if '>>> ' in path.read_text(encoding='utf-8'):
        name = '.'.join(path.relative_to(root).with_suffix('').parts)
        yield name[:-len('.__init__')] if name.endswith('.__init__') else name


@pytest.mark.parametrize('name', modules_with_examples())
def test_the_examples_of_a_module(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS
                           | doctest.NORMALIZE_WHITESPACE)
  assert result.attempted and not result.failed


def test_examples_are_found_and_fail(tmp_path, monkeypatch):
  """There need not be any; so this looks whether any would be run."""
  for package in PACKAGES:
    (tmp_path / package).mkdir()
  (tmp_path / 'flags' / 'no_example.py').write_text('"""Nothing."""\n')
  (tmp_path / 'flags' / '__init__.py').write_text('"""\n>>> 1 + 1\n3\n"""\n')
  assert list(modules_with_examples(tmp_path)) == ['flags']
  namespace = {'__doc__': (tmp_path / 'flags' / '__init__.py').read_text().strip('"\n')}
  test = doctest.DocTestParser().get_doctest(namespace['__doc__'], {}, 'x', None, None)
  assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
