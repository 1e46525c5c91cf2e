"""A folder whose files nobody edits: the repository at a fixed commit. No TensorFlow here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Iterator, List, NamedTuple, Optional

from maml_tf.config import ConfigError
from maml_tf.paper.rows import REPOSITORY
from maml_tf.verification.provenance import git, head


class Source(NamedTuple):
  """Where to train from.

  Attributes:
    folder: with the package, the flagfiles and main.py.
    commit: that is in it; None: whatever is there.
  """
  folder: str
  commit: Optional[str]

  def describe(self) -> str:
    if self.commit is None:
      return (f'Training from the files in {self.folder} as they are, since git has no '
              'commit of them: leave them alone meanwhile.')
    return (f'Training from commit {self.commit[:10]} in {self.folder} (a git worktree): '
            'neither edits beside it nor changes that are not committed reach the runs.')


@contextlib.contextmanager
def fixed_commit(folder: str, repository: str = REPOSITORY) -> Iterator[Source]:
  """A worktree of the commit that is checked out, `folder`/COMMIT; it is removed after use.

  One that a killed process has left is used again. Where the package is not the top of a
  git repository, as after an installation, there is nothing to take a commit of: the files
  are used as they are.

  Raises:
    ConfigError: where git cannot make the worktree.
  """
  commit = head(repository)
  if commit is None:
    yield Source(repository, None)
    return
  path = os.path.join(folder, commit)
  if not _is_whole(path, commit):
    _remove(repository, path)
    _add(repository, path, commit)
  try:
    yield Source(path, commit)
  finally:
    for left in _worktrees(folder):
      _remove(repository, left)


def _is_whole(path: str, commit: str) -> bool:
  return (os.path.isdir(path) and head(path) == commit
          and git(path, 'status', '--porcelain', '--untracked-files=no') == '')


def _add(repository: str, path: str, commit: str) -> None:
  command = ['git', 'worktree', 'add', '--force', '--detach', path, commit]
  try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True)
  except (OSError, subprocess.CalledProcessError) as error:
    reason = (getattr(error, 'stderr', None) or str(error)).strip().splitlines()[-1]
    raise ConfigError(f'{path} cannot be made a git worktree ({reason}): choose another '
                      '--logdir.') from error


def _worktrees(folder: str) -> List[str]:
  """Those that stand in `folder`: of this process, and of ones that were killed; none where
  the folder was moved meanwhile."""
  if not os.path.isdir(folder):
    return []
  return [entry.path for entry in os.scandir(folder)
          if os.path.isfile(os.path.join(entry.path, '.git'))]


def _remove(repository: str, path: str) -> None:
  git(repository, 'worktree', 'remove', '--force', path)
  shutil.rmtree(path, ignore_errors=True)
  git(repository, 'worktree', 'prune')
