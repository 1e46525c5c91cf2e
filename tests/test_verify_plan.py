"""The plan of `--train-all`, and its rule for an early end."""

from __future__ import annotations

import pytest

from maml_tf.config import ConfigError
from maml_tf.measures import ACCURACY, LOSS
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import ROWS, Row, row_named
from maml_tf.verification import early_end, plan, verdicts
from maml_tf.verification.verdicts import (
  ABOVE_EARLY,
  BELOW_EARLY,
  MEASURED_EARLY,
  REPRODUCED,
  REPRODUCED_EARLY,
)

A, B, C = (Row(name, 'table 1', name, {'datasource': 'omniglot'}, {1: '90.0 +- 1.0'}, 1)
           for name in 'abc')
FIRST = ['miniimagenet_5way_1shot', 'omniglot_20way_1shot', 'omniglot_5way_5shot',
         'miniimagenet_5way_1shot_first_order', 'miniimagenet_5way_5shot',
         'omniglot_5way_1shot_context_vector', 'omniglot_20way_1shot_noconv',
         'omniglot_5way_1shot_anil', 'miniimagenet_5way_5shot_first_order',
         'omniglot_5way_1shot_reptile']


@pytest.fixture
def written(tmp_path):
  """A function that writes a plan of some lines; its path."""
  def write(*lines, header='priority,row,iterations,seeds'):
    path = tmp_path / 'plan.csv'
    path.write_text('\n'.join(['# A comment, with a comma.', header, *lines, '']))
    return str(path)
  return write


def test_the_plan_has_every_row_at_the_length_of_its_flagfile():
  jobs = plan.read(ROWS)
  assert {job.row.name for job in jobs} == {   # a fresh policy is tested, and not trained
      row.name for row in ROWS if row_config(row).total_iterations}
  assert [job.row.name for job in jobs][:len(FIRST)] == FIRST
  for job in jobs:
    assert job.iterations == row_config(job.row).total_iterations
  seeds = {}
  for job in jobs:
    seeds.setdefault(job.row.name, []).append(job.seed)
  for name, found in seeds.items():
    several = (name in ('omniglot_5way_1shot', 'point_navigation',
                        'point_navigation_pretrained', 'point_navigation_oracle',
                        'cheetah_direction', 'cheetah_velocity')
               or name.startswith('sinusoid'))
    assert found == ([0, 1, 2] if several else [0])


def test_smaller_priorities_come_first_and_else_the_order_of_the_file(written):
  path = written('2,c,60,0', '1,b,50,3 1', '2,a,40,0')
  jobs = plan.read([A, B, C], path=path)
  assert [(job.row.name, job.seed, job.iterations) for job in jobs] == [
      ('b', 3, 50), ('b', 1, 50), ('c', 0, 60), ('a', 0, 40)]
  assert [job.name for job in jobs[1:3]] == ['b (seed 1)', 'c']


def test_the_plan_is_cut_down_to_the_rows_that_are_named(written):
  path = written('2,c,60,0', '1,b,50,0')
  assert [job.row.name for job in plan.read([A, B, C], 'c, b', path)] == ['b', 'c']


def test_the_package_s_own_plan_is_cut_down_to_the_rows_that_there_are():
  row = row_named('omniglot_5way_5shot')
  assert [job.row for job in plan.read([row])] == [row]


@pytest.mark.parametrize('names', [None, 'b'])
def test_a_misspelt_row_of_a_plan_is_refused(names, written):
  path = written('1,b,50,0', '2,omniglot_5way_1shto,60,0')
  rows = [A, B, row_named('omniglot_5way_1shot')]
  with pytest.raises(ConfigError, match=r"'omniglot_5way_1shto' is unknown: did you mean "
                                        r'omniglot_5way_1shot\?') as error:
    plan.read(rows, names, path)
  assert path in str(error.value)


@pytest.mark.parametrize('names, shown', [
    ('d', "'d' is unknown: allowed are a, b, c"), ('a', 'a is not in the plan'),
    ('', '--rows= is not allowed'), ('b,', '--rows=b, is not allowed')])
def test_rows_that_cannot_be_trained_are_refused(names, shown, written):
  with pytest.raises(ConfigError, match=shown):
    plan.read([A, B, C], names, written('2,c,60,0', '1,b,50,0'))


@pytest.mark.parametrize('line', [
    'x,a,60,0', '1,a,0,0', '1,a,60,', '1,a,60,-1', '1,a,60,0 x', '1,a,60', '1,a,60,0,7'])
def test_a_line_that_says_nothing_is_refused(line, written):
  with pytest.raises(ConfigError, match='must be like 1,omniglot_5way_1shot,60000,0 1 2'):
    plan.read([A], path=written(line))


def test_a_file_that_is_no_plan_is_refused(written, tmp_path):
  with pytest.raises(ConfigError, match='a with seed 1 twice'):
    plan.read([A], path=written('1,a,60,0 1', '2,a,60,1'))
  with pytest.raises(ConfigError, match='they must be priority,row,iterations,seeds'):
    plan.read([A], path=written(header='row,iterations'))
  with pytest.raises(ConfigError, match='has no runs'):
    plan.read([A], path=written())
  with pytest.raises(ConfigError, match='cannot be read'):
    plan.read([A], path=str(tmp_path / 'nowhere'))


# The rule for an early end.

def history(*scores, interval=100, measure='accuracy'):
  """Lines with a score each, every `interval` iterations."""
  return [{'iteration': float(interval * number), f'val_{measure}_0': 0.9,
           f'val_{measure}_1': score} for number, score in enumerate(scores, start=1)]


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
FLAT = [0.1, 0.2, 0.3, 0.6, 0.6, 0.5]   # 600 iterations, the last third from 400 on


@pytest.mark.parametrize('scores, planned, since, due', [
    (FLAT, 2400, 0, True),
    (FLAT, 2401, 0, False),              # less than a quarter of the plan
    (RISING, 2400, 0, False),
    ([*FLAT[:4], 0.7, 0.5], 2400, 0, False),   # a better score after 400
    ([*FLAT[:3], 0.5, 0.6, 0.5], 2400, 0, False),
    ([*FLAT[:5], 0.6], 2400, 0, True),   # the same score is no better one
    (FLAT, 2400, 200, True),             # on 600 tasks since a third of the iterations
    (FLAT, 2400, 201, False),
    (FLAT, 2400, None, False),           # not on 600 tasks
    # The better score of before was measured on other tasks.
    ([0.9, 0.9, 0.3, 0.4, 0.5, 0.5], 2400, 200, False),
    ([0.9, 0.2, 0.3, 0.4, 0.5, 0.5], 2400, 0, True),
    ([0.5], 100, 0, False),              # nothing to compare with
    ([], 100, 0, False)])
def test_when_a_run_ends_early(scores, planned, since, due):
  assert early_end.is_due(history(*scores), planned, since, ACCURACY) is due


@pytest.mark.parametrize('better_by, due', [(6e-8, True), (6e-7, True), (5.5e-6, False)])
def test_a_tie_is_no_better_whatever_the_last_digits_are(better_by, due):
  """5.5e-6: an example, of 600 tasks of 20 ways with 15 queries each."""
  scores = [*FLAT[:5], 0.6 + better_by]
  assert early_end.is_due(history(*scores), 2400, 0, ACCURACY) is due
  less = [1 - score for score in scores]
  assert early_end.is_due(history(*less, measure='loss'), 2400, 0, LOSS) is due


def test_a_smaller_loss_is_a_better_score():
  falling = [1 - score for score in RISING]
  assert not early_end.is_due(history(*falling, measure='loss'), 2400, 0, LOSS)
  assert early_end.is_due(history(*RISING, measure='loss'), 2400, 0, LOSS)


def test_the_rule_sees_validations_only():
  """Neither the rest of a run that was stopped, nor scores that are not numbers."""
  rest = {'iteration': 601.0, 'val_accuracy_0': None, 'val_accuracy_1': None}
  assert early_end.is_due([*history(*FLAT), rest], 2400, 0, ACCURACY)
  nan = float('nan')
  assert early_end.is_due(history(nan, *FLAT[1:]), 2400, 0, ACCURACY)
  assert not early_end.is_due(history(nan, nan, nan, nan, 0.5, 0.5), 2400, 0, ACCURACY)


def test_the_score_of_a_line_of_progress():
  assert early_end.score_text([], ACCURACY) == 'not yet'
  assert early_end.score_text(history(*FLAT), ACCURACY) == '50.00 % (best 60.00 % at 400)'
  assert early_end.score_text(history(0.5, 0.25, 0.375, measure='loss'), LOSS) == (
      '0.3750 (best 0.2500 at 200)')


# The verdicts on runs that ended early.

EARLY = {'ended_early': {'rule': early_end.rule(600), 'validation_tasks': 600}}


def standing(row, results):
  return verdicts.standing(row, records.read_all(row, results))


@pytest.mark.parametrize('mean, verdict, text', [
    (0.90, REPRODUCED_EARLY, 'reproduced early (15,000 of 60,000)'),
    (0.80, BELOW_EARLY, 'below, ended early'), (0.99, ABOVE_EARLY, 'above, ended early')])
def test_the_verdict_on_a_run_that_ended_early(mean, verdict, text, make_record):
  results = make_record(A, values=((0.2, 0.0), (mean, 0.01)), trained=15000, planned=60000,
                        **EARLY)
  state = standing(A, results)
  assert (state.verdict, state.text) == (verdict, text)
  assert verdicts.judged(A, state, 1) == verdict


def test_without_a_value_of_the_paper_there_is_a_number(make_record):
  row = Row('curve', 'figure 3', 'Curve', {'datasource': 'sinusoid'}, {}, 1)
  assert standing(row, make_record(row, trained=30, **EARLY)).verdict == MEASURED_EARLY


def test_complete_runs_count_before_those_that_ended_early_and_these_before_partial_ones(
    make_record):
  make_record(A, 0, trained=90)
  results = make_record(A, 1, trained=30, **EARLY)
  make_record(A, 2, trained=40, **EARLY)
  state = standing(A, results)
  assert [record.seed for record in state.records] == [1, 2]
  assert state.text == 'reproduced early (40 of 100)'   # what the longest took
  make_record(A, 3)
  state = standing(A, results)
  assert (state.verdict, [record.seed for record in state.records]) == (REPRODUCED, [3])


def test_a_run_that_went_on_to_its_end_is_complete(make_record):
  [record] = records.read_all(A, make_record(A, trained=100, **EARLY))
  assert record.is_complete and record.is_finished and not record.ended_early
