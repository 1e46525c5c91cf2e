"""`python -m maml_tf.verify`: a tiny row from nothing to its place in the report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from stopping import interrupt_at

import flags
from maml_tf import application, verify
from maml_tf.config import ConfigError
from maml_tf.errors import CheckpointError, WriteError
from maml_tf.files import sha256_of_file
from maml_tf.paper import records
from maml_tf.paper.flagfiles import row_config
from maml_tf.paper.rows import ROWS, Row
from maml_tf.training.checkpoint_files import BEST_FOLDER, CheckpointFiles
from maml_tf.training.checkpoint_for_test import restore_for_test
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.run_folder import experiment_folder
from maml_tf.training.run_lock import run_lock
from maml_tf.verification import kept_runs, pages, provenance, runs, spans

ROOT = Path(__file__).resolve().parent.parent
FLAGS = """--datasource=sinusoid
--metatrain_iterations=300
--meta_batch_size=2
--validation_interval=100
--num_validation_tasks=2
--num_test_tasks=6
--test_num_updates=2
--log=False
"""


@pytest.fixture
def row(tmp_path):
  """A row of figure 2 and 3, but small."""
  path = tmp_path / 'tiny.flags'
  path.write_text(FLAGS)
  return Row('sinusoid_5shot', 'table 2', 'Tiny', {'datasource': 'sinusoid'},
             {1: '3.0', 2: '2.0'}, 2, str(path))


@pytest.fixture
def call(row, tmp_path, capsys):
  """A function that runs the command: (exit code, stdout, stderr)."""
  def run(*arguments, folders=True):
    given = [f'--results={tmp_path / "results"}', f'--logdir={tmp_path / "logs"}']
    try:
      code = verify.main([*arguments, *(given if folders else [])], rows=[row])
    except SystemExit as ended:
      code = ended.code
    output = capsys.readouterr()
    return code, output.out, output.err
  return run


def record_of(tmp_path, row, seed=0):
  return records.read(row, seed, str(tmp_path / 'results'))


@pytest.mark.slow
def test_a_signal_between_weights_and_record_leaves_both(call, row, tmp_path, monkeypatch):
  original = records.write_bytes
  def write(path, content):
    original(path, content)
    if path.endswith('.npz'):
      signal.raise_signal(signal.SIGINT)
  monkeypatch.setattr(records, 'write_bytes', write)
  code, _, err = call(f'--row={row.name}', '--train')
  assert code == 130 and 'interrupted' in err
  path = records.file_of(row, 0, '.npz', str(tmp_path / 'results'))
  assert record_of(tmp_path, row).fields['weights']['sha256'] == sha256_of_file(path)


@pytest.mark.slow
def test_a_row_is_trained_in_parts_tested_once_and_reported(call, row, tmp_path):
  train = (f'--row={row.name}', '--train')
  code, out, _ = call(*train, '--iterations=150')
  assert code == 0 and 'partial' in out and '150 of 300' in out
  partial = record_of(tmp_path, row)
  assert (partial.trained, partial.planned, partial.fields['times_tested']) == (150, 300, 1)
  # Nothing new to see: the test tasks are left alone.
  for again in (('--test',), ('--train', '--iterations=150')):
    code, _, err = call(f'--row={row.name}', *again)
    assert code == 2 and 'was tested after 150 iterations already' in err
    assert err.count('\n') == 1

  code, out, _ = call(*train)
  assert code == 0 and 'Resumed at iteration 150 of 300' in out
  complete = record_of(tmp_path, row)
  assert complete.is_complete and complete.fields['times_tested'] == 2
  folder = tmp_path / 'results' / row.name
  assert sorted(os.listdir(folder)) == ['seed0.history.csv', 'seed0.json', 'seed0.npz']
  code, _, err = call(*train)
  assert code == 2 and 'is final' in err and '--again' in err
  code, _, _ = call(f'--row={row.name}', '--test', '--again')
  assert code == 0 and record_of(tmp_path, row).fields['times_tested'] == 3

  code, out, _ = call('--report')
  assert code == 0
  for name in (*pages.PAGES, 'figure_2.png', 'figure_3.png',
               f'{row.name}/learning_curves.png'):
    assert f'Written: {tmp_path / "results" / name}' in out
  assert '| 300 of 300 | model-300, chosen by being the last | 3 times |' in (
      tmp_path / 'results' / 'runs.md').read_text()


def arrays_of(path):
  with np.load(path) as archive:
    return dict(archive)


@pytest.mark.slow
def test_another_machine_goes_on_with_a_partial_run(call, row, tmp_path):
  """From the results alone, and ends as a run that was left alone."""
  train, weights = (f'--row={row.name}', '--train'), f'{row.name}/seed0.npz'
  assert call(*train, '--iterations=200')[0] == 0
  kept = tmp_path / 'results' / row.name / 'seed0.run'
  assert sorted(path.name for path in kept.iterdir()) == [
      'best', 'checkpoint', 'config.json', 'history.csv', 'model-200.data-00000-of-00001',
      'model-200.index', 'trained_by.json']
  assert str(tmp_path) not in (kept / 'config.json').read_text()
  shutil.copytree(tmp_path / 'results', tmp_path / 'another' / 'results')
  assert call(*train)[0] == 0
  assert not kept.exists()   # the row is complete

  elsewhere = [f'--results={tmp_path / "another" / "results"}',
               f'--logdir={tmp_path / "another" / "logs"}']
  code, out, err = call(*train, *elsewhere, folders=False)
  assert code == 0, err
  assert 'Going on from iteration 200, which' in out and 'Resumed at iteration 200' in out
  expected = arrays_of(tmp_path / 'results' / weights)
  found = arrays_of(tmp_path / 'another' / 'results' / weights)
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value)
  records_ = [records.read(row, 0, str(folder)).fields for folder in (
      tmp_path / 'results', tmp_path / 'another' / 'results')]
  assert records_[0]['updates'] == records_[1]['updates']
  assert records_[1]['training']['iterations'] == 300 and records_[1]['times_tested'] == 2
  assert records_[0]['training']['by_commit'] == records_[1]['training']['by_commit'] == [
      [provenance.commit(), 0, 300]]


@pytest.mark.slow
def test_a_kept_run_is_left_alone_where_it_does_not_fit(call, row, tmp_path):
  train = (f'--row={row.name}', '--train', '--iterations=200')
  assert call(f'--row={row.name}', '--train', '--iterations=100')[0] == 0
  folder = tmp_path / 'logs'
  # The folder's own run.
  code, out, _ = call(*train)
  assert code == 0 and 'Going on' not in out and 'Resumed at iteration 100' in out
  # One that got less far takes no place.
  code, out, _ = call(f'--row={row.name}', '--train', '--iterations=50', '--anew', '--again')
  assert code == 0 and 'Not kept yet: ' in out and 'another run, of 200 iterations' in out
  assert record_of(tmp_path, row).trained == 50
  assert records.kept_iteration(row, 0, str(tmp_path / 'results')) == 200
  # What was asked for.
  shutil.rmtree(folder)
  code, out, _ = call(f'--row={row.name}', '--train', '--iterations=250', '--anew')
  assert code == 0 and 'Going on' not in out and 'Resumed' not in out
  # Other flags.
  shutil.rmtree(folder)
  path = Path(row.flagfile_path)
  path.write_text(path.read_text() + '--meta_lr=0.01\n')
  code, out, _ = call(f'--row={row.name}', '--train')
  assert code == 0 and 'Resumed' not in out
  assert 'Starting at iteration 0: ' in out and '(training.meta_lr 0.001 -> 0.01)' in out


@pytest.mark.slow
def test_a_run_can_be_started_anew(call, row, tmp_path):
  assert call(f'--row={row.name}', '--train', '--iterations=100')[0] == 0
  code, out, _ = call(f'--row={row.name}', '--train', '--iterations=200', '--anew')
  assert code == 0 and 'Resumed' not in out and '200 of 300' in out
  assert 'The earlier run was moved to' in out
  record = record_of(tmp_path, row)
  assert record.trained == record.fields['training']['iterations'] == 200


@pytest.mark.parametrize('written_by, read_by, fits', [
    ('2.15.1', '2.21.0', False), ('2.21.0', '2.15.1', False), ('2.15.1', '2.15.0', True),
    ('2.21.0', '2.16.1', True)])
def test_a_kept_run_of_another_keras_is_left_alone(written_by, read_by, fits, row, tmp_path,
                                                   make_record, monkeypatch, capsys):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  results = make_record(row, trained=100, planned=300, versions={'tensorflow': written_by})
  kept = records.file_of(row, 0, records.KEPT_RUN, results)
  CheckpointFiles(kept, 1).write(tf.train.Checkpoint(value=tf.Variable(1.0)), 100)
  monkeypatch.setattr(tf, '__version__', read_by)
  runs.go_on_with_what_was_kept(row, config, results)
  assert (tf.train.latest_checkpoint(experiment_folder(config)) is not None) == fits
  shown = 'Going on from iteration 100' if fits else f'was written by TensorFlow {written_by}'
  assert shown in capsys.readouterr().out


def test_a_start_that_was_killed_while_it_took_a_kept_run_takes_it_again(tmp_path):
  """The last checkpoint comes last."""
  kept, folder = tmp_path / 'kept', tmp_path / 'logs' / 'run'
  value = tf.Variable(1.0)
  for subfolder, iteration in (('', 20), (BEST_FOLDER, 10)):
    CheckpointFiles(str(kept / subfolder), 1).write(tf.train.Checkpoint(value=value),
                                                    iteration)
  config = flags.parse(['main.py'])
  os.makedirs(folder)
  shutil.copytree(kept / BEST_FOLDER, folder / BEST_FOLDER)
  assert kept_runs.go_on_with(str(kept), str(folder), config) == 20
  assert kept_runs.go_on_with(str(kept), str(folder), config) is None
  for subfolder, iteration in (('', 20), (BEST_FOLDER, 10)):
    assert tf.train.latest_checkpoint(str(folder / subfolder)).endswith(f'model-{iteration}')
  assert kept_runs.go_on_with(str(tmp_path / 'nothing'), str(tmp_path / 'new'),
                              config) is None


def holding(values):
  module = tf.Module()
  module.values = tf.Variable(values)
  return module


def checkpoints_of(folder, **iterations):
  """A run with a best and a last checkpoint, as training names what is in them."""
  for subfolder, iteration in iterations.items():
    saved = Checkpoints(str(folder), parameters=holding([float(iteration)] * 3),
                        meta_optimizer=holding([0.0] * 1000))
    if subfolder == 'best':
      assert saved.offer_best(iteration, 0.5)
    else:
      saved.save(iteration)


def best_weights(folder):
  """As a test reads them."""
  parameters = holding([0.0] * 3)
  restore_for_test(str(folder), flags.parse(['main.py', '--test_checkpoint=best']),
                   parameters=parameters)
  return list(parameters.values.numpy())


@pytest.mark.parametrize('best', [10, 20])
def test_a_kept_run_has_nothing_twice_and_of_the_best_checkpoint_the_parameters(
    best, tmp_path):
  folder, kept, other = (tmp_path / name for name in ('run', 'kept', 'other'))
  checkpoints_of(folder, best=best, latest=20)
  kept_runs.keep(str(folder), str(kept))
  assert sorted(path.name for path in kept.rglob('*.index')) == sorted(
      {f'model-{best}.index', 'model-20.index'})
  data = [path for path in (kept / BEST_FOLDER).glob('*.data*')]
  assert sum(path.stat().st_size for path in data) < 2000   # 4,000 bytes are moments
  assert kept_runs.go_on_with(str(kept), str(other), flags.parse(['main.py'])) == 20
  assert best_weights(other) == [best] * 3
  assert tf.train.load_checkpoint(tf.train.latest_checkpoint(str(other))).get_tensor(
      'meta_optimizer/values/.ATTRIBUTES/VARIABLE_VALUE').shape == (1000,)
  # What was kept can be kept again.
  kept_runs.keep(str(other), str(kept))
  assert kept_runs.go_on_with(str(kept), str(tmp_path / 'third'),
                              flags.parse(['main.py'])) == 20
  assert best_weights(tmp_path / 'third') == [best] * 3


def test_a_kept_run_is_not_lost_by_a_kill_between_the_old_one_and_the_new(tmp_path,
                                                                          monkeypatch):
  folder, kept = tmp_path / 'run', tmp_path / 'kept'
  checkpoints_of(folder, best=10, latest=20)
  kept_runs.keep(str(folder), str(kept))
  checkpoints_of(folder, latest=30)
  replace = os.replace

  class Killed(BaseException):
    pass

  def killed(source, target):
    if target == str(kept):
      raise Killed
    replace(source, target)
  with monkeypatch.context() as patched:
    patched.setattr(os, 'replace', killed)
    with pytest.raises(Killed):
      kept_runs.keep(str(folder), str(kept))
  assert not kept.exists()
  config = flags.parse(['main.py'])
  assert kept_runs.go_on_with(str(kept), str(tmp_path / 'other'), config) == 20
  kept_runs.keep(str(folder), str(kept))
  assert kept_runs.go_on_with(str(kept), str(tmp_path / 'third'), config) == 30
  assert not [path.name for path in tmp_path.iterdir() if path.name.startswith('kept.')]


def test_the_run_that_got_further_is_gone_on_with(tmp_path):
  """Where that is asked for: what another machine has kept is not thrown away."""
  folder, kept = tmp_path / 'run', tmp_path / 'kept'
  checkpoints_of(folder, best=10, latest=20)
  kept_runs.keep(str(folder), str(kept))
  config = flags.parse(['main.py'])
  shutil.rmtree(folder)
  checkpoints_of(folder, best=5, latest=10)
  assert kept_runs.go_on_with(str(kept), str(folder), config) is None
  other = flags.parse(['main.py', '--meta_lr=0.5'])
  kept_config = (kept / 'config.json')
  kept_config.write_text(other.to_json())
  assert kept_runs.go_on_with(str(kept), str(folder), config, further=True) is None
  kept_config.unlink()
  assert kept_runs.go_on_with(str(kept), str(folder), config, further=True) == 20
  assert tf.train.latest_checkpoint(str(folder)).endswith('model-20')
  assert best_weights(folder) == [10.0] * 3
  assert kept_runs.go_on_with(str(kept), str(folder), config, further=True) is None


def test_a_run_that_got_further_stays_until_another_is_as_far(row, tmp_path, capsys):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder, results = Path(experiment_folder(config)), str(tmp_path / 'results')
  kept = records.file_of(row, 0, records.KEPT_RUN, results)
  checkpoints_of(tmp_path / 'other', latest=20)
  kept_runs.keep(str(tmp_path / 'other'), kept)
  for iteration, there in ((10, 20), (20, 20), (30, 30)):
    checkpoints_of(folder, latest=iteration)
    runs.keep_row(row, config, results)
    assert records.kept_iteration(row, 0, results) == there
    assert ('Not kept yet: ' in capsys.readouterr().out) == (iteration < there)


def cut_off(checkpoint):
  [data] = Path(checkpoint).parent.glob(f'{Path(checkpoint).name}.data*')
  data.write_bytes(data.read_bytes()[:-5])


@pytest.mark.parametrize('has_own', [True, False])
def test_a_damaged_kept_run_is_left_alone_until_another_takes_its_place(
    has_own, row, tmp_path, capsys):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder, results = Path(experiment_folder(config)), str(tmp_path / 'results')
  kept = records.file_of(row, 0, records.KEPT_RUN, results)
  checkpoints_of(tmp_path / 'other', best=15, latest=20)
  (tmp_path / 'other' / 'history.csv').write_text('of the other')
  kept_runs.keep(str(tmp_path / 'other'), kept)
  cut_off(f'{kept}/model-20')
  if has_own:
    checkpoints_of(folder, best=5, latest=10)
    (folder / 'history.csv').write_text('its own')
  runs.go_on_with_what_was_kept(row, config, results, further=True)
  out = capsys.readouterr().out
  assert 'model-20 is damaged' in out and 'Going on from iteration' not in out
  assert ('Going on with' if has_own else 'Starting at iteration 0') in out
  assert runs.done(str(folder)) == 10 * has_own
  if has_own:
    assert best_weights(folder) == [5.0] * 3
    assert (folder / 'history.csv').read_text() == 'its own'
    runs.keep_row(row, config, results)
    assert records.kept_iteration(row, 0, results) == 10
    assert 'has a damaged run, which this one replaces' in capsys.readouterr().out


def test_a_run_whose_checkpoints_are_all_damaged_gives_way_to_the_kept_one(tmp_path):
  folder, kept = tmp_path / 'run', tmp_path / 'kept'
  checkpoints_of(tmp_path / 'other', best=10, latest=20)
  kept_runs.keep(str(tmp_path / 'other'), str(kept))
  checkpoints_of(folder, latest=30)
  cut_off(folder / 'model-30')
  assert kept_runs.go_on_with(str(kept), str(folder), flags.parse(['main.py'])) == 20
  assert runs.done(str(folder)) == 20


@pytest.mark.parametrize('damaged_is', ['in the folder', 'kept', 'missing'])
def test_without_a_best_checkpoint_the_next_validation_is_the_best(
    damaged_is, tmp_path, capsys):
  """Also of the same tasks, whose score would never be beaten otherwise."""
  folder, kept, other = (tmp_path / name for name in ('run', 'kept', 'other'))
  saved = Checkpoints(str(folder), parameters=holding([0.0] * 3))
  saved.score_on(lambda: 'these', lambda path: 0.5)
  saved.offer_best(10, 0.5)
  saved.save(20)
  if damaged_is == 'in the folder':
    cut_off(folder / BEST_FOLDER / 'model-10')
  kept_runs.keep(str(folder), str(kept))
  if damaged_is == 'kept':
    cut_off(kept / BEST_FOLDER / 'model-10')
  if damaged_is == 'missing':
    (kept / BEST_FOLDER / 'model-10.index').unlink()
  assert kept_runs.go_on_with(str(kept), str(other), flags.parse(['main.py'])) == 20
  assert 'model-10 is missing or is damaged' in capsys.readouterr().out
  assert not (other / BEST_FOLDER).exists()
  assert {path.name for path in tmp_path.iterdir()} == {'run', 'kept', 'other'}
  gone_on = Checkpoints(str(other), parameters=holding([1.0] * 3))
  assert gone_on.restore_latest() == 20
  gone_on.score_on(lambda: 'these', lambda path: 0.5)
  assert gone_on.offer_best(30, 0.1)


def test_a_best_checkpoint_that_is_damaged_is_kept_from_the_last_one_of_its_name(tmp_path):
  folder, kept = tmp_path / 'run', tmp_path / 'kept'
  checkpoints_of(folder, best=20, latest=20)
  cut_off(folder / BEST_FOLDER / 'model-20')
  kept_runs.keep(str(folder), str(kept))
  assert kept_runs.go_on_with(str(kept), str(tmp_path / 'other'),
                              flags.parse(['main.py'])) == 20
  assert best_weights(tmp_path / 'other') == [20.0] * 3


def test_a_full_disk_is_one_sentence_and_what_was_kept_before_stays(
    row, tmp_path, monkeypatch):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder, results = Path(experiment_folder(config)), str(tmp_path / 'results')
  kept = Path(records.file_of(row, 0, records.KEPT_RUN, results))
  checkpoints_of(folder, latest=10)
  runs.keep_row(row, config, results)
  checkpoints_of(folder, best=15, latest=20)

  def full(**_):
    raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device')
  monkeypatch.setattr(tf.raw_ops, 'SaveV2', full)
  with pytest.raises(WriteError, match='No space left on device.*Free some space'):
    runs.keep_row(row, config, results)
  assert [path.name for path in kept.parent.iterdir()] == [kept.name]
  assert records.kept_iteration(row, 0, results) == 10


def test_a_damaged_best_checkpoint_is_not_tested(row, tmp_path):
  Path(row.flagfile_path).write_text(FLAGS + '--test_checkpoint=best\n')
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder = Path(experiment_folder(config))
  checkpoints_of(folder, best=10, latest=20)
  cut_off(folder / BEST_FOLDER / 'model-10')
  with pytest.raises(CheckpointError, match='is damaged .* with --row=NAME --train --anew'):
    runs.test_row(row, config, str(tmp_path / 'results'))


def test_where_the_newest_checkpoint_is_damaged_no_earlier_one_is_recorded(row, tmp_path):
  """As one that was trained for as many iterations."""
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder = Path(experiment_folder(config))
  checkpoints_of(folder, latest=200)
  checkpoints_of(folder, latest=300)
  cut_off(folder / 'model-300')
  with pytest.raises(CheckpointError, match='model-300 is damaged .* train the row on from'):
    runs.test_row(row, config, str(tmp_path / 'results'))


def test_checkpoints_that_are_all_damaged_are_refused_with_what_verify_can_do(row, tmp_path):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder = Path(experiment_folder(config))
  checkpoints_of(folder, latest=20)
  cut_off(folder / 'model-20')
  with pytest.raises(CheckpointError, match='is damaged: .* --row=NAME --train --anew'):
    runs.train(config, 300)


def test_who_is_refused_by_the_lock_leaves_nothing_in_the_folder(row, tmp_path):
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  folder = experiment_folder(config)
  spans.begin(folder, spans.Span('training', 0, None, 600, tf.__version__))
  with run_lock(folder):
    with pytest.raises(ConfigError, match='Another process'):
      runs.train(config, 300)
  assert [span.commit for span in spans.read(folder)] == ['training']


def test_a_span_says_which_tasks_it_is_validated_on(row, tmp_path):
  """Those that the checkpoints have with their best score."""
  config = verify.row_config(row, logdir=str(tmp_path / 'logs'))
  runs.train(config, 100)
  folder = experiment_folder(config)
  [span] = spans.read(folder)
  best = tf.train.load_checkpoint(os.path.join(folder, BEST_FOLDER, 'model-100'))
  assert span.validated_on == runs.validated_on(config) == best.get_tensor(
      'best_tasks/.ATTRIBUTES/VARIABLE_VALUE').decode()


@pytest.mark.slow
def test_what_is_recorded(call, row, tmp_path):
  assert call(f'--row={row.name}', '--train', '--seed=4')[0] == 0
  fields = record_of(tmp_path, row, 4).fields
  config = verify.row_config(row, seed=4, logdir=str(tmp_path / 'logs'))
  folder = experiment_folder(config)
  tested = json.loads(Path(folder, 'test_ubs5_stepsize0.001.json').read_text())
  assert fields['updates'] == tested['updates']
  assert fields['tested']['episodes_fingerprint'] == tested['episodes_fingerprint']
  assert fields['times_tested'] == tested['times_tested'] == 1
  assert fields['seed'] == fields['config']['task']['seed'] == 4
  # The weights are those of the checkpoint, and the values those of the first episodes.
  saved = np.load(tmp_path / 'results' / row.name / 'seed4.npz')
  reader = tf.train.load_checkpoint(os.path.join(folder, 'model-300'))
  for name in saved.files:
    key = f'parameters/{name.replace("/", "_")}/.ATTRIBUTES/VARIABLE_VALUE'
    np.testing.assert_array_equal(saved[name], reader.get_tensor(key))
  values = np.array(fields['first_episodes']['values'])
  assert values.shape == (5, 3)
  assert fields['training']['iterations'] == 300 and fields['training']['seconds'] > 0
  assert fields['machine'] == provenance.machine()
  # Nothing of where it was run.
  assert str(tmp_path) not in (tmp_path / 'results' / row.name / 'seed4.json').read_text()


@pytest.mark.slow
def test_a_run_of_main_is_gone_on_with(call, row, tmp_path, capsys):
  """In the same folder; and what it tested counts."""
  arguments = ['main.py', f'--flagfile={row.flagfile_path}', f'--logdir={tmp_path / "logs"}',
               '--metatrain_iterations=100']
  assert application.run(flags.parse(arguments)) == 0
  capsys.readouterr()
  code, out, _ = call(f'--row={row.name}', '--test')
  assert code == 0 and '100 of 300' in out
  assert record_of(tmp_path, row).fields['times_tested'] == 2
  code, out, _ = call(f'--row={row.name}', '--train')
  assert code == 0 and 'Resumed at iteration 100 of 300' in out
  assert record_of(tmp_path, row).trained == 300


def test_a_signal_saves_and_the_test_tasks_are_left_alone(call, row, tmp_path, monkeypatch):
  interrupt_at(monkeypatch, 100)
  code, out, _ = call(f'--row={row.name}', '--train')
  assert code == 0
  assert 'Stopped by SIGTERM at iteration 100 of 300' in out and 'Test: ' not in out
  assert record_of(tmp_path, row) is None
  assert not list((tmp_path / 'logs').glob('*/*.csv.tmp'))


@pytest.mark.slow
def test_images_are_tested_with_the_checkpoint_that_validation_chose(
    call, row, tmp_path, sample_data):
  Path(row.flagfile_path).write_text(
      '--datasource=omniglot\n--num_classes=3\n--conv=False\n--meta_batch_size=2\n'
      '--metatrain_iterations=3\n--validation_interval=2\n--num_validation_tasks=2\n'
      '--num_test_tasks=4\n--test_num_updates=2\n--test_set=True\n'
      '--test_checkpoint=best\n--log=False\n')
  code, out, err = call(f'--row={row.name}', '--train',
                        f'--data_dir={sample_data("omniglot")}')
  assert code == 0, err
  fields = record_of(tmp_path, row).fields
  assert fields['iterations'] == {'trained': 3, 'planned': 3}
  assert fields['measure'] == 'accuracy' and fields['tested']['split'] == 'test'
  assert fields['tested']['checkpoint'] == 'best/model-2'
  assert fields['tested']['chosen_by'] == 'validation score'
  assert fields['tested']['iteration'] == 2


def test_the_last_checkpoint_is_tested_where_no_validation_chose_one(row, tmp_path):
  config = flags.parse(['main.py', '--datasource=omniglot', '--test_checkpoint=best'])
  tested = runs._for_test(config, str(tmp_path))
  assert tested.evaluation.test_checkpoint == 'latest' and not tested.run.train
  (tmp_path / 'best').mkdir()
  tf.train.Checkpoint(value=tf.Variable(1)).write(str(tmp_path / 'best' / 'model-2'))
  (tmp_path / 'best' / 'checkpoint').write_text('model_checkpoint_path: "model-2"\n')
  assert runs._for_test(config, str(tmp_path)).evaluation.test_checkpoint == 'best'


def test_a_test_of_nothing_is_refused(call, row):
  code, _, err = call(f'--row={row.name}', '--test')
  assert code == 2 and 'There is no checkpoint in' in err and err.count('\n') == 1


@pytest.mark.slow
def test_a_run_of_other_flags_in_the_folder_is_refused(call, row, tmp_path):
  assert call(f'--row={row.name}', '--train', '--iterations=100')[0] == 0
  path = Path(row.flagfile_path)
  path.write_text(path.read_text() + '--xla=on\n')
  for action in ('--train', '--test'):
    code, _, err = call(f'--row={row.name}', action, '--again')
    assert code == 2 and 'training.xla auto -> on' in err
    assert '--anew' in err and '--resume' not in err


def test_the_list_is_made_without_tensorflow():
  script = ('import sys\nfrom maml_tf import verify\n'
            'code = verify.main([])\n'
            'sys.exit(code or ("tensorflow" in sys.modules) * 5)\n')
  done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, text=True,
                        capture_output=True, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('row ') and 'omniglot_20way_5shot' in done.stdout


@pytest.mark.parametrize('arguments, shown', [
    (['--row=nowhere', '--train'], "'nowhere' is unknown"),
    (['--row=sinusoid_5shot'], 'needs one of --train and --test'),
    (['--row=sinusoid_5shot', '--train', '--test'], 'needs one of'),
    (['--train'], '--row=NAME'), (['--report', '--study=ways'], 'does not fit'),
    (['--row=sinusoid_5shot', '--train', '--iterations=0'], '--iterations=0'),
    (['--row=sinusoid_5shot', '--test', '--iterations=5'], '--iterations=5'),
    (['--row=sinusoid_5shot', '--train', '--datasource=omniglot'], '--datasource=omniglot'),
    (['--row=sinusoid_5shot', '--train', '--seed=-1'], '--seed=-1'),
    (['--row=sinusoid_5shot', '--train', '--seed=x'], "invalid int value: 'x'"),
    (['--study=nothing'], "'nothing' is unknown"),
    (['--study=ways', '--datasource=sinusoid'], '--datasource=sinusoid'),
    (['--study=shots', '--datasource=mnist'], '--datasource=mnist'),
    (['--study=shots', '--iterations=-3'], '--iterations=-3'),
    (['--row=sinusoid_5shot', '--test', '--anew'], '--anew'),
    (['--again'], '--again'), (['--bogus'], '--bogus'),
    (['--train-all', '--rows=nowhere'], "'nowhere' is unknown"),
    (['--train-all', '--rows='], '--rows= is not allowed'),
    (['--train-all', '--plan=nowhere.csv'], 'nowhere.csv cannot be read'),
    (['--train-all', '--plan=nowhere.csv'], 'check --plan'),
    (['--train-all', '--hours=0'], '--hours=0.0 is not allowed'),
    (['--train-all', '--hours=nan'], '--hours=nan is not allowed'),
    (['--train-all', '--hours=inf'], '--hours=inf is not allowed'),
    (['--train-all', '--hours=x'], "invalid float value: 'x'"),
    (['--train-all', '--turn=0.5'], '--turn=0.5 is not allowed'),
    (['--train-all', '--cores=0'], '--cores=0 is not allowed: it must be from 1 to'),
    (['--train-all', '--cores=10000'], '--cores=10000 is not allowed'),
    (['--train-all', '--seed=1'], '--train-all takes rows, iterations and seeds from'),
    (['--train-all', '--train'], '--train-all takes'),
    (['--train-all', '--row=sinusoid_5shot'], 'does not fit --train-all'),
    (['--hours=2'], '--hours=2.0 is for --train-all'),
    (['--study=ways', '--hours=2'], 'or for --study=methods: give that'),
    (['--study=methods', '--datasource=point_navigation'],
     'is not made for --datasource=point_navigation'),
    (['--seed=3'], '--seed=3 is for what trains or tests'),
    (['--report', '--seed=3'], '--seed=3 is for what trains or tests'),
    ([], 'there is no such folder'), (['--report'], 'there is no such folder'),
    (['--row=sinusoid_5shot', '--train', '--cores=1'], '--cores=1 is for --train-all'),
    (['--study=ways', '--plan=mine.csv'], '--plan=mine.csv is for --train-all'),
    (['--study=methods', '--cores=1'], '--cores=1 is for --train-all'),
    (['--rows=sinusoid_5shot'], '--rows=sinusoid_5shot is for --train-all')])
def test_mistakes_are_one_sentence(arguments, shown, call):
  code, out, err = call(*arguments)
  assert code == 2 and out == ''
  assert err.startswith('maml_tf.verify: ') and err.count('\n') == 1 and shown in err


@pytest.mark.parametrize('command', [['--row=sinusoid_5shot', '--train'], ['--train-all']])
def test_where_no_checkpoint_can_be_read_none_is_kept(command, tmp_path, monkeypatch, capsys):
  """A kept run was 'damaged' there, and trained from its start again."""
  folder = tmp_path / 'maml [1]'
  folder.mkdir()
  monkeypatch.chdir(folder)
  assert verify.main([*command, f'--results={folder}/results']) == 2
  err = capsys.readouterr().err
  assert f'--results={folder}/results is not allowed: it has a pair of brackets' in err or (
      f'--logdir={folder}/logs is not allowed: it has a pair of brackets' in err)


def test_a_row_has_no_more_iterations_than_its_flagfile(call, row):
  code, _, err = call(f'--row={row.name}', '--train', '--iterations=301')
  assert code == 2 and err.count('\n') == 1
  assert f'--iterations=301 is not allowed: {row.name} has 300 by its flagfile' in err


# Where results come from.

def test_the_commit_and_whether_it_was_changed(git, tmp_path):
  git(tmp_path, 'init', '-q')
  (tmp_path / 'a').write_text('1')
  git(tmp_path, 'add', 'a')
  git(tmp_path, 'commit', '-q', '-m', 'first')
  clean = provenance.commit(str(tmp_path))
  assert len(clean) == 40
  (tmp_path / 'results').mkdir()
  (tmp_path / 'results' / 'new.json').write_text('{}')
  assert provenance.commit(str(tmp_path)) == clean
  (tmp_path / 'a').write_text('2')
  assert provenance.commit(str(tmp_path)) == f'{clean}+changes'

  # A package that is installed within the repository of something else is not of its commit.
  (tmp_path / 'installed').mkdir()
  assert provenance.commit(str(tmp_path / 'installed')) == 'unknown'


def test_a_result_names_the_gpu_and_the_commit_that_the_work_began_with(monkeypatch):
  monkeypatch.setattr('maml_tf.devices.name', lambda: 'GPU (A card)')
  stamp = provenance.stamp('the commit')
  assert stamp['machine']['gpu'] == 'GPU (A card)' and stamp['commit'] == 'the commit'
  assert 'platform' not in stamp['versions'] and stamp['date'] == provenance.today()
  monkeypatch.setattr('maml_tf.devices.name', lambda: 'CPU')
  assert provenance.stamp('the commit')['machine']['gpu'] is None


def test_a_complete_result_is_not_replaced_by_one_of_less_iterations(make_record):
  row = ROWS[0]
  results = make_record(row, trained=300, planned=300)
  config = row_config(row)
  for trained, again in ((200, True), (200, False)):
    with pytest.raises(ConfigError, match='has a result of 300 iterations .* one of 200, in'):
      runs._require_news(row, config, trained, results, again)
  runs._require_news(row, config, 300, results, again=True)
  results = make_record(row, trained=200, planned=300)   # a partial one may be repeated
  runs._require_news(row, config, 100, results, again=True)


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
  assert provenance.commit(str(tmp_path)) == 'unknown'
  monkeypatch.setenv('PATH', str(tmp_path))
  assert provenance.commit(str(ROOT)) == 'unknown'


def test_the_machine_has_a_processor():
  machine = provenance.machine('A card')
  assert machine['cpu'] and machine['cores'] >= 1
  assert provenance.machine_text(machine).startswith('A card; ')
  assert provenance.machine_text({'cpu': 'P', 'cores': 1, 'gpu': None}) == 'P, 1 core'
