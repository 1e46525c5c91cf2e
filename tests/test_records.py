"""Result files that were edited by hand."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from maml_tf.config import Config, ConfigError, differences
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import ROWS

WRONG = (None, 'text', [], {}, True, float('inf'), float('nan'), 10**400)


@pytest.fixture
def fields():
  record, *_ = records.read_all(
      next(row for row in ROWS if row.name == 'sinusoid_5shot_oracle'), records.IN_REPOSITORY)
  return copy.deepcopy(record.fields)


def test_what_is_committed_can_be_read():
  read = [record.path for row in ROWS for record in
          records.read_all(row, records.IN_REPOSITORY)]
  there = [str(path) for path in Path(records.IN_REPOSITORY).glob('*/seed*.json')
           if re.fullmatch(r'seed\d+[.]json', path.name)]
  assert len(there) > 50 and sorted(read) == sorted(there)


@pytest.mark.parametrize('wrong', WRONG, ids=lambda value: str(value)[:8])
@pytest.mark.parametrize('path', [
    ('iterations',), ('iterations', 'trained'), ('iterations', 'planned'), ('updates',),
    ('updates', 'update1'), ('updates', 'update1', 'loss'),
    ('updates', 'update1', 'loss', 'mean'), ('updates', 'update1', 'loss', 'ci95')],
    ids='.'.join)
def test_a_wrong_value_is_one_sentence(path, wrong, fields, tmp_path):
  """Each of these ended the listing of all rows in a traceback."""
  if path == ('updates',) and wrong == {}:
    pytest.skip('no update was measured')
  owner = fields
  for name in path[:-1]:
    owner = owner[name]
  owner[path[-1]] = wrong
  (tmp_path / 'seed0.json').write_text(json.dumps(fields))
  with pytest.raises(ConfigError, match='is not a result file as it was written'):
    records.read_file(str(tmp_path / 'seed0.json'))


def test_more_than_was_planned_is_not_believed(fields, tmp_path):
  fields['iterations']['trained'] = 70_000_000
  (tmp_path / 'seed0.json').write_text(json.dumps(fields))
  with pytest.raises(ConfigError, match='iterations.trained is above'):
    records.read_file(str(tmp_path / 'seed0.json'))


@pytest.mark.parametrize('row', [
    row for row in ROWS if records.seeds(row, '.json', records.IN_REPOSITORY)],
    ids=lambda row: row.name)
def test_what_is_committed_was_trained_by_its_flagfile(row):
  """A flagfile that is changed takes its results with it."""
  planned = row_config(row)
  for record in records.read_all(row, records.IN_REPOSITORY):
    stored = record.fields['config']
    trained = Config.from_dict({
        **stored, 'task': {**stored['task'], 'data_dir': planned.task.data_dir},
        'run': planned.to_dict()['run']})
    assert not differences(planned, trained, ignore=(
        'seed', 'validation_interval', 'test_checkpoint'))
    assert record.planned == planned.total_iterations
    # Where that says so, the last one was tested, or one that validation found to be the last.
    assert (planned.evaluation.test_checkpoint == 'best'
            or record.fields['tested']['iteration'] == record.trained)
