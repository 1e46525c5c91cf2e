"""Which processes compute together."""

from __future__ import annotations

import json
import os
import stat

import pytest

from maml_tf.cluster import SLURM_PORT, Cluster, cluster
from maml_tf.errors import ConfigError


def tf_config(workers, kind='worker', index=0):
  return {'TF_CONFIG': json.dumps({'cluster': workers,
                                   'task': {'type': kind, 'index': index}})}


def slurm(nodes='a,b', tasks='1(x2)', rank='1', **others):
  return {'SLURM_PROCID': rank, 'SLURM_STEP_NODELIST': nodes,
          'SLURM_STEP_TASKS_PER_NODE': tasks, **others}


@pytest.mark.parametrize('environment, expected', [
    (tf_config({'worker': ['a:1', 'b:2']}, index=1), Cluster(('a:1', 'b:2'), 1)),
    (tf_config({'chief': ['c:9'], 'worker': ['a:1', 'b:2']}, index=1),
     Cluster(('c:9', 'a:1', 'b:2'), 2)),
    (tf_config({'chief': ['c:9'], 'worker': ['a:1']}, 'chief'), Cluster(('c:9', 'a:1'), 0)),
    (slurm(), Cluster((f'a:{SLURM_PORT}', f'b:{SLURM_PORT}'), 1)),
    (slurm('b,a', '2,1', '2', SLURM_JOB_ID='301'), Cluster(
        (f'b:{SLURM_PORT + 64}', f'b:{SLURM_PORT + 65}', f'a:{SLURM_PORT + 64}'), 2)),
])
def test_what_the_environment_says(environment, expected):
  assert cluster(environment=environment) == expected


def test_tf_config_wins_over_the_flags_and_these_over_slurm():
  assert cluster('x:1,y:2', 0, tf_config({'worker': ['a:1', 'b:2']}, index=1)).index == 1
  assert cluster('x:1,y:2', 0, slurm()) == Cluster(('x:1', 'y:2'), 0)


def test_an_indexed_job_says_the_place():
  found = cluster('x:1, y:2', environment={'JOB_COMPLETION_INDEX': '1'})
  assert found == Cluster(('x:1', 'y:2'), 1)
  assert cluster('x:1', environment={}) == Cluster(('x:1',), 0)


def test_slurms_lists_are_read_by_slurm(tmp_path, monkeypatch):
  """In its order: node10 behind node9, as the ranks are."""
  program = tmp_path / 'scontrol'
  program.write_text('#!/bin/sh\n[ "$3" = "node[9-10]" ] && printf "node9\\nnode10\\n"\n')
  program.chmod(program.stat().st_mode | stat.S_IXUSR)
  monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
  found = cluster(environment=slurm('node[9-10]'))
  assert found.hosts == (f'node9:{SLURM_PORT}', f'node10:{SLURM_PORT}')
  with pytest.raises(ConfigError, match='^`scontrol show hostnames node.1-2.` failed'):
    cluster(environment=slurm('node[1-2]'))


@pytest.mark.parametrize('arguments, environment, message', [
    ((), {}, 'give --worker_hosts and --task_index, or TF_CONFIG'),
    (('a:1,b:2',), {}, 'lacks --task_index'),
    (('a:1,b:2', 2), {}, 'from 0 to 1'),
    ((' , ', 0), {}, 'names no worker: it must be HOST:PORT'),
    (('a:1,b',  0), {}, "HOST:PORT. Received: 'b'"),
    (('a:1,b:99999', 0), {}, "Received: 'b:99999'"),
    (('a:1,a:1', 0), {}, 'same address'),
    ((), {'TF_CONFIG': '{'}, 'must be like'),
    ((), tf_config({'worker': ['a:1'], 'ps': ['b:1']}), 'workers alone'),
    ((), tf_config({'worker': ['a:1']}, 'evaluator'), "task 'evaluator'"),
    ((), tf_config({'worker': ['a:1']}, index=1), 'TF_CONFIG says'),
    ((), tf_config({'worker': [3]}), 'Received: 3'),
    ((), tf_config({'worker': 5}), 'must be like'),
    ((), tf_config({'worker': None}), 'must be like'),
    ((), tf_config({'worker': ['a:1']}, ['worker']), 'workers alone'),
    ((), tf_config({'worker': ['a:1']}, index=float('inf')), 'must be like'),
    ((), {'TF_CONFIG': '[' * 100_000}, 'must be like'),
    ((), slurm(tasks='x'), 'start it by srun'),
    ((), {'SLURM_PROCID': '0'}, 'start it by srun'),
])
def test_what_makes_no_sense_is_refused(arguments, environment, message):
  with pytest.raises(ConfigError, match=message):
    cluster(*arguments, environment=environment)
