"""The examples on regression and text of one's own, run: shortly, or until they learn."""

from __future__ import annotations

import pytest
from conftest import load_example

# Keras 3.15 says of every dataset that it cannot shuffle it.
pytestmark = pytest.mark.filterwarnings('ignore:.shuffle=True. was passed')


@pytest.mark.parametrize('steps', [2, pytest.param(1000, marks=pytest.mark.slow)])
def test_regression(capsys, steps):
  remaining = load_example('own_regression').main(steps)
  assert 'A new series: mean squared error' in capsys.readouterr().out
  if steps > 2:
    assert remaining < 0.5


@pytest.mark.parametrize('steps', [2, pytest.param(300, marks=pytest.mark.slow)])
def test_text(capsys, steps):
  share = load_example('own_text').main(steps)
  assert 'of 45 sentences right, from 5 of each' in capsys.readouterr().out
  if steps > 2:
    assert share > 0.5   # a third by chance
