"""The pages: every command is run or says why not, every link leads somewhere.

In front of each block of shell or Python stands one of these comments:

  <!-- run -->                   it is run here, in a temporary folder
  <!-- run: --FLAG=VALUE ... --> so, with these flags added to each `main.py`
  <!-- not run: REASON -->       it is not, and why; a test that the reason names exists
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import flags

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')]
PAGES += sorted((ROOT / 'docs').rglob('*.md'))
RESULTS = sorted((ROOT / 'results').glob('*.md'))
BLOCK = re.compile(r'(?:<!--(?P<mark>(?:(?!-->).)*)-->\n)?'
                   r'```(?P<language>\w*)\n(?P<code>.*?)^```', re.DOTALL | re.MULTILINE)
RUNNABLE = ('sh', 'bash', 'shell', 'console', 'python', 'py')
# What stands for something else in a command.
PLACEHOLDERS = {'NAME': 'sinusoid_5shot', 'METHOD': 'anil', 'S': '0', 'N': '10'}


class Block(NamedTuple):
  page: Path
  language: str
  mark: str
  code: str

  @property
  def is_run(self) -> bool:
    return self.mark == 'run' or self.mark.startswith('run:')


def blocks_of(page):
  return [Block(page, found['language'], ' '.join((found['mark'] or '').split()),
                found['code']) for found in BLOCK.finditer(page.read_text(encoding='utf-8'))]


BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language in RUNNABLE]


def names(blocks):
  return [f'{block.page.stem}-{index}' for index, block in enumerate(blocks)]


@pytest.mark.parametrize('block', BLOCKS, ids=names(BLOCKS))
def test_every_block_is_run_or_says_why_not(block):
  assert block.is_run or re.match(r'not run: .{4,}', block.mark), (
      f'{block.page.name}: no mark in front of\n{block.code}')
  for test in re.findall(r'tests/\w+\.py', block.mark):
    assert (ROOT / test).is_file()


def test_no_block_lacks_a_language():
  """As one without would escape all of this."""
  for page in PAGES:
    for block in blocks_of(page):
      assert block.language in (*RUNNABLE, 'text', 'bibtex', 'json'), (page, block.code)


# --- what is run

PYTHON = [block for block in BLOCKS if block.is_run and block.language == 'python']
SHELL = [block for block in BLOCKS if block.is_run and block.language == 'sh']


# Keras 3 warns that it does not shuffle a dataset, which a page need not say.
@pytest.mark.filterwarnings('ignore:`shuffle=True` was passed')
@pytest.mark.parametrize('block', PYTHON, ids=names(PYTHON))
def test_python(block, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    exec(compile(block.code, str(block.page), 'exec'), {'__name__': '__main__'})


@pytest.mark.parametrize('block', SHELL, ids=names(SHELL))
def test_shell(block, tmp_path):
  """Each line, in a folder that shows the repository's own, and where `logs/` is new."""
  for name in ('main.py', 'flags', 'maml_tf', 'data_scripts', 'results'):
    (tmp_path / name).symlink_to(ROOT / name)
  added = block.mark.partition(':')[2].split()
  for command in commands(block.code):
    program, *words = command.split()
    assert program == 'python', command
    words += added if words[0] == 'main.py' else []
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True,
                          text=True, check=False, env={**os.environ, 'HOME': str(tmp_path)})
    assert done.returncode == 0, f'{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'


def commands(code):
  """The lines of a block, without comments, continued ones in one."""
  lines = (line.split('   #')[0].strip() for line in code.replace('\\\n', ' ').splitlines())
  return [line for line in lines if line and not line.startswith('#')]


# --- what is not run is a command that there is

def _main_commands():
  found = set()
  for page in PAGES:
    text = page.read_text(encoding='utf-8')
    lines = [line for block in blocks_of(page) if block.language in RUNNABLE
             for line in commands(block.code)]
    lines += [' '.join(code.split()) for code in re.findall(
        r'(?<!`)`((?:\.venv/bin/)?python main\.py[^`]*)`', text)]
    found |= {(page.name, line.partition('main.py')[2].strip()) for line in lines
              if 'main.py ' in line and 'pip install' not in line}
  return sorted(found)


@pytest.mark.parametrize('page, arguments', _main_commands())
def test_command_lines_of_main_parse(page, arguments):
  words = re.sub(r'\[[^]]*\]', '', arguments).split()
  if '--help' in words:
    return
  flags.parse(['main.py', *map(_filled_in, words)])


def _filled_in(word):
  flag, _, value = word.partition('=')
  for placeholder, given in PLACEHOLDERS.items():
    value = re.sub(rf'\b{placeholder}\b', given, value)
  if flag == '--flagfile':
    value = str(ROOT / value)
  return f'{flag}={value}' if value else flag


@pytest.mark.parametrize('command', sorted({
    line for block in BLOCKS for line in commands(block.code)
    if 'main.py' not in line and line.startswith('python ')}))
def test_other_commands_are_those_of_a_file_that_knows_their_options(command):
  _, *words = command.split()
  path = ROOT / (words[1].replace('.', '/') + '.py' if words[0] == '-m' else words[0])
  if words[:2] == ['-m', 'pytest']:
    return
  source = path.read_text(encoding='utf-8')
  if 'data_scripts' in path.parts:   # what they share
    source += (path.parent / 'preparation.py').read_text(encoding='utf-8')
  if 'add_trained' in source:   # what predict, retest and export share
    source += (ROOT / 'maml_tf' / 'predict.py').read_text(encoding='utf-8')
  known = set(re.findall(r"'(--\w+)'", source)) | {'--help'}
  if 'flags.main_config' in source:
    known |= {'--flagfile', *(f'--{name}' for name in flags.flag_names())}
  for option in re.findall(r'--\w+', command):
    assert option in known, f'{option} in: {command}'
  if path.stem == 'render':
    words = [word for word in words[2:] if not word.startswith(('--out=', '--task='))]
    assert flags.parse(['main.py', *map(_filled_in, words)]).problem.acts


# --- links

def _links():
  found = []
  for page in [*PAGES, *RESULTS]:
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    found += [(page.relative_to(ROOT).as_posix(), target)
              for target in re.findall(r'\]\(([^)\s]+)\)', text)
              if not re.match(r'https?:', target)]
  return sorted(set(found))


def test_every_link_leads_somewhere():
  for page, target in _links():
    path, _, anchor = target.partition('#')
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists(), f'{page}: {target}'
    if anchor:
      assert anchor in _anchors(file), f'{page}: {target}'


def _anchors(page):
  titles = re.findall(r'^#+ (.*)$', page.read_text(encoding='utf-8'), re.MULTILINE)
  return {re.sub(r'[\s-]+', '-', re.sub(r'[^\w\s-]', '', title.lower())).strip('-')
          for title in titles}


def test_the_navigation_has_every_page():
  text = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
  named = set(re.findall(r': ([\w/]+\.md)$', text, re.MULTILINE))
  pages = {page.relative_to(ROOT / 'docs').as_posix()
           for page in (ROOT / 'docs').rglob('*.md')}
  assert named == pages | {f'results/{page.name}' for page in RESULTS}


# --- the pages' numbers and lists are those of the code

def test_the_experiments_are_the_rows_with_the_papers_values():
  from maml_tf.paper.rows import ROWS
  text = (ROOT / 'docs/experiments.md').read_text(encoding='utf-8')
  for page in (ROOT / 'docs/methods.md', *(ROOT / 'docs/environments').glob('*.md')):
    text += page.read_text(encoding='utf-8')
  for row in ROWS:
    line, = [line for line in text.splitlines()
             if line.startswith('|') and f'`flags/{row.name}.flags`' in line]
    for value in row.paper.values():
      assert value in line, (row.name, value)


def test_the_flags_page_leaves_the_flags_to_the_help():
  text = (ROOT / 'docs/flags.md').read_text(encoding='utf-8')
  hooks = (ROOT / '.ci/docs_hooks.py').read_text(encoding='utf-8')
  mark = re.search(r"HELP_MARK = '(.*)'", hooks)[1]
  assert text.count(mark) == 1 and 'flags.help_text()' in hooks


def test_the_site_is_built_without_a_warning(tmp_path):
  """Where the extra `docs` is installed; `strict` in mkdocs.yml makes warnings errors."""
  pytest.importorskip('mkdocs')
  done = subprocess.run(
      [sys.executable, '-m', 'mkdocs', 'build', '--quiet', f'--site-dir={tmp_path / "site"}'],
      cwd=ROOT, capture_output=True, text=True, check=False,
      env={**os.environ, 'NO_MKDOCS_2_WARNING': '1', 'PYTHONDONTWRITEBYTECODE': '1'})
  assert done.returncode == 0, done.stderr
  page = (tmp_path / 'site/flags/index.html').read_text(encoding='utf-8')
  assert all(f'--{name}=' in page or f'--[no]{name}' in page for name in flags.flag_names())
  assert (tmp_path / 'site/results/figure_2.png').is_file()
