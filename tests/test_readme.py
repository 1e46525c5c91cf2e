"""The README: short, its commands are the ones that are run, its table is that of verify."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')
PAGES = {path.name: path.read_text(encoding='utf-8')
         for path in [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]}
ALL = '\n'.join(PAGES.values())


def test_it_has_two_screens():
  assert len(README.splitlines()) <= 150


def test_ci_runs_the_test_command_of_the_readme_word_for_word():
  """But in an environment of its own: a developer's stays as it is."""
  commands = [line for line in _code_lines() if line.endswith('-m pytest -n 2')]
  assert len(commands) == 1
  command = commands[0].replace('.venv', '.venv-ci')
  ci = (ROOT / '.ci/run').read_text(encoding='utf-8')
  assert f'\n{command} || failed=1\n' in ci
  assert not re.search(r'\.venv(?!-ci)[/ ]', re.sub(r'^#.*$', '', ci, flags=re.MULTILINE))


def test_the_tables_are_what_verify_writes(tmp_path):
  """Of the front page, and of each environment's."""
  from maml_tf import verify
  from maml_tf.paper.rows import ROWS
  from maml_tf.verification import report
  pages = verify._pages(ROWS)
  assert len(pages) == 6
  for path, table in pages.items():
    text = Path(path).read_text(encoding='utf-8')
    copy = tmp_path / 'page.md'
    copy.write_text(text, encoding='utf-8')
    report.write_table(str(copy), table)
    assert copy.read_text(encoding='utf-8') == text, (
        f'the table of {path} differs from what `python -m maml_tf.verify --report` writes')


@pytest.mark.parametrize('path', sorted(set(re.findall(
    r'(?:flags/(?!NAME)\w+\.flags|(?:data_scripts|maml_tf|tests|notebooks|\.ci)/[\w/]+\.\w+)',
    ALL))))
def test_files_that_the_pages_name_exist(path):
  assert (ROOT / path).is_file()


def test_the_pages_name_every_flagfile():
  for flagfile in (ROOT / 'flags').glob('*.flags'):
    assert f'flags/{flagfile.name}' in ALL


def test_it_says_how_many_rows_have_a_command():
  from maml_tf.paper.rows import ROWS
  assert f'| yes, {len(ROWS)} |' in README


def test_the_pins_of_the_newest_tensorflow_are_those_of_python_3_12():
  newest = _pins(ROOT / '.ci/requirements-newest.txt', python_3_12=True)
  assert newest == _pins(ROOT / 'requirements.txt', python_3_12=True)
  assert 'tensorflow-addons' not in newest


def _code_lines():
  blocks = re.findall(r'```\w*\n(.*?)```', README, re.DOTALL)
  return [line for block in blocks for line in block.splitlines()]


def _pins(path, python_3_12):
  pins = {}
  for line in path.read_text(encoding='utf-8').splitlines():
    match = re.match(
        r'([\w-]+)==([\w.]+)(?:; python_version (<|>=) "3\.12"(?: and .*)?)?$', line)
    if match and match[3] in (None, '>=' if python_3_12 else '<'):
      pins[match[1]] = match[2]
  return pins
