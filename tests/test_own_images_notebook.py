"""The notebook on images of one's own: ten cells, and every one runs."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / 'notebooks' / 'own_images.ipynb'


@pytest.mark.slow
def test_every_cell_runs(monkeypatch, capfd):
  monkeypatch.chdir(NOTEBOOK.parent)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  with open(NOTEBOOK, encoding='utf-8') as file:
    cells = [''.join(cell['source']) for cell in json.load(file)['cells']
             if cell['cell_type'] == 'code']
  assert len(cells) == 10
  found = {'__name__': '__main__'}
  for number, cell in enumerate(cells):
    cell = cell.replace('FAST = False', 'FAST = True')
    exec(compile(cell, f'{NOTEBOOK.name}, code cell {number}', 'exec'), found)   # noqa: S102
  assert len(found['tests']) == 10 and found['code'] == 0
  np.testing.assert_allclose(found['answer'].sum(), 1, rtol=1e-5)
  assert 'Loaded again in a process without maml_tf' in capfd.readouterr().out
