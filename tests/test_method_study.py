"""The study of methods: the same episodes, seconds that end a run, paired intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from maml_tf import verify
from maml_tf.config import ConfigError
from maml_tf.meta_learners import METHODS
from maml_tf.verification import method_study, pages, plots

FEW = {'maml': {}, 'anil': {'method': 'anil'}}


def test_all_methods_are_in_it_on_the_same_episodes():
  settings = method_study.configs('omniglot')
  assert {config.training.method for _, config in settings} == set(METHODS)
  assert settings[0][0] == 'maml'
  same = {(config.task, config.training.meta_batch_size, config.learner.num_filters,
           config.learner.max_pool) for _, config in settings}
  assert len(same) == 1
  assert len({config.experiment_name for _, config in settings}) == len(settings)
  assert {config.training.meta_lr_schedule for _, config in settings} == {'constant'}
  assert not any(config.evaluation.test_set for _, config in settings)


def test_methods_without_an_inner_loop_are_not_for_regressions():
  methods = {config.training.method for _, config in method_study.configs('sinusoid')}
  assert 'reptile' in methods and 'prototypical' not in methods


def test_paired_differences_by_hand():
  found = method_study.paired(np.array([0.5, 0.75, 1.0]), np.array([0.5, 0.5, 0.5]))
  assert found['mean'] == pytest.approx(0.25)
  assert found['ci95'] == pytest.approx(1.96 * np.std([0, 0.25, 0.5]) / np.sqrt(3))


@pytest.mark.slow
def test_runs_end_after_their_seconds_and_are_compared(tmp_path, monkeypatch, small_config):
  small = dict(num_test_tasks=6, num_validation_tasks=4, update_lr=0.01, test_num_updates=2,
               meta_batch_size=4, xla='off', validation_interval=50, log=False)
  settings = method_study.configs('sinusoid', logdir=str(tmp_path / 'logs'), entries=FEW,
                                  **small)
  results = str(tmp_path / 'results')
  result = method_study.run(settings, 0.5, 'a command', results)
  assert [run['label'] for run in result['runs']] == list(FEW)
  for run, (_, config) in zip(result['runs'], settings):
    assert 0 < run['iterations'] < config.training.metatrain_iterations
    assert len(run['query']) == 3 and run['updates'] == 1
  maml, anil = result['runs']
  assert maml['fingerprint'] == anil['fingerprint']
  assert maml['paired'] == {'mean': 0.0, 'ci95': 0.0}
  assert anil['paired']['mean'] == pytest.approx(
      anil['query'][1]['mean'] - maml['query'][1]['mean'], rel=1e-5)
  with open(tmp_path / 'results' / 'studies' / 'sinusoid_methods.json',
            encoding='utf-8') as file:
    assert json.load(file) == json.loads(json.dumps(result))
  lines = pages.methods_table(results, 'sinusoid')
  assert len(lines) == 4 and 'less that of maml' in lines[0]
  assert plots.methods(result).startswith(b'\x89PNG')

  # A run that had its seconds is tested, and not trained again.
  again = method_study.run(settings, 0.1, 'a command', results)
  assert [run['iterations'] for run in again['runs']] == [
      run['iterations'] for run in result['runs']]


def test_hours_are_for_this_study_and_the_plan_alone(capsys):
  assert verify.main(['--study=methods', '--hours=0']) == 2
  assert '--hours=0.0 is not allowed' in capsys.readouterr().err
  assert verify.main(['--study=ways', '--hours=1']) == 2
  assert '--hours=1.0 is for --train-all' in capsys.readouterr().err


def test_an_unknown_data_source_is_refused():
  with pytest.raises(ConfigError, match='mnist'):
    method_study.configs('mnist')
