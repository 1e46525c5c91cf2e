"""The example script with images of one's own, run."""

from __future__ import annotations

import pytest
from conftest import load_example


@pytest.mark.slow   # the notebook does the same with two iterations
def test_the_example_runs_and_learns(tmp_path, capfd):
  share = load_example('own_images').main(str(tmp_path / 'all'), 100)
  printed = capfd.readouterr().out
  assert '30 photos are classified right' in printed
  assert 'Loaded again in a process without maml_tf' in printed
  assert share > 0.5   # a third by chance
