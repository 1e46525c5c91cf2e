"""The job files of the page "Several devices" start what they say."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

import flags
from maml_tf.cluster import cluster

ROOT = Path(__file__).resolve().parent.parent
SLURM = ROOT / 'examples' / 'slurm_job.sh'
KUBERNETES = ROOT / 'examples' / 'kubernetes_job.yaml'


@pytest.mark.parametrize('code, before, requeued', [
    (0, '0', ''), (2, '0', ''), (75, '99', 'requeue 7\n'), (137, '0', 'requeue 7\n'),
    (137, '100', '')])
def test_the_slurm_job_runs_main_and_requeues_what_was_lost(tmp_path, code, before, requeued):
  """With an srun that notes how it was called, and a scontrol that does the same. The code of
  srun is the highest of all workers', of one that was killed 128 and the signal."""
  _program(tmp_path / 'srun', f'echo "$@" > {tmp_path}/srun.txt; exit {code}')
  _program(tmp_path / 'scontrol', f'echo "$@" > {tmp_path}/scontrol.txt')
  done = subprocess.run(
      ['bash', str(SLURM), '--seed=3'], check=False,
      env={'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', 'SLURM_JOB_ID': '7',
           'SLURM_RESTART_COUNT': before, 'SLURM_SUBMIT_DIR': str(ROOT),
           'SLURM_CPUS_PER_TASK': '8'})
  assert done.returncode == code
  words = (tmp_path / 'srun.txt').read_text().split()
  assert words[0] == '--kill-on-bad-exit=0'   # or the 75 of one would make 137 of the others
  assert words[1] == '--cpus-per-task=8'   # which srun does not take from sbatch
  config = flags.parse([''] + _flags(words[words.index('main.py') + 1:]))
  assert config.run.distribution_strategy == 'multi_worker_mirrored'
  assert config.task.datasource == 'omniglot' and config.task.seed == 3
  noted = tmp_path / 'scontrol.txt'
  assert (noted.read_text() if noted.exists() else '') == requeued


def test_the_kubernetes_job_gives_each_pod_its_place():
  text = KUBERNETES.read_text()
  def value(name):
    [found] = re.findall(rf'^ *(?:- )?{name}: *(\S+)', text, re.MULTILINE)
    return found
  config = flags.parse([''] + _flags(re.findall(r'^ +- (--\S+)$', text, re.MULTILINE)))
  pods, port = int(value('completions')), value('containerPort')
  for index in range(pods):
    found = cluster(config.run.worker_hosts, config.run.task_index,
                    {'JOB_COMPLETION_INDEX': str(index)})
    assert found.index == index and len(found.hosts) == pods
    assert found.hosts[index] == f'maml-{index}.{value("subdomain")}:{port}'
  assert value('parallelism') == value('completions')
  assert value('completionMode') == 'Indexed' and value('job-name') == 'maml'
  assert re.findall(r'^  name: (\w+)$', text, re.MULTILINE) == ['maml', 'maml']


def _program(path, text):
  path.write_text(f'#!/bin/sh\n{text}\n')
  path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _flags(words):
  return [word.replace('=flags/', f'={ROOT}/flags/') for word in words]
