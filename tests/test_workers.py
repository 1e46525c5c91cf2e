"""Runs of two real processes, and what becomes of one when something happens to the other."""

from __future__ import annotations

import csv
import random
import shutil
import signal
import time

import numpy as np
import pytest
from test_killed_runs import newest, values_of
from test_lifeline import hosts_of
from test_own_images import draw_classes
from two_replicas import difference

from data_scripts import prepare_images
from maml_tf.lifeline import LOST

INTERVAL = 20
ARGUMENTS = ['--meta_batch_size=4', '--pretrain_iterations=30', '--validation_interval=40',
             '--num_validation_tasks=8', '--num_test_tasks=8', '--test_num_updates=1',
             '--dtype=float64', '--xla=off']
LONGEST = 300   # seconds, on a machine that is busy


class Run:
  """One process, or one for each of `hosts`; worker 1 has a disk of its own."""

  def __init__(self, forks, folder, iterations, workers=2, more=(), of_each=((), ())):
    hosts = hosts_of(workers)
    self.logs = folder / 'logs'
    several = ['--distribution_strategy=multi_worker_mirrored',
               f'--worker_hosts={",".join(hosts)}']
    self.processes = []
    folder.mkdir(exist_ok=True)
    for index in range(workers):
      logdir = self.logs if index == 0 else folder / f'disk{index}'
      own = [*several, f'--task_index={index}'] if workers > 1 else []
      self.processes.append(forks.start(
          'faults:run', folder / f'{index}.txt',
          [*ARGUMENTS, *own, *more, *of_each[index], f'--metatrain_iterations={iterations}',
           f'--logdir={logdir}'], INTERVAL))

  @property
  def folder(self):
    return next((path for path in self.logs.glob('*') if path.is_dir()), self.logs)

  def texts(self):
    return [process.output_text() for process in self.processes]

  def until(self, condition):
    deadline = time.monotonic() + LONGEST
    while not condition():
      assert time.monotonic() < deadline, self.texts()
      time.sleep(0.005)

  def reach(self, iteration):
    self.until(lambda: newest(self.folder) >= iteration
               or not all(process.alive for process in self.processes))

  def codes(self):
    self.until(lambda: not any(process.alive for process in self.processes))
    return [process.wait() for process in self.processes]

  def done(self):
    assert self.codes() == [0] * len(self.processes), self.texts()
    return self


def largest_difference(one, other, tables='*.csv'):
  """Of all checkpoints, the history but for its seconds, and the results."""
  errors = []
  for path in one.folder.rglob('model-*.index'):
    values = values_of(str(path)[:-6])
    others = values_of(str(other.folder / path.relative_to(one.folder))[:-6])
    assert values.keys() == others.keys()
    for name, value in values.items():
      if isinstance(value, bytes):
        assert value == others[name]
      else:
        errors.append(difference(np.asarray(others[name], 'float64'),
                                 np.asarray(value, 'float64')))
  for path in one.folder.glob(tables):
    lines, others = (list(csv.DictReader((folder / path.name).read_text().splitlines()))
                     for folder in (one.folder, other.folder))
    assert [list(line) for line in lines] == [list(line) for line in others]
    for line, received in zip(lines, others):
      errors += [difference(np.array(float(received[name])), np.array(float(text)))
                 for name, text in line.items() if text and not name.startswith('seconds')]
  assert len(errors) > 50
  return max(errors)


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_one_goes_on(forks, tmp_path):
  """The same checkpoints, learning curve and results, on the disk of worker 0 alone; and the
  number of processes may change between two starts."""
  alone = Run(forks, tmp_path / 'alone', 70, workers=1).done()
  two = Run(forks, tmp_path / 'two', 30).done()
  assert 'Strategy: 2 replicas in 2 processes' in two.texts()[0]
  assert newest(two.folder) == 60
  one = Run(forks, tmp_path / 'two', 50, workers=1).done()
  assert 'Resumed at iteration 60 of 80' in one.texts()[0]
  two = Run(forks, tmp_path / 'two', 70).done()
  for text in two.texts():   # worker 1 has no checkpoint to read
    assert 'Resumed at iteration 80 of 100' in text
  assert largest_difference(alone, two) < 1e-12
  assert not (tmp_path / 'two' / 'disk1').exists()
  left = {path.name for path in two.folder.iterdir()}
  assert {'history.csv', 'config.json', 'fitted_curves.png'} < left


@pytest.mark.slow
def test_own_images_are_the_same_in_all_processes(forks, tmp_path):
  folders = []
  for side in (12, 13):
    draw_classes(tmp_path / f'photos{side}', side=side)
    folders.append(tmp_path / f'disk of {side}' / 'images')
    assert prepare_images.main([f'--source={tmp_path / f"photos{side}"}', '--size=16',
                                f'--out={folders[-1]}', '--shares=3,3,3']) == 0
  of_images = ['--datasource=images', '--pretrain_iterations=0', '--num_filters=2',
               '--tasks_at_once=1']
  other = Run(forks, tmp_path / 'other', 20, more=of_images,
              of_each=[[f'--data_dir={folder}'] for folder in folders])
  assert other.codes() == [2, 2]
  for text in other.texts():
    assert 'Worker 1 was started with data of SHA-256 test ' in text
  shutil.copytree(folders[0], tmp_path / 'copy' / 'images')
  folders[1] = tmp_path / 'copy' / 'images'
  two = Run(forks, tmp_path / 'two', 20, more=of_images,
            of_each=[[f'--data_dir={folder}'] for folder in folders]).done()
  assert newest(two.folder) == 20 and (two.folder / 'manifest.json').exists()
  assert not (tmp_path / 'two' / 'disk1').exists()


def test_a_meta_batch_that_replicas_do_not_divide_is_refused_by_numbers(forks, tmp_path):
  run = Run(forks, tmp_path, 30, more=['--meta_batch_size=25'])
  assert run.codes() == [2, 2]
  for text in run.texts():
    assert ('--meta_batch_size=25 does not fit: 25 tasks cannot be divided by 2 replicas: '
            'take 24 or 26 tasks, or as many replicas as 1, 5, 25.') in text


@pytest.mark.slow
@pytest.mark.parametrize('one', [0, 1])
def test_a_worker_that_is_killed_ends_the_other_and_all_go_on(forks, tmp_path, one, request):
  """Bit for bit from the last checkpoint, at whatever moments."""
  kills = request.config.getoption('--kills')
  chance = random.Random(10 * kills + one)
  expected = Run(forks, tmp_path / 'whole', 600).done()
  for number in range(kills):
    run = Run(forks, tmp_path / 'killed', 600)
    run.reach(newest(run.folder) + chance.randrange(INTERVAL, 80))
    time.sleep(chance.uniform(0, 0.3))
    run.processes[one].kill()
    since = time.monotonic()
    codes = run.codes()
    print(f'kill {number + 1} of worker {one} at {newest(run.folder)}: '
          f'{codes}, {time.monotonic() - since:.1f} s')
    assert codes[one] == -9 and codes[1 - one] == LOST, run.texts()
    sentences = [line for line in run.texts()[1 - one].splitlines() if 'main.py: ' in line]
    assert len(sentences) == 1 and f'Worker {one} (' in sentences[0]
    assert time.monotonic() - since < 10
  last = Run(forks, tmp_path / 'killed', 600).done()
  assert 'Resumed at iteration' in last.texts()[1]
  # The history does not cover what was lost with a worker.
  assert largest_difference(expected, last, tables='test_*.csv') == 0


@pytest.mark.slow
@pytest.mark.parametrize('one', [0, 1])
def test_a_signal_to_one_saves_once_and_ends_all(forks, tmp_path, one):
  run = Run(forks, tmp_path, 3000)
  run.reach(40)
  run.processes[one].signal(signal.SIGTERM)
  assert run.codes() == [0, 0]
  stopped = newest(run.folder)
  assert 40 <= stopped < 3000
  for text in run.texts():
    assert f'Stopped by SIGTERM at iteration {stopped} of 3030; saved' in text
  assert not list(run.folder.glob('test_*'))
  again = Run(forks, tmp_path, stopped).done()
  assert f'Resumed at iteration {stopped} of' in again.texts()[1 - one]


@pytest.mark.slow
def test_a_second_pair_in_the_same_folder_is_refused(forks, tmp_path):
  first = Run(forks, tmp_path, 3000)
  first.reach(20)
  second = Run(forks, tmp_path, 3000, more=['--worker_timeout=100'])
  assert second.codes() == [2, 2]
  for text in second.texts():
    assert 'Another process (process ' in text
  assert all(process.alive for process in first.processes)
  first.processes[0].kill()
  assert first.codes() == [-9, LOST]
