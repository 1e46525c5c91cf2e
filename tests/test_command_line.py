"""What the commands beside `main.py` share: one sentence, under their own names."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize('module', [
    'maml_tf.benchmark', 'maml_tf.export_step', 'maml_tf.matrix',
    'maml_tf.legacy.convert', 'maml_tf.legacy.compare', 'maml_tf.legacy.moments_effect',
    'maml_tf.verify'])
@pytest.mark.parametrize('mistake', ['--no_such_flag=1', '--datasource=imagenet'])
def test_a_mistake_is_one_sentence_under_the_command_s_own_name(module, mistake, capsys):
  """Whether the command's own flags are wrong, or those that it shares with `main.py`."""
  command = importlib.import_module(module)
  takes_program = module in ('maml_tf.benchmark', 'maml_tf.export_step')
  # Of each command what it must be given, beside the mistake.
  needed = {'maml_tf.export_step': ['--out=x'], 'maml_tf.legacy.convert': ['--out=x'],
            'maml_tf.legacy.compare': ['x.npz'],
            'maml_tf.legacy.moments_effect': ['x.npz']}.get(module, [])
  try:
    code = command.main([module] * takes_program + needed + [mistake])
  except SystemExit as caught:
    code = caught.code
  error = capsys.readouterr().err
  assert code == 2
  assert error.startswith(f'{module}: ') and error.count('\n') == 1, error
