"""What is computed of data-parallel scaling."""

from __future__ import annotations

import math

import pytest

from maml_tf import scaling
from maml_tf.scaling import Network, exchange_seconds

LINE = Network('a line', 1e6, 0.001)


def test_one_replica_exchanges_nothing():
  assert exchange_seconds(1, 1e6, LINE, 5.0) == 0


@pytest.mark.parametrize('replicas, size, expected', [
    (2, 1e6, 1.002),             # both send half, twice
    (4, 1e6, 1.506),             # a ring, for large messages
    (1024, 1e3, 20 * 0.002),     # a tree, for small ones: 2 log2(1024) of a message
])
def test_the_shorter_of_ring_and_tree(replicas, size, expected):
  assert math.isclose(exchange_seconds(replicas, size, LINE, 0.0), expected)
  assert math.isclose(exchange_seconds(replicas, size, LINE, 0.5), expected + 0.5)


def test_the_meta_batch_ends_strong_scaling(capsys):
  assert scaling.main(['', '--task_ms=10', '--parameters=1000', '--meta_batch_size=12',
                       '--overhead_ms=0']) == 0
  weak, strong = capsys.readouterr().out.split('The same 12 tasks')
  assert '| 1,024 | 1,024 |' in weak and '%' in weak
  rows = [line for line in strong.splitlines() if line.startswith('| ')][1:]
  assert [line.split(' | ')[:2] for line in rows] == [['| 1', '12'], ['| 2', '6'],
                                                      ['| 4', '3']]
  assert float(rows[-1].split(' | ')[-1].rstrip(' |')) == pytest.approx(4, abs=0.1)


def test_efficiency_is_the_share_of_a_step_that_is_not_the_exchange():
  """Half of it, where the exchange takes as long as the tasks."""
  lines = scaling.weak_scaling(0.01, 5, 0.0, overhead=0.05)
  *_, ethernet, infiniband = lines[2].strip('| ').split(' | ')
  assert (ethernet, infiniband) == ('50%', '50%')


@pytest.mark.parametrize('arguments', [
    ['--parameters=1'], ['--task_ms=0', '--parameters=1'],
    ['--task_ms=1', '--parameters=-1'],
    ['--task_ms=1', '--parameters=1', '--overhead_ms=-1']])
def test_what_is_not_a_number_of_something_is_refused(arguments, capsys):
  with pytest.raises(SystemExit) as ended:
    scaling.main(['', *arguments])
  assert ended.value.code == 2
  assert capsys.readouterr().err.startswith('maml_tf.scaling: ')
