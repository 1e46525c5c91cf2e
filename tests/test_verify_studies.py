"""The studies: one flag differs, and the test classes are not touched."""

from __future__ import annotations

import json
import os

import pytest

from maml_tf.config import ConfigError, differences
from maml_tf.training.run_folder import experiment_folder
from maml_tf.verification import method_study, report, studies
from maml_tf.verification.studies import STUDIES, configs, study_named

CASES = [(study, datasource) for study in STUDIES for datasource in study.values]


@pytest.mark.parametrize('study, datasource', CASES,
                         ids=[f'{study.name}-{source}' for study, source in CASES])
def test_the_runs_of_a_study_differ_in_its_flag_alone(study, datasource):
  settings = configs(study, datasource)
  labels = [label for label, _ in settings]
  assert len(set(labels)) == len(labels) == len(study.values[datasource])
  first = settings[0][1]
  for label, config in settings:
    found = differences(first, config)
    assert {name.split('.')[1] for name in found} <= {study.flag}
    assert not config.evaluation.test_set and config.run.train
    assert config.training.metatrain_iterations == studies.DEFAULT_ITERATIONS[datasource]
    if study.flag is not None:
      assert label == f'{study.flag} {config.to_values()[study.flag]}'
  assert len({experiment_folder(config) for _, config in settings}) == len(settings)


def test_runs_of_another_length_have_another_folder():
  study = study_named('inner_steps')
  [short, long] = [configs(study, iterations=count)[0][1] for count in (100, 200)]
  assert short.experiment_name == long.experiment_name
  assert experiment_folder(short) != experiment_folder(long)


def test_studies_share_the_runs_that_they_have_in_common():
  def runs(name):
    return {experiment_folder(config): config for _, config in configs(study_named(name))}
  watched = runs('iterations')
  for name in ('before_and_after', 'ways', 'inner_steps', 'meta_batch', 'filters'):
    common = watched.keys() & runs(name).keys()
    assert len(common) == 1, name
    [folder] = common
    assert watched[folder] == runs(name)[folder]


def test_every_run_of_a_study_has_a_name_in_words():
  for study, datasource in CASES:
    for label, config in configs(study, datasource):
      words = studies.in_words(label)
      if study.flag is not None:
        assert study.flag not in words and words.startswith(
            f'{config.to_values()[study.flag]} ')


def test_an_unknown_study_is_refused():
  with pytest.raises(ConfigError, match='allowed are ways, shots'):
    study_named('learning_rate')


def test_the_study_of_methods_is_among_those_that_are_allowed():
  with pytest.raises(ConfigError, match=f'before_and_after, {method_study.NAME}'):
    study_named('nope')
  with pytest.raises(ConfigError, match=f'--study={method_study.NAME}'):
    study_named(method_study.NAME)   # of another kind


TINY = dict(meta_batch_size=2, num_validation_tasks=2, num_test_tasks=4, test_num_updates=2,
            log=False)


@pytest.mark.slow
@pytest.mark.parametrize('name, runs, title', [
    ('query_images', 2, 'Query examples per class in training'),
    ('before_and_after', 1, 'Mean squared error before and after the updates')])
def test_a_study_is_run_reported_and_not_trained_again(name, runs, title, tmp_path, capsys):
  study, results = study_named(name), str(tmp_path / 'results')
  settings = configs(study, 'sinusoid', 100, logdir=str(tmp_path / 'logs'), **TINY)
  assert len(settings) == runs
  result = studies.run_study(study, settings, 'python -m it', results)
  assert 'Resumed' not in capsys.readouterr().out
  stem = os.path.join(results, 'studies', f'sinusoid_{name}')
  with open(stem + '.json', encoding='utf-8') as file:
    assert json.load(file) == result
  assert result['measure'] == 'loss' and result['length'] == '100 iterations per run'
  for run, (label, config) in zip(result['runs'], settings):
    assert run['label'] == label and run['iterations'] == 100
    assert len(run['query']) == 3 and all(value['ci95'] > 0 for value in run['query'])
    assert [line['iteration'] for line in run['history']] == list(range(10, 101, 10))
    tested, = (name for name in os.listdir(experiment_folder(config))
               if name.startswith('test_') and name.endswith('.json'))
    with open(os.path.join(experiment_folder(config), tested), encoding='utf-8') as file:
      loss = json.load(file)['updates']['update2']['loss']
    assert run['query'][2] == {'mean': loss['mean'], 'ci95': loss['ci95']}
  if runs == 1:
    again = studies.run_study(study, settings, 'python -m it', results)
    assert 'Resumed at iteration 100 of 100' in capsys.readouterr().out
    assert [run['query'] for run in again['runs']] == [run['query'] for run in result['runs']]
  report.write_report([], None, results)
  assert os.path.getsize(stem + '.png') > 5000
  with open(os.path.join(results, 'studies.md'), encoding='utf-8') as file:
    text = file.read()
  assert f'## Sinusoid: {title}' in text and '`python -m it`: 100 iterations per run' in text
