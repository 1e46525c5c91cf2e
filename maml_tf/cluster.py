"""Which processes compute together: from flags, from TF_CONFIG, or from what starts them.

No TensorFlow here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple

from maml_tf.errors import ConfigError

# Behind this, of Slurm's tasks on one node.
SLURM_PORT = 23000
_KINDS = ('chief', 'worker')


class Cluster(NamedTuple):
  """The worker processes of a run.

  Attributes:
    hosts: 'HOST:PORT' of each.
    index: of this process. Worker 0 is the one that writes.
  """
  hosts: Tuple[str, ...]
  index: int


def cluster(worker_hosts: Optional[str] = None, task_index: int = -1,
            environment: Optional[Mapping[str, str]] = None) -> Cluster:
  """Of TF_CONFIG, which wins as in TensorFlow's own programs; of the two flags; of Slurm.

  Args:
    worker_hosts: 'HOST:PORT,HOST:PORT', the same for all workers; None: not given.
    task_index: of this process; -1: not given. An indexed job of Kubernetes says it.
    environment: None: of the process.

  Raises:
    ConfigError: where that says nothing, or makes no sense.
  """
  environment = os.environ if environment is None else environment
  if environment.get('TF_CONFIG'):
    found = of_tf_config(environment['TF_CONFIG'])
  elif worker_hosts is not None:
    found = _of_flags(worker_hosts, task_index, environment)
  elif 'SLURM_PROCID' in environment:
    found = of_slurm(environment)
  else:
    raise ConfigError(
        '--distribution_strategy=multi_worker_mirrored does not know the workers: give '
        '--worker_hosts and --task_index, or TF_CONFIG, or start it by srun.')
  for host in found.hosts:
    _require_address(host)
  if len(set(found.hosts)) < len(found.hosts):
    raise ConfigError(f'Two workers have the same address ({", ".join(found.hosts)}): each '
                      'needs a port of its own.')
  return found


def of_tf_config(text: str) -> Cluster:
  """Of TensorFlow's variable, e.g.

  {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}
  """
  try:
    value = json.loads(text)
    workers = {str(kind): list(hosts) for kind, hosts in dict(value['cluster']).items()}
    kind, index = str(value['task']['type']), int(value['task']['index'])
  except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise ConfigError(f'TF_CONFIG={text[:100]} is not understood ({error!r}): it must be '
                      f'like {_EXAMPLE}.') from error
  others = sorted(set(workers) - set(_KINDS))
  if others or kind not in workers:
    raise ConfigError(f'TF_CONFIG has the jobs {sorted(workers)} and the task {kind!r}: '
                      'here are workers alone, and a chief among them.')
  hosts: List[str] = [*workers.get('chief', []), *workers.get('worker', [])]
  if kind == 'worker':
    index += len(workers.get('chief', []))
  return Cluster(tuple(hosts), _require_index(index, hosts, 'TF_CONFIG'))


_EXAMPLE = ('{"cluster": {"worker": ["a:2222", "b:2222"]}, '
            '"task": {"type": "worker", "index": 0}}')


def _of_flags(worker_hosts: str, task_index: int, environment: Mapping[str, str]) -> Cluster:
  hosts = [host.strip() for host in worker_hosts.split(',') if host.strip()]
  if not hosts:
    raise ConfigError(f'--worker_hosts={worker_hosts} names no worker: it must be '
                      'HOST:PORT of each, with commas between.')
  if task_index == -1 and environment.get('JOB_COMPLETION_INDEX', '').isdigit():
    task_index = int(environment['JOB_COMPLETION_INDEX'])   # Kubernetes
  if task_index == -1 and len(hosts) == 1:
    task_index = 0
  if task_index == -1:
    raise ConfigError(f'--worker_hosts={worker_hosts} lacks --task_index: the place of this '
                      f'process among them, 0 to {len(hosts) - 1}.')
  return Cluster(tuple(hosts), _require_index(task_index, hosts, '--task_index'))


def of_slurm(environment: Mapping[str, str]) -> Cluster:
  """Of the variables of `srun`, one worker a task.

  TensorFlow's SlurmClusterResolver sorts host names as text, where the rank is Slurm's: with
  node9 and node10 a process would have another one's address; and it takes the same ports
  for all jobs of a node. Here the ports follow the number of the job.
  """
  try:
    rank = int(environment['SLURM_PROCID'])
    nodes = _slurm_nodes(environment['SLURM_STEP_NODELIST'])
    tasks = _slurm_tasks(environment['SLURM_STEP_TASKS_PER_NODE'])
    job = int(environment.get('SLURM_JOB_ID', '0'))
  except ConfigError:   # which is a ValueError, and says by itself what to do
    raise
  except (KeyError, ValueError) as error:
    raise ConfigError(f'The variables of Slurm are not understood ({error!r}): start it by '
                      'srun, or give --worker_hosts and --task_index.') from error
  first = SLURM_PORT + job % 100 * 64
  hosts = [f'{node}:{first + number}' for node, count in zip(nodes, tasks)
           for number in range(count)]
  return Cluster(tuple(hosts), _require_index(rank, hosts, 'SLURM_PROCID'))


def _slurm_nodes(text: str) -> List[str]:
  """'node[9-10],b' -> ['node9', 'node10', 'b'], in Slurm's order."""
  if '[' not in text:
    return text.split(',')
  try:
    told = subprocess.run(['scontrol', 'show', 'hostnames', text], capture_output=True,
                          text=True, check=True, timeout=30)
  except (OSError, subprocess.SubprocessError) as error:
    raise ConfigError(f'`scontrol show hostnames {text}` failed ({error}): give '
                      '--worker_hosts and --task_index.') from error
  return told.stdout.split()


def _slurm_tasks(text: str) -> List[int]:
  """'2(x3),1' -> [2, 2, 2, 1]."""
  counts: List[int] = []
  for part in text.split(','):
    found = re.fullmatch(r'(\d+)(?:\(x(\d+)\))?', part)
    if found is None:
      raise ValueError(f'SLURM_STEP_TASKS_PER_NODE={text}')
    counts += [int(found[1])] * int(found[2] or 1)
  return counts


def _require_index(index: int, hosts: List[str], what: str) -> int:
  if not 0 <= index < len(hosts):
    raise ConfigError(f'{what} says that this is worker {index}, and there are '
                      f'{len(hosts)}: it must be from 0 to {len(hosts) - 1}.')
  return index


def _require_address(host: Any) -> None:
  name, colon, port = host.rpartition(':') if isinstance(host, str) else ('', '', '')
  if not (name and colon and port.isdigit() and 0 < int(port) < 2**16):
    raise ConfigError(f'The address of a worker must be HOST:PORT. Received: {host!r}.')
