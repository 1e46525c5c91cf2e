"""How far replicas that share a meta-batch scale, computed from measured times.

  python -m maml_tf.scaling --task_ms=16.7 --parameters=112005 --meta_batch_size=32

Nothing is trained or measured here: what it says is as good as the numbers that it is given,
which `python -m maml_tf.benchmark` measures (own_share_ms and all_reduce_ms of a strategy).

  --task_ms: of one task's meta-gradient on one replica.
  --parameters: numbers in the gradient, which are sent.
  --meta_batch_size: tasks of a step, for the table of more replicas at the same meta-batch.
  --tasks: of each replica, for the table of as many more tasks as replicas; default 1.
  --bytes: of a number; default 4.
  --overhead_ms: what an exchange costs whatever its size and whoever takes part; default 3.

A step of R replicas takes t + T(R): t for the tasks of one, T for the exchange of S bytes
over lines of B bytes a second with the latency L, nothing of which overlaps:

  ring: T = overhead + 2 (R - 1) / R S / B + 2 (R - 1) L
  tree: T = overhead + 2 log2(R) (S / B + L)

and of the two the shorter. Efficiency = t / (t + T). No replica is slower than the others.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import List, NamedTuple, Sequence

if __name__ == '__main__':
  from maml_tf.before_tensorflow import explain_missing_packages
  explain_missing_packages()

from maml_tf.argument_types import number, whole
from maml_tf.command_line import OneSentenceParser
from maml_tf.measures import counted

REPLICAS = tuple(2**power for power in range(1, 11))


class Network(NamedTuple):
  """What is assumed of the lines between machines.

  Attributes:
    name: of it.
    bandwidth: bytes per second.
    latency: seconds of one message.
  """
  name: str
  bandwidth: float
  latency: float


# 10 Gbit/s with TCP, and 200 Gbit/s with RDMA.
NETWORKS = (Network('Ethernet', 1.25e9, 30e-6), Network('InfiniBand', 25e9, 3e-6))


def exchange_seconds(replicas: int, size: float, network: Network, overhead: float) -> float:
  """T(R) of the module's text, of `size` bytes.

  Example:
    >>> round(1e3 * exchange_seconds(2, 448020, NETWORKS[0], 0.0), 2)
    0.42
  """
  if replicas == 1:
    return 0.0
  ring = (2 * (replicas - 1) / replicas * size / network.bandwidth
          + 2 * (replicas - 1) * network.latency)
  tree = 2 * math.ceil(math.log2(replicas)) * (size / network.bandwidth + network.latency)
  return overhead + min(ring, tree)


def weak_scaling(task: float, tasks: int, size: float, overhead: float) -> List[str]:
  """Lines of a table: each replica has `tasks` tasks of `task` seconds, however many."""
  lines = [f'| replicas | meta-batch | {" | ".join(_columns("T, ms"))} | '
           f'{" | ".join(_columns("efficiency"))} |', _rule(2 + 2 * len(NETWORKS))]
  for replicas in REPLICAS:
    seconds = [exchange_seconds(replicas, size, network, overhead) for network in NETWORKS]
    cells = [f'{1e3 * one:.2f}' for one in seconds]
    cells += [f'{_efficiency(task * tasks, one):.0%}' for one in seconds]
    lines.append(f'| {replicas:,} | {replicas * tasks:,} | {" | ".join(cells)} |')
  return lines


def strong_scaling(task: float, meta_batch_size: int, size: float, overhead: float
                   ) -> List[str]:
  """Lines of a table: the same meta-batch, shared by more and more. Ends where it does."""
  lines = [f'| replicas | tasks of each | {" | ".join(_columns("step, ms"))} | '
           f'{" | ".join(_columns("times as fast"))} |', _rule(2 + 2 * len(NETWORKS))]
  for replicas in (1, *REPLICAS):
    if meta_batch_size % replicas:
      break
    share = meta_batch_size // replicas
    steps = [task * share + exchange_seconds(replicas, size, network, overhead)
             for network in NETWORKS]
    cells = [f'{1e3 * step:.2f}' for step in steps]
    cells += [f'{task * meta_batch_size / step:.1f}' for step in steps]
    lines.append(f'| {replicas:,} | {share} | {" | ".join(cells)} |')
  return lines


def _efficiency(own: float, exchange: float) -> float:
  return own / (own + exchange)


def _columns(what: str) -> List[str]:
  return [f'{what}, {network.name}' for network in NETWORKS]


def _rule(columns: int) -> str:
  return '|' + '---|' * columns


def main(argv: Sequence[str]) -> int:
  parser = OneSentenceParser(
      prog='python -m maml_tf.scaling', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--task_ms', type=number(above=0), required=True)
  parser.add_argument('--parameters', type=whole(1), required=True)
  parser.add_argument('--meta_batch_size', type=whole(1))
  parser.add_argument('--tasks', type=whole(1), default=1)
  parser.add_argument('--bytes', type=whole(1), default=4)
  parser.add_argument('--overhead_ms', type=number(least=0), default=3.0)
  options = parser.parse_args(argv[1:])
  task, overhead = options.task_ms / 1e3, options.overhead_ms / 1e3
  size = options.parameters * options.bytes
  print(f'Tasks of each replica: {options.tasks}, {options.task_ms:g} ms each; '
        f'{size / 1e6:.3g} MB to exchange:\n')
  print('\n'.join(weak_scaling(task, options.tasks, size, overhead)))
  if options.meta_batch_size is not None:
    print(f'\nThe same {counted(options.meta_batch_size, "task")}, shared:\n')
    print('\n'.join(strong_scaling(task, options.meta_batch_size, size, overhead)))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
