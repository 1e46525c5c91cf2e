"""What `main.py` does with a configuration, without a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from stopping import interrupt_at

import main
from maml_tf import application, command_line
from maml_tf.replicas import Replicas
from maml_tf.sources import image_set
from maml_tf.training import progress
from maml_tf.training.run_folder import experiment_folder
from maml_tf.training.run_lock import run_lock

OUTPUT = ['Device: ', 'sinusoid, maml: 5-shot, ', 'MAML, FullyConnected: 1,761 parameters',
          'Experiment folder: ', 'Test: 6 tasks, ', 'Written: ']


def the_sentence(err):
  """The one on stderr that is of the program; there must be no other."""
  lines = [line for line in err.replace('\r', '\n').splitlines() if 'main.py: ' in line]
  assert len(lines) == 1, err
  assert 'Traceback' not in err
  return lines[0]


def call(capsys, *arguments):
  """(exit code, stdout, the sentence on stderr) of a command line that is refused."""
  try:
    code = main.main(['main.py', *arguments])
  except SystemExit as exit_:
    code = exit_.code
  output = capsys.readouterr()
  return code, output.out, the_sentence(output.err)


def test_it_trains_and_then_tests(small_config, capsys):
  config = small_config(metatrain_iterations=40)
  assert application.run(config) == command_line.DONE == 0
  output = capsys.readouterr()
  positions = [output.out.index(text) for text in OUTPUT]
  assert positions == sorted(positions)
  # The configuration is in the folder, and not in front of every message.
  assert output.out.index(OUTPUT[-1]) < 1500 and '"task"' not in output.out
  folder = experiment_folder(config)
  files = {name for name in os.listdir(folder) if not name.startswith('events')}
  assert files == {
      'checkpoint', 'config.json', 'fitted_curves.png', 'history.csv', 'train',
      'model-40.index', 'model-40.data-00000-of-00001', 'test_ubs5_stepsize0.01.csv',
      'test_ubs5_stepsize0.01.json'}
  assert f'{folder}/model-40, ' in output.out


@pytest.mark.parametrize('resume, command', [
    (True, 'the same command'), (False, 'this command without --resume=False')])
def test_a_signal_saves_and_says_how_to_go_on(resume, command, small_config, capsys,
                                              monkeypatch):
  interrupt_at(monkeypatch, 200)
  config = small_config(metatrain_iterations=400, log=False, resume=resume)
  assert application.run(config) == 0
  folder = experiment_folder(config)
  out = capsys.readouterr().out
  assert (f'Stopped by SIGTERM at iteration 200 of 400; saved as {folder}/model-200; '
          f'{command} goes on from there.') in out
  assert 'Test: ' not in out
  assert not [name for name in os.listdir(folder) if name.startswith('test_')]


def test_a_loss_that_is_not_finite_is_a_failure(small_config, capsys):
  config = small_config(metatrain_iterations=100, meta_lr=1e30)
  assert application.run(config) == command_line.FAILED == 1
  sentence = the_sentence(capsys.readouterr().err)
  assert 'meta-gradient of iteration 2 is not finite' in sentence
  assert 'lower --meta_lr' in sentence


def test_a_test_that_is_not_finite_is_a_failure(small_config, capsys):
  """One sentence at the end, and JSON that is JSON; the numbers there are, are kept."""
  config = small_config(metatrain_iterations=0)
  assert application.run(config) == command_line.DONE
  config = small_config(train=False, train_update_lr=0.01, update_lr=1e20)
  capsys.readouterr()
  assert application.run(config) == command_line.FAILED
  output = capsys.readouterr()
  [sentence] = [line for line in output.err.splitlines() if 'finite' in line]
  assert 'the loss of the query set after' in sentence and '--update_lr=1e+20' in sentence
  assert 'Warning' not in output.err
  with open(os.path.join(experiment_folder(config), 'test_ubs5_stepsize1e+20.json'),
            encoding='utf-8') as file:
    stored = json.load(file, parse_constant=pytest.fail)
  assert stored['updates']['update2']['loss']['mean'] is None
  assert stored['updates']['update0_query']['loss']['mean'] > 0


def test_a_validation_that_is_not_finite_is_said(small_config, capsys):
  """Reptile validates by other updates than it trains by; the training goes on."""
  config = small_config(metatrain_iterations=2, validation_interval=1, method='reptile',
                        inner_optimizer='sgd', update_lr=1e9, meta_lr=1e-30, log=False,
                        num_updates=1, test_num_updates=8)
  application.run(config)
  error = capsys.readouterr().err
  assert 'Validation after iteration 1: the loss of the query set after' in error
  assert 'Validation after iteration 2' in error


@pytest.mark.slow
def test_a_full_disk_is_a_failure(small_config, capsys, disk_limit):
  """Before the first checkpoint, and when the results are written."""
  config = small_config(metatrain_iterations=40)
  for what, size in (('The checkpoint of iteration 40', 5000), ('', 10)):
    if size < 1000:   # not enough for the results
      assert application.run(config) == command_line.DONE
      config = small_config(metatrain_iterations=40, train=False)
      before = {path: path.read_bytes() for path in Path(experiment_folder(config)).iterdir()
                if path.is_file()}
      capsys.readouterr()
    with disk_limit(size):
      code = application.run(config)
    assert code == command_line.FAILED == 1
    captured = capsys.readouterr()
    sentence = the_sentence(captured.err)
    assert sentence.startswith(f'main.py: {what}') and 'cannot be written' in sentence
    # What was measured is said all the same.
    assert ('95% interval' in captured.out) == (size < 1000)
    assert 'Free some space' in sentence
  after = {path: path.read_bytes() for path in before}
  assert after == before


def test_another_process_in_the_folder_is_refused_and_a_test_is_not(small_config, capsys):
  config = small_config(metatrain_iterations=20)
  assert application.run(config) == 0
  with run_lock(experiment_folder(config)):
    before = sorted(os.listdir(experiment_folder(config)))
    capsys.readouterr()
    for given in (dict(), dict(resume=False), dict(xla='off')):
      assert application.run(small_config(metatrain_iterations=30, **given)) == 2
      assert 'is training in' in the_sentence(capsys.readouterr().err)
    assert sorted(os.listdir(experiment_folder(config))) == before
    assert application.run(small_config(metatrain_iterations=20, train=False)) == 0
  assert os.listdir(config.run.logdir) == [os.path.basename(experiment_folder(config))]
  assert application.run(small_config(metatrain_iterations=30)) == 0


def test_a_start_that_was_refused_leaves_nothing_to_be_repeated(arguments, capsys, tmp_path):
  """The corrected command has another value, too."""
  flags = arguments('omniglot', net='--conv=False')
  code, _, sentence = call(capsys, *flags, f'--data_dir={tmp_path / "nowhere"}',
                           '--xla=off')
  assert code == 2 and 'nowhere' in sentence
  assert main.main(['main.py', *flags]) == 0


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_it_taken(
    small_config, capsys):
  config = small_config(metatrain_iterations=20, log=False)
  assert application.run(config) == 0
  assert application.run(small_config(metatrain_iterations=40, log=False)) == 0
  folder = experiment_folder(config)
  os.truncate(os.path.join(folder, 'model-40.data-00000-of-00001'), 1000)
  capsys.readouterr()
  assert application.run(small_config(metatrain_iterations=40, train=False)) == 0
  output = capsys.readouterr()
  assert f'The checkpoint {folder}/model-40 is damaged (' in output.err
  assert f'{folder}/model-20, ' in output.out
  assert application.run(small_config(metatrain_iterations=40, log=False)) == 0
  output = capsys.readouterr()
  assert 'going on from model-20.' in output.err
  assert 'Resumed at iteration 20 of 40' in output.out
  assert f'{folder}/model-40, ' in output.out


def test_ctrl_c_in_the_test_is_not_a_traceback(small_config, capsys, monkeypatch):
  def interrupted(*_):
    raise KeyboardInterrupt
  monkeypatch.setattr(application, 'test', interrupted)
  assert application.run(small_config(train=False)) == 130
  assert 'main.py: interrupted' in the_sentence(capsys.readouterr().err)


@pytest.mark.slow
def test_data_that_change_under_a_run_end_it_with_a_sentence(small_config, tmp_path,
                                                             sample_data, capsys, monkeypatch):
  """Where they are not in memory, as those of mini-ImageNet."""
  monkeypatch.setattr(image_set, '_READ_BYTES', 0)
  shutil.copytree(sample_data('omniglot'), tmp_path / 'data')
  config = small_config('omniglot', metatrain_iterations=40, num_updates=1, log=False,
                        data_dir=str(tmp_path / 'data'))
  monkeypatch.setattr(progress.Progress, 'after_iterations', lambda *_: os.truncate(
      tmp_path / 'data' / 'train.npy', 1000))
  assert application.run(config) == 1
  sentence = the_sentence(capsys.readouterr().err)
  assert 'train.npy' in sentence and 'got shorter' in sentence


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_of_training_says_what_stands(number, small_config, capsys,
                                                       monkeypatch):
  """Before the first step, with a checkpoint or without one, and in the test."""
  def interrupted(*_):
    signal.raise_signal(number)
  config = small_config(metatrain_iterations=0, log=False)
  with monkeypatch.context() as patch:
    patch.setattr(application, 'train', interrupted)
    assert application.run(config) == 128 + number
  assert the_sentence(capsys.readouterr().err).endswith('; nothing was trained yet.')
  assert os.listdir(config.run.logdir) == [config.experiment_name]   # and no lock
  with monkeypatch.context() as patch:
    patch.setattr(application, 'test', interrupted)
    assert application.run(config) == 128 + number
  assert 'the same command tests again' in the_sentence(capsys.readouterr().err)
  monkeypatch.setattr(application, 'train', interrupted)
  assert application.run(config) == 128 + number
  assert the_sentence(capsys.readouterr().err).endswith(
      'the same command goes on from iteration 0.')


def test_a_worker_that_does_not_write_neither_names_a_folder_nor_looks_for_one(
    small_config, capsys, monkeypatch):
  """It named one that it never makes, and looked there for the best checkpoint and the last
  one of worker 0."""
  monkeypatch.setattr(Replicas, 'is_writer', property(lambda self: False))
  config = small_config(metatrain_iterations=2, validation_interval=5,
                        test_checkpoint='best', num_test_tasks=2)
  assert application.run(config) == 0
  out = capsys.readouterr().out
  assert 'FullyConnected' in out and 'Experiment folder' not in out
  assert not os.path.exists(config.run.logdir)
  several = small_config(distribution_strategy='multi_worker_mirrored',
                         worker_hosts='a:1,b:1', task_index=1)
  def interrupted(*_):
    raise KeyboardInterrupt
  monkeypatch.setattr(application, 'joined', interrupted)
  assert application.run(several) == 130
  assert the_sentence(capsys.readouterr().err).endswith(
      'the same command, for all workers, goes on from the last checkpoint, if there is one.')


# What is refused: exit code 2, one sentence.

@pytest.fixture
def arguments(tmp_path, sample_data):
  """The flags of a small run, of a data source."""
  def of(datasource='sinusoid', logdir='logs', net='--num_filters=2'):
    flags = [f'--datasource={datasource}', f'--logdir={tmp_path / logdir}',
             '--meta_batch_size=2', '--num_validation_tasks=2', '--num_test_tasks=2',
             '--metatrain_iterations=0', '--test_num_updates=1']
    if datasource != 'sinusoid':
      flags += [f'--data_dir={sample_data(datasource)}', '--num_classes=3',
                '--train_query_size=1', net]
    return flags
  return of


def test_a_test_without_a_checkpoint_is_refused(arguments, capsys):
  code, _, sentence = call(capsys, *arguments(), '--train=False')
  assert code == 2
  assert 'There is no checkpoint to test in' in sentence and 'train first' in sentence


def test_a_best_checkpoint_that_nothing_would_choose_is_refused_before_training(
    arguments, capsys):
  more = ['--metatrain_iterations=4', '--test_checkpoint=best']
  code, output, sentence = call(capsys, *arguments(), *more, '--validation_interval=5')
  assert code == 2 and 'give --validation_interval=1, or --test_checkpoint=latest' in sentence
  assert 'Experiment folder' not in output
  assert main.main(['main.py', *arguments(), more[0], '--validation_interval=5']) == 0
  code, _, sentence = call(capsys, *arguments(), *more, '--train=False')
  assert code == 2 and 'No validation has chosen a best checkpoint' in sentence
  assert main.main(['main.py', *arguments(), '--metatrain_iterations=6', more[1],
                    '--validation_interval=5']) == 0
  # The best one so far would be moved aside.
  code, output, sentence = call(capsys, *arguments(), *more, '--validation_interval=5',
                                '--resume=False')
  assert code == 2 and 'give --validation_interval=1' in sentence
  assert 'was moved to' not in output


def test_another_configuration_is_refused_with_what_differs(arguments, capsys):
  assert main.main(['main.py', *arguments()]) == 0
  code, _, sentence = call(capsys, *arguments(), '--xla=off')
  assert code == 2
  assert '(training.xla auto -> off)' in sentence and '--resume=False' in sentence
  # And an iteration that was not kept.
  code, _, sentence = call(capsys, *arguments(), '--train=False', '--test_iter=500')
  assert code == 2
  assert '--test_iter=500: there is no checkpoint' in sentence and 'has [0]' in sentence


def test_without_resume_the_earlier_run_is_kept_aside(arguments, capsys, tmp_path):
  assert main.main(['main.py', *arguments()]) == 0
  [folder] = (tmp_path / 'logs').iterdir()
  assert main.main(['main.py', *arguments(), '--xla=off', '--resume=False']) == 0
  aside = folder.with_name(f'{folder.name}.previous1')
  assert f'The earlier run was moved to {aside}' in capsys.readouterr().out
  for path in (folder, aside):
    assert (path / 'model-0.index').exists()
    assert (path / 'test_ubs5_stepsize0.001.csv').exists()
  assert '"xla": "auto"' in (aside / 'config.json').read_text()
  assert '"xla": "off"' in (folder / 'config.json').read_text()


@pytest.mark.parametrize('datasource, train', [('omniglot', 'True'), ('omniglot', 'False'),
                                               ('miniimagenet', 'True')])
def test_missing_prepared_data_are_refused(datasource, train, arguments, tmp_path, capsys):
  flags = arguments(datasource, net='--conv=False')
  if train == 'False':   # there is a checkpoint to test
    assert main.main(['main.py', *flags]) == 0
    capsys.readouterr()
  code, _, sentence = call(capsys, *flags, f'--train={train}',
                           f'--data_dir={tmp_path / "nowhere"}')
  assert code == 2
  assert f"{tmp_path / 'nowhere'}" in sentence
  assert f'python data_scripts/prepare_{datasource}.py' in sentence


@pytest.mark.parametrize('given, named', [
    (['--num_classes=5', '--test_set=True'], '--num_classes=5 is larger than the val split'),
    (['--update_batch_size=4', '--train_query_size=9'], 'need 13 images of a class')])
def test_prepared_data_that_are_too_small_are_refused(given, named, arguments, capsys):
  code, _, sentence = call(capsys, *arguments('omniglot'), *given)
  assert code == 2 and named in sentence


@pytest.mark.parametrize('damage', ['train.npy', 'val.npy', 'manifest.json', 'half'])
def test_nothing_trains_on_damaged_data(damage, arguments, tmp_path, sample_data, capsys):
  folder = tmp_path / 'data'
  shutil.copytree(sample_data('omniglot'), folder)
  if damage == 'half':
    (folder / 'val.npy').unlink()
  else:
    data = bytearray((folder / damage).read_bytes())
    data[-3] ^= 1
    (folder / damage).write_bytes(data)
  code, out, sentence = call(capsys, *arguments('omniglot'), f'--data_dir={folder}')
  assert code == 2 and 'Test:' not in out
  assert {'half': 'lacks the file', 'manifest.json': 'cannot be read as JSON'}.get(
      damage, 'changed or damaged') in sentence
  assert 'prepare_omniglot.py' in sentence and '--overwrite' in sentence


def test_a_damaged_checkpoint_is_refused(arguments, capsys, tmp_path):
  assert main.main(['main.py', *arguments()]) == 0
  [folder] = (tmp_path / 'logs').iterdir()
  (folder / 'model-0.data-00000-of-00001').write_bytes(b'short')
  capsys.readouterr()
  for more in ([], ['--train=False']):
    code, _, sentence = call(capsys, *arguments(), *more)
    assert code == 2 and 'is damaged (' in sentence


def test_a_logdir_that_cannot_be_written_is_refused(arguments, capsys, tmp_path):
  (tmp_path / 'file').write_text('')
  code, _, sentence = call(capsys, *arguments(logdir='file'))
  assert code == 2 and 'choose another --logdir' in sentence


def test_a_group_that_does_not_divide_is_refused(arguments, capsys):
  code, _, sentence = call(capsys, *arguments(), '--meta_batch_size=4', '--tasks_at_once=3')
  assert code == 2 and '--tasks_at_once=3 does not divide --meta_batch_size=4' in sentence


@pytest.mark.slow
def test_the_oracle_and_the_pre_trained_baseline_run(arguments, tmp_path, capsys):
  """All of their training is pre-training, on the support set."""
  for baseline, inputs in (('None', 1), ('oracle', 3)):
    flags = [flag for flag in arguments(logdir=baseline) if 'metatrain' not in flag]
    assert main.main(['main.py', *flags, f'--baseline={baseline}', '--pretrain_iterations=5',
                      '--metatrain_iterations=0']) == 0
    [folder] = (tmp_path / baseline).iterdir()
    reader = tf.train.load_checkpoint(str(folder / 'model-5'))
    shapes = [shape for name, shape in reader.get_variable_to_shape_map().items()
              if name.startswith('parameters')]
    assert [inputs, 40] in shapes
    rows = np.loadtxt(folder / 'test_ubs5_stepsize0.001.csv', delimiter=',', skiprows=1)
    assert rows.shape == (3, 2) and np.isfinite(rows).all()
  assert "The paper's values are of other settings" in capsys.readouterr().out
