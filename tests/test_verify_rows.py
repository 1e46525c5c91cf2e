"""The rows, their flagfiles, and the verdicts."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flags
from maml_tf import measures
from maml_tf.config import ConfigError
from maml_tf.paper import records
from maml_tf.paper.other_papers import METHODS
from maml_tf.paper.records import Measured
from maml_tf.paper.rows import ROWS, Row, numbers, row_named, row_tested
from maml_tf.verification import verdicts
from maml_tf.verification.verdicts import (
  ABOVE,
  BELOW,
  MEASURED,
  NOT_RUN,
  PARTIAL,
  REPRODUCED,
)

FLAGFILES = {path.stem for path in (Path(__file__).parent.parent / 'flags').glob('*.flags')}
ACCURACY = Row('accuracy', 'table 1', 'Accuracy', {'datasource': 'omniglot'},
               {1: '90.0 +- 1.0'}, 1)
ERROR = Row('error', 'table 2', 'Error', {'datasource': 'sinusoid'},
            {0: '0.50', 1: '0.40'}, 1)


def config_of(row):
  return flags.parse(['main.py', f'--flagfile={row.flagfile_path}'])


def test_each_flagfile_is_a_row_and_each_row_has_a_flagfile():
  assert len({row.name for row in ROWS}) == len(ROWS)
  assert {row.name for row in ROWS} == FLAGFILES


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_a_flagfile_s_run_is_of_its_row_alone(row):
  config = config_of(row)
  assert [other.name for other in ROWS if other.fits(config)] == [row.name]
  assert row_tested(config) is row
  assert row.problem is config.problem and row.baseline is config.baseline
  # What is compared is measured.
  assert {row.headline, *row.paper} <= set(range(config.evaluation.test_num_updates + 1))
  assert not row.paper or row.headline in row.paper
  assert config.evaluation.num_test_tasks == (40 if row.problem.acts else 600)
  if row.problem.measure is measures.ACCURACY:
    assert config.evaluation.test_set and config.evaluation.test_checkpoint == 'best'


@pytest.mark.parametrize('row', [row for row in ROWS if row.method in METHODS],
                         ids=lambda row: row.name)
def test_methods_of_other_papers_are_judged_after_as_many_updates_as_they_train_with(row):
  assert config_of(row).inner_loop.num_updates == row.headline


def test_a_misspelt_row_is_recognised():
  with pytest.raises(ConfigError, match=r'did you mean omniglot_5way_1shot\? Allowed are'):
    row_named('omniglot-5way-1shot')
  with pytest.raises(ConfigError, match='unknown: allowed are'):
    row_named('xyz')
  with pytest.raises(ConfigError) as error:
    row_named('omniglot-5way-1shot')
  assert 'python -m maml_tf.verify` lists' in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_the_paper_s_values_can_be_read(row):
  for value in row.paper.values():
    mean, interval = numbers(value)
    if row.problem.acts:   # intervals but for appendix C's
      assert -300 < mean < 600 and (interval > 0) == (row.method == 'maml')
      continue
    assert 0 < mean <= 100
    if row.method in ('maml', 'anil', 'reptile', 'context_vector'):
      assert (interval > 0) == (row.problem.measure is measures.ACCURACY)


def test_numbers_as_the_paper_writes_them():
  assert numbers('48.70 +- 1.84') == (48.7, 1.84)
  assert numbers('0.67') == (0.67, 0.0)
  assert numbers('-40.4') == (-40.4, 0.0)   # a return
  for wrong in ('', '98.7%', '98.7+-0.4', '98.7 +- '):
    with pytest.raises(ValueError, match='Received'):
      numbers(wrong)


def test_an_unknown_row_is_refused():
  with pytest.raises(ConfigError, match="'nowhere' is unknown: allowed are omniglot_5way"):
    row_named('nowhere')


# Verdicts.

@pytest.mark.parametrize('paper, mean, ci95, measure, expected', [
    ('90.0 +- 1.0', 90.0, 0.1, 'accuracy', REPRODUCED),
    ('90.0 +- 1.0', 91.4, 0.5, 'accuracy', REPRODUCED),     # the intervals meet
    ('90.0 +- 1.0', 91.6, 0.5, 'accuracy', ABOVE),
    ('90.0 +- 1.0', 88.4, 0.5, 'accuracy', BELOW),
    ('90.0 +- 1.0', 91.5, 0.5, 'accuracy', REPRODUCED),     # their ends are one number
    ('0.35', 0.38, 0.05, 'loss', REPRODUCED),               # no interval: within ours
    ('0.35', 0.38, 0.02, 'loss', BELOW),                    # a larger error is worse
    ('0.35', 0.30, 0.02, 'loss', ABOVE),
    ('-40.4 +- 4.1', -36.0, 0.2, 'return', ABOVE),          # of returns the larger is better
    ('-40.4 +- 4.1', -44.8, 0.2, 'return', BELOW),
    ('-40.4 +- 4.1', -44.8, 0.4, 'return', REPRODUCED),
    ('-13.9', -12.5, 1.8, 'return', REPRODUCED)])
def test_a_verdict(paper, mean, ci95, measure, expected):
  assert verdicts.verdict(paper, Measured(mean, ci95), measures.named(measure)) == expected


@given(st.floats(1, 99), st.floats(0, 5))
def test_better_and_worse_are_exchanged_for_errors(mean, ci95):
  exchanged = {REPRODUCED: REPRODUCED, ABOVE: BELOW, BELOW: ABOVE}
  here = Measured(mean, ci95)
  assert verdicts.verdict('50.0 +- 1.0', here, measures.ACCURACY) == exchanged[
      verdicts.verdict('50.0 +- 1.0', here, measures.MEAN_SQUARED_ERROR)]


def test_each_verdict_is_explained():
  assert set(verdicts.MEANINGS) == {
      REPRODUCED, ABOVE, BELOW, NOT_RUN, PARTIAL, MEASURED, verdicts.REPRODUCED_EARLY,
      verdicts.ABOVE_EARLY, verdicts.BELOW_EARLY, verdicts.MEASURED_EARLY}
  page = (Path(__file__).parent.parent / 'docs/verifying.md').read_text(encoding='utf-8')
  for text in (verdicts.MEANINGS[ABOVE], verdicts.MEANINGS[BELOW], page):
    assert all(kind in text for kind in ('accuracy', 'return', 'error'))


def test_one_seed_has_its_own_interval(make_record):
  results = make_record(ACCURACY, values=((0.2, 0.01), (0.9, 0.02)))
  [record] = records.read_all(ACCURACY, results)
  assert verdicts.combined([record], 1) == pytest.approx((90.0, 2.0))
  assert verdicts.combined([record], 0) == pytest.approx((20.0, 1.0))
  assert record.updates == [0, 1]


def test_several_seeds_by_hand(make_record):
  for seed, mean in enumerate((0.88, 0.90, 0.95)):
    results = make_record(ACCURACY, seed, values=((0.2, 0.0), (mean, 0.01 * (1 + seed))))
  combined = verdicts.combined(records.read_all(ACCURACY, results), 1)
  assert combined.mean == pytest.approx(91.0)
  tasks = (1 + 4 + 9) / 3
  between = ((88 - 91) ** 2 + (90 - 91) ** 2 + (95 - 91) ** 2) / 2 / 3
  assert combined.ci95 == pytest.approx(math.sqrt(tasks + 1.96 ** 2 * between))


def test_complete_seeds_count_and_partial_ones_do_not(make_record):
  make_record(ACCURACY, 0, values=((0.2, 0.0), (0.9, 0.01)))
  make_record(ACCURACY, 1, values=((0.2, 0.0), (0.1, 0.01)), trained=99)
  results = make_record(ACCURACY, 2, values=((0.2, 0.0), (0.92, 0.01)))
  state = verdicts.standing(ACCURACY, records.read_all(ACCURACY, results))
  assert state.verdict == REPRODUCED
  assert [record.seed for record in state.records] == [0, 2]


def test_of_partial_seeds_the_one_that_got_furthest_is_shown(make_record):
  for seed, trained in enumerate((10, 30, 20)):
    results = make_record(ERROR, seed, trained=trained)
  state = verdicts.standing(ERROR, records.read_all(ERROR, results))
  assert state.verdict == PARTIAL
  assert [record.trained for record in state.records] == [30]
  assert verdicts.judged(ERROR, state, 0) is None


def test_standings_without_records_and_without_a_value(make_record, tmp_path):
  assert verdicts.standing(ERROR, []) == (NOT_RUN, [])
  no_value = Row('curve', 'figure 3', 'Curve', {'datasource': 'sinusoid'}, {}, 1)
  results = make_record(no_value)
  assert verdicts.standing(no_value, records.read_all(no_value, results)).verdict == MEASURED


def test_each_value_of_the_paper_has_a_verdict(make_record):
  results = make_record(ERROR, values=((0.5, 0.01), (0.3, 0.01)))
  state = verdicts.standing(ERROR, records.read_all(ERROR, results))
  assert state.verdict == ABOVE   # after one update, which is the headline
  assert verdicts.judged(ERROR, state, 0) == REPRODUCED
  assert verdicts.judged(ERROR, state, 5) is None


# Result files.

@pytest.mark.parametrize('content', ['', '{', '[]', '{"row": "accuracy"}', '[' * 100000])
def test_a_file_that_is_no_result_is_refused_by_name(content, tmp_path):
  path = tmp_path / ACCURACY.name / 'seed0.json'
  path.parent.mkdir()
  path.write_text(content)
  with pytest.raises(ConfigError, match='seed0.json') as error:
    records.read_all(ACCURACY, str(tmp_path))
  assert '\n' not in str(error.value)


def test_seeds_are_those_of_the_files(make_record):
  for seed in (10, 2, 0):
    results = make_record(ACCURACY, seed)
  (Path(results) / 'accuracy' / 'seedling.json').write_text('')
  assert records.seeds(ACCURACY, '.json', results) == (0, 2, 10)
  assert records.read(ACCURACY, 3, results) is None
  assert not [name for name in os.listdir(Path(results) / 'accuracy') if 'tmp' in name]


@pytest.mark.parametrize('name, said', [
    ('accuracy/seed1.json', 'is of accuracy with seed 0'),
    ('error/seed0.json', 'is of accuracy with seed 0')])
def test_a_record_counts_for_its_own_row_and_seed_alone(name, said, make_record):
  """Under the name of another seed it was a second run, which made the interval smaller."""
  results = Path(make_record(ACCURACY, 0))
  (results / 'error').mkdir()
  shutil.copy(results / 'accuracy' / 'seed0.json', results / name)
  with pytest.raises(ConfigError, match=f'{name} {said}'):
    for row in (ACCURACY, ERROR):
      records.read_all(row, str(results))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='choose another --results'):
    records.write_text(str(tmp_path / 'file' / 'x' / 'a.json'), '')
