"""Trained runs on other tasks: more shots, other ways where that is possible, another set."""

from __future__ import annotations

import json

import pytest

from maml_tf import application, retest
from maml_tf.config import resolve
from maml_tf.prediction import expectation
from maml_tf.training.checkpoints import experiment_folder


@pytest.fixture(scope='module')
def run_of(tmp_path_factory, sample_data):
  """A function that gives the folder of a short run of a method, 3-way 1-shot."""
  folders = {}

  def run(method):
    if method not in folders:
      config = resolve(dict(
          datasource='omniglot', data_dir=sample_data('omniglot'), method=method,
          num_classes=3, num_filters=4, meta_batch_size=2, metatrain_iterations=1,
          num_validation_tasks=2, num_test_tasks=2, test_num_updates=2, log=False,
          logdir=str(tmp_path_factory.mktemp(method))))
      assert application.run(config) == 0
      folders[method] = experiment_folder(config)
    return folders[method]
  return run


def test_other_ways_and_shots_are_tested_and_known_to_predict(run_of, sample_data, capsys):
  run = run_of('anil')
  data = f'--data_dir={sample_data("omniglot")}'
  assert retest.main([f'--run={run}', '--ways=4', '--shots=2', '--tasks=4', data]) == 0
  assert 'omniglot, test classes, 4 ways, 2 shots' in capsys.readouterr().out
  with open(f'{run}/test_on_omniglot_4ways_ubs2.json', encoding='utf-8') as file:
    written = json.load(file)
  assert written['num_tasks'] == 4 and written['config']['task']['num_classes'] == 4
  found = expectation.expected(expectation.of_run(run), [2] * 4, 2)
  assert found.mean == written['updates']['update2']['accuracy']['mean']


def test_each_look_is_counted(run_of, sample_data, capsys):
  arguments = [f'--run={run_of("anil")}', '--shots=3', '--tasks=2',
               f'--data_dir={sample_data("omniglot")}']
  for times in (1, 2):
    assert retest.main(arguments) == 0
    with open(f'{run_of("anil")}/test_on_omniglot_3ways_ubs3.json', encoding='utf-8') as file:
      assert json.load(file)['times_tested'] == times
    assert ('looked at 2 times' in capsys.readouterr().out) == (times == 2)


@pytest.mark.parametrize('arguments', [['--pretrained=sinusoid_5shot'], []])
def test_a_run_is_needed_and_nothing_else_is_offered(arguments, capsys):
  with pytest.raises(SystemExit, match='2'):
    retest.main(arguments)
  assert 'required: --run' in capsys.readouterr().err
  with pytest.raises(SystemExit, match='0'):
    retest.main(['--help'])
  assert '--pretrained' not in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['--ways=4'], 'trained for 3 classes, and 4 are asked for: with --method=maml'),
    (['--datasource=miniimagenet'], 'net was trained on [28, 28, 1]: prepare them'),
    (['--datasource=sinusoid'], 'has no images'),
    (['--shots=5'], 'need')])
def test_what_is_not_possible_is_refused_with_a_reason(run_of, sample_data, capsys, arguments,
                                                       message):
  run = run_of('maml')
  capsys.readouterr()
  folder = sample_data('miniimagenet' if 'miniimagenet' in arguments[0] else 'omniglot')
  assert retest.main([f'--run={run}', '--tasks=2', f'--data_dir={folder}',
                      *arguments]) == 2
  error = capsys.readouterr().err
  assert message in error and len(error.splitlines()) == 1


def test_maml_is_tested_with_other_shots(run_of, sample_data, capsys):
  assert retest.main([f'--run={run_of("maml")}', '--shots=2', '--tasks=2', '--split=val',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  assert 'val classes, 3 ways, 2 shots' in capsys.readouterr().out


def test_a_test_on_other_data_says_so(run_of, sample_data, tmp_path, capsys):
  from data_scripts import make_sample_data, preparation
  folder = str(tmp_path / 'others')
  make_sample_data.write_prepared('omniglot', folder, preparation.Layout(5, 4, 4, 5), seed=1)
  run = run_of('maml')
  for data, others in ((sample_data('omniglot'), ''), (folder, f' on {folder}')):
    assert retest.main([f'--run={run}', '--shots=3', '--tasks=2', f'--data_dir={data}']) == 0
    tests = [tested for tested in expectation.of_run(run) if tested.shots == 3]
    assert {tested.others for tested in tests} == {others}
    assert (expectation.expected(tests, [3] * 3, 2) is None) == bool(others)
  capsys.readouterr()
