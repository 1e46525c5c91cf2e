"""What the commands beside `main.py` share: one sentence, under their own names."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from maml_tf import before_tensorflow, command_line

REPOSITORY = Path(__file__).parent.parent
# {command: what it must be given beside a mistake}.
NEEDED = {
    'maml_tf.benchmark': [], 'maml_tf.doctor': [], 'maml_tf.export': ['--run=x', '--out=x'],
    'maml_tf.export_step': ['--out=x'], 'maml_tf.matrix': [],
    'maml_tf.predict': ['--run=x', '--support=x', '--query=x'],
    'maml_tf.render': ['--out=x'], 'maml_tf.retest': ['--run=x'],
    'maml_tf.scaling': ['--task_ms=1', '--parameters=1'], 'maml_tf.verify': [],
    'maml_tf.legacy.compare': ['x.npz'], 'maml_tf.legacy.convert': ['--out=x'],
    'maml_tf.legacy.moments_effect': ['x.npz']}
# Without flags, with tests of their own, or for this project's own pages alone.
OTHERS = {
    'maml_tf.__main__', 'maml_tf.from_file',
    'maml_tf.keras_models.layer_table', 'maml_tf.keras_models.paper_net',
    'maml_tf.prediction.check_exported', 'maml_tf.rl.gymnasium_processes',
    'maml_tf.run_exported', 'maml_tf.verification.turn_process'}
# Numbers of each command's own.
NUMBERS = {
    'maml_tf.benchmark': ['--steps'], 'maml_tf.export_step': ['--steps'],
    'maml_tf.matrix': ['--tasks', '--query_sizes', '--updates'],
    'maml_tf.render': ['--task', '--updates'],
    'maml_tf.retest': ['--ways', '--shots', '--queries', '--tasks', '--updates'],
    'maml_tf.predict': ['--iteration', '--updates'],
    'maml_tf.scaling': ['--task_ms', '--overhead_ms', '--tasks'],
    'maml_tf.legacy.compare': ['--tolerance', '--tasks_at_once']}


def answer(module, arguments, capsys):
  """(exit code, what is on stderr) of the command."""
  command = importlib.import_module(module)
  takes_program = next(iter(inspect.signature(command.main).parameters.values())).default
  program = [module] if takes_program is inspect.Parameter.empty else []
  try:
    code = command.main(program + NEEDED[module] + arguments)
  except SystemExit as caught:
    code = caught.code
  return code, capsys.readouterr().err


def test_no_command_is_forgotten():
  commands = {'.'.join(path.relative_to(REPOSITORY).with_suffix('').parts)
              for path in (REPOSITORY / 'maml_tf').rglob('*.py')
              if "__name__ == '__main__'" in path.read_text(encoding='utf-8')}
  assert commands == NEEDED.keys() | OTHERS


@pytest.mark.parametrize('module, mistake', [
    *((module, '--no_such_flag=1') for module in sorted(NEEDED)),
    # retest looks for its run first.
    *((module, '--datasource=imagenet') for module in sorted(NEEDED.keys() - {
        'maml_tf.retest'}))])
def test_a_mistake_is_one_sentence_under_the_command_s_own_name(module, mistake, capsys):
  """Whether the command's own flags are wrong, or those that it shares with `main.py`."""
  code, error = answer(module, [mistake], capsys)
  assert code == 2
  assert error.startswith(f'{module}: ') and error.count('\n') == 1, error


def without_packages(*command):
  """The command by a Python that has none, as where the environment was forgotten."""
  return subprocess.run([sys.executable, '-S', *command], cwd=REPOSITORY, text=True,
                        capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize('module', sorted(NEEDED))
def test_without_packages_there_is_no_traceback(module):
  done = without_packages('-m', module, *NEEDED[module])
  assert done.returncode in (0, 1, 2) and 'Traceback' not in done.stdout + done.stderr


@pytest.mark.parametrize('command', [
    ['main.py'], ['-m', 'maml_tf'], ['-m', 'maml_tf.verify'], ['-m', 'maml_tf.benchmark'],
    ['-m', 'data_scripts.prepare_images', '--help'],
    *([f'data_scripts/{script}.py', '--help'] for script in (
        'make_sample_data', 'prepare_images', 'prepare_miniimagenet', 'prepare_omniglot'))])
def test_a_package_that_is_missing_is_one_sentence(command):
  done = without_packages(*command)
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr.count('\n') == 1
  assert 'A package that is needed cannot be imported (No module named ' in done.stderr
  assert 'pip install -r requirements.txt' in done.stderr


@pytest.mark.parametrize('error', [ModuleNotFoundError('a', name='maml_tf.typo'),
                                   ImportError('b', name='numpy'), ValueError('c')])
def test_other_errors_are_not_taken_for_a_missing_package(error, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'excepthook', sys.__excepthook__)   # put back behind the test
  before_tensorflow.explain_missing_packages()
  sys.excepthook(type(error), error, None)
  assert capsys.readouterr().err.splitlines() == [f'{type(error).__name__}: {error}']


@pytest.mark.parametrize('module, flag', [
    (module, flag) for module, flags in NUMBERS.items() for flag in flags])
@pytest.mark.parametrize('value', ['x', '-1', 'nan'])
def test_what_is_no_number_is_said_with_what_is_allowed(module, flag, value, capsys):
  code, error = answer(module, [f'{flag}={value}'], capsys)
  assert code == 2
  assert error.startswith(f'{module}: argument {flag}: {value!r} is not allowed: it must be ')
  assert error.count('\n') == 1


def test_ctrl_c_is_no_traceback(capsys):
  def interrupted():
    raise KeyboardInterrupt
  assert command_line.exit_code('maml_tf.any', interrupted) == command_line.INTERRUPTED == 130
  assert capsys.readouterr().err.startswith('maml_tf.any: interrupted')
