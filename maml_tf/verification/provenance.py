"""Where a result comes from: the machine, the commit, the day."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from typing import Any, Dict, Optional

from maml_tf.measures import counted
from maml_tf.paper.rows import REPOSITORY
from maml_tf.task_groups import available_cores

UNKNOWN = 'unknown'


def machine(gpu: Optional[str] = None) -> Dict[str, Any]:
  """The processor's model, how many of its cores this process may use, and the GPU.

  Args:
    gpu: name of the GPU in use; None: none is.
  """
  return {'cpu': _cpu_model(), 'cores': available_cores(), 'gpu': gpu}


def stamp(of_commit: str) -> Dict[str, Any]:
  """The fields of a result that say where it comes from: the machine with the GPU in use,
  versions, commit, day.

  Args:
    of_commit: `commit` when the work began: in the hours since then there may be another.
  """
  from maml_tf import devices
  from maml_tf.evaluation import results_files
  device = devices.name()
  versions = results_files.versions()
  del versions['platform']   # `machine` says what of it matters
  return {'machine': machine(None if device == 'CPU' else device), 'versions': versions,
          'commit': of_commit, 'date': today()}


def machine_text(fields: Dict[str, Any]) -> str:
  """The same in a line: 'Intel(R) Xeon(R) CPU, 2 cores', the GPU in front of it."""
  cpu = f'{fields["cpu"]}, {counted(fields["cores"], "core")}'
  return f'{fields["gpu"]}; {cpu}' if fields['gpu'] else cpu


def commit(folder: str = REPOSITORY) -> str:
  """The commit that is checked out, with '+changes' where files other than results
  differ from it; 'unknown' without git, and where `folder` is not the top of a repository: an
  installed package may stand within one of something else."""
  checked_out = head(folder)
  if not checked_out:
    return UNKNOWN
  changes = git(folder, 'status', '--porcelain', '--', '.', ':(exclude)results')
  return checked_out if changes == '' else f'{checked_out}+changes'


def head(folder: str) -> Optional[str]:
  """The commit that is checked out, whatever was changed since; None where `commit` is
  unknown."""
  return (git(folder, 'rev-parse', 'HEAD') or None) if _is_top(folder) else None


def _is_top(folder: str) -> bool:
  """Whether a folder is the top of a git repository, or of a worktree."""
  top = git(folder, 'rev-parse', '--show-toplevel')
  return bool(top) and os.path.realpath(top) == os.path.realpath(folder)


def today() -> str:
  """The date in UTC, 2025-12-31."""
  return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d')


def git(folder: str, *arguments: str) -> Optional[str]:
  """What `git` prints in that folder; None where it fails, or is not installed."""
  try:
    done = subprocess.run(['git', *arguments], cwd=folder, capture_output=True, text=True,
                          timeout=60, check=False)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      for line in file:
        name, _, value = line.partition(':')
        if name.strip() == 'model name':
          return ' '.join(value.split())
  except OSError:
    pass   # not Linux
  return platform.processor() or platform.machine() or UNKNOWN
