"""Training and evaluation by several replicas."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from four_replicas import CASES
from two_replicas import difference


@pytest.fixture(scope='module')
def trained(forks, tmp_path_factory):
  """A function: number of replicas -> {case/number: array}; each is trained once."""
  folder = tmp_path_factory.mktemp('trained')

  @functools.cache
  def train(replicas):
    process = forks.start('four_replicas:train_on', folder / f'{replicas}.txt', replicas,
                          str(folder / f'{replicas}.npz'))
    assert process.wait() == 0, process.output_text()
    return dict(np.load(folder / f'{replicas}.npz'))
  return train


@pytest.mark.slow
@pytest.mark.parametrize('replicas', [2, 4])
@pytest.mark.parametrize('case', CASES)
def test_replicas_do_what_one_device_does(trained, case, replicas):
  """Parameters, the optimizer's state, what is logged, and the results of tasks."""
  names = [name for name in trained(1) if name.startswith(f'{case}/')]
  assert len(names) > 8
  errors = {name: difference(trained(replicas)[name], trained(1)[name]) for name in names}
  print(f'{case}, {replicas} replicas: {max(errors.values()):.1e}')
  assert max(errors.values()) < 1e-12, errors


@pytest.mark.slow
def test_the_cases_are_not_all_alike(trained):
  """That a Keras model's dropout, say, is in what is compared."""
  last = {case: trained(1)[f'{case}/0'][-1][-1] for case in CASES}
  # How it is compiled makes two of them what MAML is.
  assert len({round(loss, 12) for loss in last.values()}) >= len(CASES) - 2, last
