"""The examples on regression and text of one's own, run: shortly, or until they learn."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import REPOSITORY

# Keras 3.15 says of every dataset that it cannot shuffle it.
pytestmark = pytest.mark.filterwarnings('ignore:.shuffle=True. was passed')


def example(name):
  spec = importlib.util.spec_from_file_location(name, REPOSITORY / 'examples' / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('steps', [2, pytest.param(1000, marks=pytest.mark.slow)])
def test_regression(capsys, steps):
  remaining = example('own_regression').main(steps)
  assert 'A new series: mean squared error' in capsys.readouterr().out
  if steps > 2:
    assert remaining < 0.5


@pytest.mark.parametrize('steps', [2, pytest.param(300, marks=pytest.mark.slow)])
def test_text(capsys, steps):
  share = example('own_text').main(steps)
  assert 'of 45 sentences right, from 5 of each' in capsys.readouterr().out
  if steps > 2:
    assert share > 0.5   # a third by chance
