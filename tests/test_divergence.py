"""What a run that diverges is advised are flags that it has."""

from __future__ import annotations

import re

import pytest

from maml_tf import application, command_line
from maml_tf.config import ConfigError, resolve
from maml_tf.errors import NotFiniteError
from maml_tf.meta_learners import METHODS, WITHOUT_INNER_LOOP
from maml_tf.training.divergence import (
  advice,
  advice_for_test,
  fewer_or_another,
  with_advice,
)

SINUSOID = dict(datasource='sinusoid')
POINT = dict(datasource='point_navigation')
POINT_PRETRAINED = dict(**POINT, baseline='pretrained')   # by Adam
POINT_ORACLE = dict(**POINT, baseline='oracle')
META_TRAINED = [SINUSOID, POINT,
                *(dict(datasource='omniglot', method=method) for method in METHODS)]
PRETRAINED = [SINUSOID, dict(**SINUSOID, baseline='oracle'), POINT_PRETRAINED, POINT_ORACLE,
              dict(datasource='miniimagenet', baseline='fine_tuning')]


@pytest.mark.parametrize('run, pretraining', [
    *((run, False) for run in META_TRAINED), *((run, True) for run in PRETRAINED)])
def test_each_flag_is_accepted_with_another_value(run, pretraining):
  flags = re.findall(r'--(\w+)', advice(resolve(run), pretraining))
  assert flags
  for flag in flags:
    assert resolve({**run, flag: 1e-3}).to_values()[flag] == 1e-3


@pytest.mark.parametrize('run, pretraining, expected', [
    (SINUSOID, False, 'lower --meta_lr or --update_lr, or clip with --meta_gradient_clip'),
    (SINUSOID, True, 'lower --meta_lr'),
    (POINT, False, 'lower --update_lr or --max_kl'),
    (POINT_PRETRAINED, True, 'lower --meta_lr'),
    (POINT_ORACLE, True, 'lower --max_kl'),
    (dict(datasource='omniglot', method='reptile'), False, 'lower --meta_lr or --update_lr'),
    (dict(datasource='omniglot', method='siamese'), False,
     'lower --meta_lr, or clip with --meta_gradient_clip'),
    (dict(datasource='omniglot', method='imaml', proximal_weight=3.0), False,
     'lower --meta_lr or --update_lr, change --proximal_weight=3.0 (times --update_lr it must '
     'be below 2 for the inner loop to converge; the larger it is, the steadier are conjugate '
     'gradients), or clip with --meta_gradient_clip')])
def test_what_is_refused_or_changes_nothing_is_not_advised(run, pretraining, expected):
  assert advice(resolve(run), pretraining) == expected


@pytest.mark.parametrize('run, fields', [
    (SINUSOID, ['update_lr', 'test_num_updates', 'test_iter']),
    (POINT, ['update_lr', 'test_num_updates', 'test_iter']),
    (dict(datasource='omniglot', method='meta_sgd'), ['test_num_updates', 'test_iter']),
    (dict(datasource='omniglot', learned_step_sizes='layer_and_step'),
     ['test_num_updates', 'test_iter']),
    (dict(datasource='omniglot', method='maml_plus_plus'), ['test_num_updates', 'test_iter']),
    *((dict(datasource='omniglot', method=method), ['test_iter'])
      for method in WITHOUT_INNER_LOOP)])
def test_a_test_is_advised_by_flags_that_it_has(run, fields):
  assert re.findall(r'--(\w+)', advice_for_test(resolve(run))) == fields
  for field in fields:
    value = {'update_lr': 1e-3}.get(field, 1)
    given = {**run, field: value, 'train': False}
    config = resolve(given)
    assert config.to_values()[field] == value


@pytest.mark.parametrize('field', ['legacy_checkpoint', 'pretrained'])
def test_a_test_of_a_named_file_is_advised_to_name_another(field):
  run = dict(train=False, **{field: 'x'})
  assert re.findall(r'--(\w+)', advice_for_test(resolve(run))) == [
      'update_lr', 'test_num_updates', field]
  assert advice_for_test(resolve({**run, 'train': True})).endswith('--test_iter')


@pytest.mark.parametrize('method', METHODS)
def test_fewer_updates_are_advised_where_there_are_any(method):
  said = fewer_or_another(resolve(dict(datasource='omniglot', method=method)), 'updates',
                          'iteration')
  flags = ['iteration'] if method in WITHOUT_INNER_LOOP else ['updates', 'iteration']
  assert re.findall(r'--(\w+)', said) == flags


def test_what_is_not_advised_is_refused():
  with pytest.raises(ConfigError, match='--meta_gradient_clip'):
    resolve(dict(datasource='omniglot', method='reptile', meta_gradient_clip=1.0))


def test_it_stands_behind_what_happened():
  with pytest.raises(NotFiniteError, match='^Iteration 3 is not finite: lower --meta_lr[.]$'):
    with with_advice(resolve(SINUSOID), pretraining=True):
      raise NotFiniteError('Iteration 3 is not finite')


@pytest.mark.parametrize('given, expected', [
    (dict(pretrain_iterations=100), r'\): lower --meta_lr\.$'),
    (dict(pretrain_iterations=0), r'\): lower --meta_lr or --update_lr, or clip with')])
def test_a_run_that_diverges_ends_with_it(given, expected, small_config, capsys):
  config = small_config(metatrain_iterations=100, meta_lr=1e30, log=False, **given)
  assert application.run(config) == command_line.FAILED
  [sentence] = [line for line in capsys.readouterr().err.splitlines() if 'not finite' in line]
  assert re.search(expected, sentence)
