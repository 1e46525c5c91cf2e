"""The notebook runs, cell by cell, and learns what it says."""

import json
import sys
from pathlib import Path

import pytest

# Keras 3 warns that it does not shuffle a dataset, which a notebook need not say.
pytestmark = pytest.mark.filterwarnings('ignore:`shuffle=True` was passed')

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / 'notebooks/sinusoids.ipynb'


def code_cells():
  with open(NOTEBOOK, encoding='utf-8') as file:
    return [''.join(cell['source']) for cell in json.load(file)['cells']
            if cell['cell_type'] == 'code']


@pytest.fixture
def run(monkeypatch):
  """A function that runs the cells, `FAST` or not; their names."""
  import matplotlib
  matplotlib.use('Agg')
  monkeypatch.chdir(NOTEBOOK.parent)
  monkeypatch.setattr(sys, 'path', list(sys.path))

  def run_cells(fast):
    found = {'__name__': '__main__'}
    for number, cell in enumerate(code_cells()):
      cell = cell.replace('from IPython.display import HTML', 'HTML = str')   # no Jupyter
      if fast:
        cell = cell.replace('FAST = False', 'FAST = True')
      exec(compile(cell, f'{NOTEBOOK.name}, code cell {number}', 'exec'), found)
    return found
  yield run_cells
  import matplotlib.pyplot as plt
  plt.close('all')


@pytest.mark.slow
def test_every_cell_runs(run, capsys):
  found = run(fast=True)
  assert found['FAST'] and len(found['losses']) == 81
  assert found['html'].count('data:image/png;base64') == 11   # frames under a slider


@pytest.mark.slow
def test_it_learns_what_it_says(run, capsys):
  found = run(fast=False)
  errors = found['errors']
  # One step of MAML's is worth more than ten of the pre-trained net's.
  assert errors['MAML'][1] < errors['pre-trained'][10]
  assert errors['MAML'][10] < errors['MAML'][0] / 5
