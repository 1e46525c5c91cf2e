"""What may stand beside the paper's values."""

from __future__ import annotations

import pytest

import flags
from maml_tf.config import resolve
from maml_tf.paper.comparable import comparison
from maml_tf.paper.rows import ROWS


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
def test_a_row_s_own_run_stands_beside_its_values(row):
  config = flags.parse(['main.py', f'--flagfile={row.flagfile_path}'])
  assert comparison(config, config.total_iterations).values == row.paper
  shorter = comparison(config, config.total_iterations - 1)
  assert shorter.values == {} and (f'{config.total_iterations:,} iterations' in
                                   (shorter.why_none or '')) == bool(row.paper)
  # Nor is a run of more iterations one of the paper's.
  assert comparison(config, config.total_iterations + 1).values == {}


@pytest.mark.parametrize('given, named', [
    (dict(), '70,000 iterations, and not of 15,000'),
    (dict(datasource='omniglot', update_lr=0.1), 'inner_loop.update_lr 0.4 and not 0.1'),
    (dict(datasource='omniglot', test_query_size=5), 'task.test_query_size 1 and not 5'),
    (dict(datasource='omniglot', num_filters=32), 'learner.num_filters 64 and not 32')])
def test_another_length_or_setting_is_named(given, named):
  config = resolve({'test_set': True, **given})
  beside = comparison(config, config.total_iterations)
  assert beside.values == {} and named in beside.why_none


@pytest.mark.parametrize('given, named', [
    (dict(update_batch_size=5, train_update_batch_size=1),
     'evaluation.train_update_batch_size 5 and not 1'),
    (dict(train_update_lr=0.5), 'evaluation.train_update_lr 0.01 and not 0.5')])
def test_a_net_that_was_trained_otherwise_has_not_the_paper_s_values(given, named):
  config = resolve(dict(datasource='miniimagenet', test_set=True, train=False, **given))
  beside = comparison(config, config.total_iterations)
  assert beside.values == {} and named in beside.why_none


@pytest.mark.parametrize('given', [
    dict(train_update_batch_size=1, train_update_lr=0.4, train=False), dict(seed=3),
    dict(data_dir='elsewhere'), dict(num_test_tasks=50), dict(tasks_at_once=4)])
def test_what_does_not_matter_may_differ(given):
  assert comparison(resolve({'datasource': 'omniglot', 'test_set': True, **given}), 60000
                    ).values == {3: '98.7 +- 0.4'}


def test_what_has_no_value_in_the_paper_says_nothing():
  assert comparison(resolve(dict(update_batch_size=10)), 5) == ({}, None)
  assert comparison(resolve(dict(datasource='omniglot', test_set=False)), 5) == ({}, None)


@pytest.mark.parametrize('start', ['pretrained', 'legacy_checkpoint'])
def test_a_training_that_starts_from_trained_weights_is_not_the_paper_s(start):
  given = {'datasource': 'miniimagenet', 'test_set': True, start: 'a_row'}
  beside = comparison(resolve(given), 60000)
  assert beside.values == {} and f'run.{start} None and not a_row' in beside.why_none


def test_a_tf1_checkpoint_is_named_after_one_of_its_last_iterations():
  given = dict(datasource='miniimagenet', test_set=True, train=False,
               legacy_checkpoint='model59999')
  assert comparison(resolve(given), 59999).values
  assert not comparison(resolve(given), 40000).values


@pytest.mark.parametrize('given', [
    dict(test_set=True, train=False), dict(test_set=True), dict(train=False, update_lr=0.1)])
def test_characters_that_the_tf1_code_may_have_trained_on_are_no_test_of_its_net(given):
  config = resolve(dict(datasource='omniglot', legacy_checkpoint='model59999', **given))
  beside = comparison(config, 59999)
  assert beside.values == {} and 'did not know' in beside.why_none


def test_weights_of_other_data_may_know_the_classes():
  config = resolve(dict(datasource='omniglot', test_set=True, train=False))
  assert comparison(config, 60000, 'omniglot_5way_1shot').values
  beside = comparison(config, 60000, 'omniglot_5way_1shot', of_other_data=True)
  assert beside.values == {} and 'did not know' in beside.why_none
