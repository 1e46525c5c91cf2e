"""Training from a commit that nobody edits."""

from __future__ import annotations

import os

import pytest

from maml_tf.config import ConfigError
from maml_tf.verification import clone


@pytest.fixture
def repository(git, tmp_path):
  folder = tmp_path / 'repository'
  folder.mkdir()
  (folder / 'code.py').write_text('1')
  git(folder, 'init', '-q')
  git(folder, 'add', '.')
  git(folder, 'commit', '-q', '-m', 'first')
  return folder


def content(source):
  with open(os.path.join(source.folder, 'code.py'), encoding='utf-8') as file:
    return file.read()


def test_edits_beside_it_do_not_reach_it(git, repository, tmp_path):
  first = git(repository, 'rev-parse', 'HEAD')
  (repository / 'code.py').write_text('2')   # not committed
  with clone.fixed_commit(str(tmp_path / 'clones'), str(repository)) as source:
    assert source.commit == first and content(source) == '1'
    (repository / 'code.py').write_text('3')
    git(repository, 'commit', '-q', '-a', '-m', 'second')
    assert content(source) == '1' and git(source.folder, 'rev-parse', 'HEAD') == first
    assert first[:10] in source.describe()
  # Nothing of it is left.
  assert os.listdir(tmp_path / 'clones') == []
  assert len(git(repository, 'worktree', 'list').splitlines()) == 1
  with clone.fixed_commit(str(tmp_path / 'clones'), str(repository)) as source:
    assert source.commit != first and content(source) == '3'


def test_what_a_killed_process_left_is_used_again_if_it_is_whole(git, repository, tmp_path):
  commit = git(repository, 'rev-parse', 'HEAD')
  path = tmp_path / 'clones' / commit
  git(repository, 'worktree', 'add', '--detach', str(path), commit)
  inode = os.stat(path).st_ino
  with clone.fixed_commit(str(tmp_path / 'clones'), str(repository)) as source:
    assert source.folder == str(path) and os.stat(path).st_ino == inode
  git(repository, 'worktree', 'add', '--detach', str(path), commit)
  (path / 'code.py').unlink()   # killed while git made it
  other = tmp_path / 'clones' / ('0' * 40)   # and one of another commit
  git(repository, 'worktree', 'add', '--detach', str(other), commit)
  with clone.fixed_commit(str(tmp_path / 'clones'), str(repository)) as source:
    assert content(source) == '1'
  assert os.listdir(tmp_path / 'clones') == []


def test_without_a_repository_the_files_are_used_as_they_are(tmp_path, repository,
                                                             monkeypatch):
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path))
  (tmp_path / 'installed').mkdir()
  (repository / 'inside').mkdir()   # installed within the repository of something else
  for folder in (tmp_path / 'installed', repository / 'inside'):
    with clone.fixed_commit(str(tmp_path / 'clones'), str(folder)) as source:
      assert source == (str(folder), None)
      assert 'git has no commit of them: leave them alone' in source.describe()
  assert not (tmp_path / 'clones').exists()


def test_a_folder_of_runs_that_was_moved_meanwhile_is_no_fault(repository, tmp_path):
  with clone.fixed_commit(str(tmp_path / 'clones'), str(repository)):
    os.rename(tmp_path / 'clones', tmp_path / 'moved')
  assert os.listdir(tmp_path / 'moved') and not (tmp_path / 'clones').exists()


def test_a_worktree_that_cannot_be_made_is_refused(repository, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='choose another --logdir'):
    with clone.fixed_commit(str(tmp_path / 'file'), str(repository)):
      pass
