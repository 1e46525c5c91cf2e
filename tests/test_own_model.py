"""The code of docs/own_model.md, and the example script, run."""

from __future__ import annotations

import re

import pytest
import tensorflow as tf
from conftest import REPOSITORY, load_example

# Keras 3.15 says of every dataset that it cannot shuffle it.
pytestmark = pytest.mark.filterwarnings('ignore:.shuffle=True. was passed')


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  page = (REPOSITORY / 'docs' / 'own_model.md').read_text(encoding='utf-8')
  blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
  assert len(blocks) == 5
  names: dict = {}
  for block in blocks:
    exec(compile(block, 'docs/own_model.md', 'exec'), names)   # noqa: S102
  assert isinstance(names['adapted'], tf.keras.Model)
  assert {path.name for path in tmp_path.iterdir()} == {'three_classes.keras',
                                                        'initialisation.keras'}
  assert len(names['gradients']) == len(names['model'].trainable_variables)
  assert len(names['head'].adapted_names) == 2
  assert names['reptile'].learner.model is names['model']


@pytest.mark.parametrize('steps', [2, pytest.param(1500, marks=pytest.mark.slow)])
def test_the_example_runs(tmp_path, capsys, steps):
  share = load_example('own_keras_model').main(steps, str(tmp_path / 'adapted.keras'))
  assert (tmp_path / 'adapted.keras').exists()
  out = capsys.readouterr().out
  assert '100 new tasks' in out and 'of 30 right' in out
  if steps > 2:
    assert share > 0.75   # of 3,000 examples; a third by chance
