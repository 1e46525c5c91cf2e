"""The example script with images of one's own, run."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import REPOSITORY


@pytest.mark.slow   # the notebook does the same with two iterations
def test_the_example_runs_and_learns(tmp_path, capfd):
  path = REPOSITORY / 'examples' / 'own_images.py'
  spec = importlib.util.spec_from_file_location('own_images', path)
  example = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(example)
  share = example.main(str(tmp_path / 'all'), 100)
  printed = capfd.readouterr().out
  assert '30 photos are classified right' in printed
  assert 'Loaded again in a process without maml_tf' in printed
  assert share > 0.5   # a third by chance
