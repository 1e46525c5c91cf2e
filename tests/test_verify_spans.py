"""Which commit trained which iterations."""

from __future__ import annotations

import json

import pytest

from maml_tf.config import ConfigError
from maml_tf.verification import spans
from maml_tf.verification.spans import TRAINED_BY_FILE, Span


def span(commit, first, last=None, tasks=600):
  return Span(commit, first, last, tasks, '2.15.1')


@pytest.fixture
def folder(tmp_path):
  return str(tmp_path / 'run')   # need not exist


def commits(folder, trained):
  return spans.by('commit', spans.read(folder), trained)


def test_a_run_of_two_commits(folder):
  assert spans.read(folder) == [] and commits(folder, 0) == []
  spans.begin(folder, span('a', 0))
  spans.end(folder, 100)
  spans.begin(folder, span('a', 100))
  spans.end(folder, 250)
  spans.begin(folder, span('b', 250))
  spans.end(folder, 300)
  assert commits(folder, 300) == [['a', 0, 250], ['b', 250, 300]]
  assert len(spans.read(folder)) == 3


def test_what_a_killed_process_trained_counts_as_far_as_it_is_gone_on_with(folder):
  spans.begin(folder, span('a', 0))
  assert commits(folder, 50) == [['a', 0, 50]]   # while it trains
  spans.begin(folder, span('b', 40))             # it was killed; 40 is its last checkpoint
  spans.end(folder, 60)
  assert commits(folder, 60) == [['a', 0, 40], ['b', 40, 60]]
  spans.begin(folder, span('c', 20))             # and the newer ones were damaged
  assert commits(folder, 30) == [['a', 0, 20], ['c', 20, 30]]


def test_a_start_that_was_refused_leaves_nothing(folder):
  spans.begin(folder, span('a', 0))
  spans.end(folder, 40)
  spans.begin(folder, span('refused', 40))
  spans.begin(folder, span('b', 40))
  spans.end(folder, 60)
  assert commits(folder, 60) == [['a', 0, 40], ['b', 40, 60]]


def test_iterations_of_which_nothing_is_known(folder):
  """Runs of earlier versions have no such file."""
  assert commits(folder, 70) == [['unknown', 0, 70]]
  spans.begin(folder, span('a', 70))
  spans.end(folder, 80)
  spans.begin(folder, span('b', 90))   # `main.py` trained from 80 to 90
  assert commits(folder, 95) == [['unknown', 0, 70], ['a', 70, 80], ['unknown', 80, 90],
                                 ['b', 90, 95]]


@pytest.mark.parametrize('tasks, since', [
    ([600], 0), ([600, 600], 0), ([400, 600, 700], 20), ([400, 700, 700], 10),
    ([700, 600], 10), ([600, 400], None), ([None], None),
    ([600, None, 600], 20), ([], None)])
def test_since_when_validations_had_enough_tasks(tasks, since):
  found = [span('a', 10 * number, 10 * number + 10, count)
           for number, count in enumerate(tasks)]
  assert spans.validated_since(found, 600) == since


@pytest.mark.parametrize('on, now, since', [
    ('aa', 'a', 0), ('ab', 'b', 10), ('ab', 'a', None), ('?a', 'a', 0), ('??', 'a', 0),
    ('a?', 'a', 0), ('ab?', None, 10), ('b?a', 'a', 10), ('ab', None, 10)])
def test_tasks_of_another_row_in_the_same_folder_are_other_ones(on, now, since):
  """And those of which nothing is known (?), as of earlier versions, are the same."""
  found = [span('c', 10 * number, 10 * number + 10)._replace(
               validated_on=None if tasks == '?' else tasks)
           for number, tasks in enumerate(on)]
  assert spans.validated_since(found, 600, now) == since


def test_a_file_of_an_earlier_version_is_read(tmp_path):
  fields = span('a', 0, 70)._asdict()
  del fields['validated_on']
  (tmp_path / TRAINED_BY_FILE).write_text(json.dumps([fields]))
  assert spans.read(str(tmp_path)) == [span('a', 0, 70)]


@pytest.mark.parametrize('content', [
    '{', '7', '[7]', '[{}]', '[{"commit": "a"}]', json.dumps([span(7, 0)._asdict()])])
def test_a_file_of_another_kind_is_refused_by_name(content, tmp_path):
  (tmp_path / TRAINED_BY_FILE).write_text(content)
  with pytest.raises(ConfigError, match=TRAINED_BY_FILE):
    spans.read(str(tmp_path))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='choose another --logdir'):
    spans.begin(str(tmp_path / 'file' / 'x'), span('a', 0))
