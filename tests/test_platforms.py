"""The table of platforms: what is made of uv's answers. No network here."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location('platforms', ROOT / '.ci/platforms.py')
platforms = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(platforms)

# What uv 0.13.9 says.
ONE = ("error: No solution found when resolving dependencies\n  cause: Because "
       "tensorflow-addons{python_full_version < '3.12'}==0.23.0 has no wheels with a matching "
       'platform tag (e.g., `win_amd64`) and you require '
       "tensorflow-addons{python_full_version < '3.12'}==0.23.0, we can conclude that "
       'your requirements are unsatisfiable.\n')
NOTHING = 'error: Request failed after 3 retries\n  cause: dns error\n'


def test_what_has_no_wheel_is_named():
  assert platforms.cell(ONE) == 'no: tensorflow-addons 0.23.0'


def test_no_answer_is_no_no():
  with pytest.raises(platforms.NotAnswered, match='dns error'):
    platforms.cell(NOTHING)


@pytest.fixture
def uv(monkeypatch):
  """A function that sets what uv answers: {Python's version: text of the failure}."""
  asked = []

  def answer(failures):
    def run(command, **_):
      asked.append(command)
      python = command[-2].partition('=')[2]
      return subprocess.CompletedProcess(command, int(python in failures), '',
                                         failures.get(python, ''))
    monkeypatch.setattr(platforms.subprocess, 'run', run)
    return asked
  return answer


def test_the_table(uv, capsys, tmp_path, monkeypatch):
  page = tmp_path / 'platforms.md'
  page.write_text(f'a\n{platforms.BEGIN}\nold\n{platforms.END}\nz\n')
  monkeypatch.setattr(platforms, 'PAGE', page)
  monkeypatch.setattr(platforms, 'ROOT', tmp_path)
  asked = uv({'3.14': ONE})
  assert platforms.main(['--write']) == 0
  out = capsys.readouterr().out
  row = '| Windows x86-64 | yes | yes | yes | yes | yes | no: tensorflow-addons 0.23.0 |'
  assert row in out.splitlines() and len(asked) == 30
  text = page.read_text()
  assert text.startswith('a\n') and text.endswith(f'{platforms.END}\nz\n')
  assert row in text and 'old' not in text


def test_without_a_network_nothing_is_written(uv, capsys, tmp_path, monkeypatch):
  page = tmp_path / 'platforms.md'
  page.write_text('as it was')
  monkeypatch.setattr(platforms, 'PAGE', page)
  monkeypatch.setattr(platforms, 'ROOT', tmp_path)
  uv({'3.9': NOTHING})
  assert platforms.main(['--write']) == 1
  assert 'dns error' in capsys.readouterr().err and page.read_text() == 'as it was'


def test_the_fingerprint_leaves_comments_out():
  assert platforms.fingerprint('# x\na==1\n') == platforms.fingerprint('a==1')
  assert platforms.fingerprint('a==1') != platforms.fingerprint('a==2')


def test_the_committed_table_is_of_the_committed_pins():
  pins = platforms.fingerprint(platforms.REQUIREMENTS.read_text(encoding='utf-8'))
  assert f'pins `{pins}`' in (ROOT / 'docs/platforms.md').read_text(encoding='utf-8'), (
      'requirements.txt was changed: `python .ci/platforms.py --write` asks again')
