"""`python main.py`, as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LONGEST = 600   # seconds; a run takes about ten, on a busy machine minutes


def start(arguments):
  return subprocess.Popen([sys.executable, 'main.py', *arguments], cwd=REPOSITORY, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
  """(exit code, stdout, stderr)."""
  try:
    out, err = process.communicate(timeout=LONGEST)
  finally:
    process.kill()
  assert 'Traceback' not in err, err
  return process.returncode, out, err


def run(*arguments):
  return finish(start(arguments))


def iterations_of(folder):
  """Those of the checkpoints that are complete."""
  return sorted(int(path.stem.split('-')[1]) for path in Path(folder).glob('model-*.index'))


def wait_for_checkpoint(process, folder, above):
  """Until there is a checkpoint of an iteration above that one."""
  deadline = time.monotonic() + LONGEST
  while not [iteration for iteration in iterations_of(folder) if iteration > above]:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.02)


def values_of(prefix):
  import tensorflow as tf
  reader = tf.train.load_checkpoint(str(prefix))
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if 'save_counter' not in name and 'OBJECT_GRAPH' not in name}


@pytest.mark.slow
def test_a_run_that_was_stopped_twice_ends_as_the_uninterrupted_one(tmp_path):
  """By SIGTERM and by SIGINT, at whatever iteration they arrive."""
  def flags(logdir, iterations):
    return (f'--logdir={tmp_path / logdir}', f'--metatrain_iterations={iterations}',
            '--meta_batch_size=2', '--num_validation_tasks=4', '--validation_interval=300',
            '--num_test_tasks=4', '--test_num_updates=1', '--log=False')
  name = 'cls_5.mbs_2.ubs_5.numstep1.updatelr0.001nonorm'
  folder, reached = tmp_path / 'stopped' / name, 0
  for number in (signal.SIGTERM, signal.SIGINT):
    process = start(flags('stopped', 10**7))
    wait_for_checkpoint(process, folder, above=reached)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 0, err
    found = re.search(r'Stopped by (\w+) at iteration (\d+) of 10000000; saved as (\S+); the '
                      'same command goes on from there', out)
    assert found[1] == number.name
    assert ('Resumed at iteration' in out) == (reached > 0)
    assert int(found[2]) > reached
    reached = int(found[2])
    assert found[3] == str(folder / f'model-{reached}')
    assert iterations_of(folder)[-1] == reached
    assert f'{number.name}: stopping after this step' in err
  total = reached + 150   # ends within an execution of 100 steps
  code, out, err = run(*flags('stopped', total))
  assert code == 0, err
  assert f'Resumed at iteration {reached} of {total}' in out
  code, _, err = run(*flags('whole', total))
  assert code == 0, err
  whole = tmp_path / 'whole' / name
  stopped_values = values_of(folder / f'model-{total}')
  whole_values = values_of(whole / f'model-{total}')
  assert stopped_values.keys() == whole_values.keys()
  for key, value in whole_values.items():
    np.testing.assert_array_equal(stopped_values[key], value, err_msg=key)
  tested = [json.loads((path / 'test_ubs5_stepsize0.001.json').read_text())['updates']
            for path in (folder, whole)]
  assert tested[0] == tested[1]
  assert {path.name for path in (folder / 'best').glob('*.index')} == {
      path.name for path in (whole / 'best').glob('*.index')}


@pytest.mark.slow
@pytest.mark.parametrize('datasource, stem', [('omniglot', 'ubs1_stepsize0.4'),
                                              ('miniimagenet', 'ubs1_stepsize0.01')])
def test_image_data_from_end_to_end(datasource, stem, sample_data, tmp_path):
  """Training, which tests on the validation classes; then the test classes, alone."""
  flags = (f'--datasource={datasource}', f'--data_dir={sample_data(datasource)}',
           f'--logdir={tmp_path}', '--num_classes=3', '--num_filters=4',
           '--metatrain_iterations=3', '--validation_interval=2', '--meta_batch_size=2',
           '--train_query_size=2', '--num_updates=1', '--num_validation_tasks=2',
           '--num_test_tasks=4', '--test_num_updates=2')
  code, out, err = run(*flags, '--train=True')
  assert code == 0, err
  [folder] = tmp_path.iterdir()
  files = {name for name in os.listdir(folder) if not name.startswith('events')}
  trained = {'best', 'checkpoint', 'config.json', 'data.json', 'history.csv',
             'model-3.index', 'model-3.data-00000-of-00001', 'sample_tasks.png',
             'train', 'validation'}   # these two are for TensorBoard
  assert files == trained | {f'val_{stem}.csv', f'val_{stem}.json'}
  assert 'Test: 4 tasks of the val classes' in out
  assert {path.name for path in (folder / 'best').iterdir()} == {
      'checkpoint', 'model-2.index', 'model-2.data-00000-of-00001'}

  code, out, err = run(*flags, '--train=False', '--test_set=True')
  assert code == 0, err
  assert 'Test: 4 tasks of the test classes' in out and 'Experiment folder' not in out
  files = {name for name in os.listdir(folder) if not name.startswith('events')}
  assert files == trained | {f'{split}_{stem}.{suffix}' for split in ('val', 'test')
                             for suffix in ('csv', 'json')}
  header, *rows = (folder / f'test_{stem}.csv').read_text().split()
  assert header == 'update0,update1,update2'
  means = np.array([float(value) for value in rows[0].split(',')])
  assert len(rows) == 3 and ((means >= 0) & (means <= 1)).all()
  stored = json.loads((folder / f'test_{stem}.json').read_text())
  assert stored['split'] == 'test' and stored['iteration'] == 3


def test_a_run_that_fails_ends_with_one_sentence(tmp_path):
  code, out, err = run(f'--logdir={tmp_path}', '--metatrain_iterations=100',
                       '--update_lr=1e25', '--num_validation_tasks=2', '--log=False')
  assert code == 1
  assert 'Device: ' in out
  sentence = err.splitlines()[-1]   # below the progress bar
  assert sentence.startswith('main.py: The loss or the meta-gradient of iteration 1 is not')


@pytest.mark.parametrize('wrong', ['--metatrain_iteration=5', '--pretrained=sinusoid_5sho'])
def test_a_wrong_flag_is_refused_before_tensorflow_is_loaded(wrong):
  script = ("import sys, main\n"
            "try:\n"
            f"  sys.exit(main.main(['main.py', '{wrong}']))\n"
            "finally:\n"
            "  print('loaded' if 'tensorflow' in sys.modules else 'not loaded')\n")
  done = subprocess.run([sys.executable, '-c', script], cwd=REPOSITORY, text=True,
                        capture_output=True, timeout=LONGEST)
  assert done.returncode == 2
  assert done.stdout == 'not loaded\n'
  assert done.stderr.startswith('main.py: ') and len(done.stderr.splitlines()) == 1
