"""Trained runs on other tasks: more shots, other ways where that is possible, another set."""

from __future__ import annotations

import glob
import json
import os
import shutil

import numpy as np
import pytest

from maml_tf import application, retest
from maml_tf.config import resolve
from maml_tf.prediction import expectation
from maml_tf.training.run_folder import experiment_folder


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


@pytest.mark.parametrize('flag', ['--tasks', '--ways'])
def test_one_of_them_is_refused_by_its_own_name(flag, capsys):
  with pytest.raises(SystemExit, match='2'):
    retest.main(['--run=anywhere', f'{flag}=1'])
  assert f"{flag}: '1' is not allowed: it must be a whole number of 2 or more" in (
      capsys.readouterr().err)


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
  from data_scripts import make_sample_data
  from data_scripts.plan import Layout
  folder = str(tmp_path / 'others')
  make_sample_data.write_prepared('omniglot', folder, Layout(5, 4, 4, 5), seed=1)
  run = run_of('maml')
  for data, others in ((sample_data('omniglot'), ''), (folder, f' on {folder}')):
    assert retest.main([f'--run={run}', '--shots=3', '--tasks=2', f'--data_dir={data}']) == 0
    out = capsys.readouterr().out
    assert 'looked at' not in out and ('say nothing of new ones' in out) == bool(others)
    tests = [tested for tested in expectation.of_run(run) if tested.shots == 3]
    assert {tested.others for tested in tests} == {'', others}
  # The test on the run's own data is there as it was.
  assert expectation.expected(tests, [3] * 3, 2).others == ''
  assert len(glob.glob(f'{run}/test_on_omniglot_3ways_ubs3_of_others-????????.json')) == 1


def test_what_differs_from_the_run_s_own_test_is_in_the_name(run_of, sample_data):
  run = run_of('maml')
  given = [f'--run={run}', '--shots=4', '--tasks=2', '--queries=1', '--updates=2',
           f'--data_dir={sample_data("omniglot")}']
  for more, name in (('--ways=3', ''), ('--updates=1', '_updates1'),
                     ('--iteration=1', '_iteration1')):
    assert retest.main([*given, more]) == 0
    with open(f'{run}/test_on_omniglot_3ways_ubs4{name}.json', encoding='utf-8') as file:
      assert json.load(file)['times_tested'] == 1
  assert retest.main([f'--run={run}', '--tasks=2', '--queries=2',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  assert os.path.exists(f'{run}/test_on_omniglot_3ways_ubs1_queries2.json')


def test_an_iteration_of_a_run_that_began_with_other_weights(run_of, sample_data, tmp_path):
  run = shutil.copytree(run_of('maml'), tmp_path / 'run')
  config = json.loads((run / 'config.json').read_text())
  config['run']['pretrained'] = 'omniglot_5way_1shot'
  (run / 'config.json').write_text(json.dumps(config))
  assert retest.main([f'--run={run}', '--tasks=2', '--iteration=1',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  written = json.loads((run / 'test_on_omniglot_3ways_ubs1_iteration1.json').read_text())
  assert written['iteration'] == 1


def test_the_step_size_is_that_of_training_and_not_said_to_be_tuned(run_of, sample_data,
                                                                    tmp_path):
  run = shutil.copytree(run_of('maml'), tmp_path / 'run')
  config = json.loads((run / 'config.json').read_text())
  config['evaluation']['tune_update_lr'] = True
  (run / 'config.json').write_text(json.dumps(config))
  assert retest.main([f'--run={run}', '--tasks=2', '--shots=2',
                      f'--data_dir={sample_data("omniglot")}']) == 0
  written = json.loads((run / 'test_on_omniglot_3ways_ubs2.json').read_text())
  assert written['tuning'] is None
  assert not written['config']['evaluation']['tune_update_lr']


def test_of_a_damaged_checkpoint_it_is_said_what_this_command_can_do(run_of, tmp_path, capsys):
  run = shutil.copytree(run_of('maml'), tmp_path / 'run')
  os.truncate(run / 'model-1.data-00000-of-00001', 10)
  assert retest.main([f'--run={run}', '--iteration=1']) == 2
  error = capsys.readouterr().err
  assert 'model-1 is damaged' in error and 'take another one by --iteration' in error
  assert '--test_iter' not in error


def test_results_that_are_not_finite_are_said(run_of, sample_data, monkeypatch, capsys):
  from maml_tf.evaluation import protocol
  run = run_of('maml')
  evaluate = protocol.Evaluator.__call__
  def diverged(*args, **kwargs):
    results = evaluate(*args, **kwargs)
    results.query['loss'][0, 1] = np.inf
    return results
  monkeypatch.setattr(protocol.Evaluator, '__call__', diverged)
  assert retest.main([f'--run={run}', '--tasks=2', '--split=val',
                      f'--data_dir={sample_data("omniglot")}']) == 1
  assert ('the loss of the query set after 1 update is not, in at least one task: test with '
          'fewer --updates, or test another checkpoint with --iteration.'
          ) in capsys.readouterr().err
  with open(f'{run}/val_on_omniglot_3ways_ubs1.json', encoding='utf-8') as file:
    updates = json.load(file, parse_constant=pytest.fail)['updates']
  assert updates['update1']['loss']['mean'] is None


def test_a_missing_folder_of_own_images_is_said(tmp_path, capsys):
  from PIL import Image

  from data_scripts import prepare_images
  for name in range(6):
    (tmp_path / 'photos' / str(name)).mkdir(parents=True)
    for index in range(4):
      Image.new('RGB', (16, 16), (name, index, 0)).save(
          tmp_path / 'photos' / str(name) / f'{index}.png')
  assert prepare_images.main([f'--source={tmp_path / "photos"}', f'--out={tmp_path / "set"}',
                              '--size=16', '--shares=2,2,2']) == 0
  config = resolve(dict(
      datasource='images', data_dir=str(tmp_path / 'set'), num_filters=4, meta_batch_size=2,
      metatrain_iterations=1, num_validation_tasks=2, num_test_tasks=2, test_num_updates=1,
      log=False, logdir=str(tmp_path / 'runs')))
  assert application.run(config) == 0
  run = f'--run={experiment_folder(config)}'
  shutil.move(tmp_path / 'set', tmp_path / 'moved')
  capsys.readouterr()
  for more, named in ([], 'set'), ([f'--data_dir={tmp_path / "typo"}'], 'typo'):
    assert retest.main([run, '--tasks=2', *more]) == 2
    assert f"There is no folder '{tmp_path / named}'" in capsys.readouterr().err
  assert retest.main([run, '--tasks=2', f'--data_dir={tmp_path / "moved"}']) == 0
