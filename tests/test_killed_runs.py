"""A run that is killed again and again ends as one that was left alone.

`pytest tests/test_killed_runs.py --kills=20` kills it 20 times; a table of where each kill
met it is printed with `-s`.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.training.checkpoint_files import damage, iteration_of

# Long enough for all kills, with both phases, two of which end within an execution.
INTERVAL = 20
PRETRAINING = 130
ITERATIONS_PER_KILL = 160
LONGEST = 300   # seconds until a process does something


def arguments(logdir, kills):
  iterations = ITERATIONS_PER_KILL * (kills + 1) + 10
  return [f'--logdir={logdir}', f'--pretrain_iterations={PRETRAINING}',
          f'--metatrain_iterations={iterations}', '--meta_batch_size=2',
          '--num_validation_tasks=4', f'--validation_interval={2 * INTERVAL}',
          '--num_test_tasks=4', '--test_num_updates=1']


def values_of(path):
  reader = tf.train.load_checkpoint(path)
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
          if 'OBJECT_GRAPH' not in name}


def newest(folder):
  return max([iteration_of(path.stem) for path in folder.glob('model-*.index')], default=0)


def wait_until(condition, process):
  deadline = time.monotonic() + LONGEST
  while not condition():
    assert process.alive and time.monotonic() < deadline, process.output_text()


def kill(process, folder, kind, chance):
  """Kills the process; what it was doing."""
  start = newest(folder)
  if kind == 'anywhere':
    time.sleep(chance.uniform(0, 2))
    when = 'some time after its start'
  else:
    target = start + chance.randrange(INTERVAL, ITERATIONS_PER_KILL // 2)
    wait_until(lambda: newest(folder) >= target, process)
    if kind == 'writing':
      asides = [folder / 'unfinished', folder / 'best' / 'unfinished']
      wait_until(lambda: any(aside.exists() for aside in asides), process)
      time.sleep(chance.uniform(0, 0.01))
      when = 'while it wrote a checkpoint'
    else:
      time.sleep(chance.uniform(0, 0.05))
      when = 'in training'
  process.kill()
  return f'{when}; checkpoints up to {newest(folder)}'


def what_was_left(folder):
  left = [path.relative_to(folder) for path in folder.rglob('*')
          if path.name == 'unfinished' or path.name.endswith('.tmp')]
  return f'; left {", ".join(map(str, left))}' if left else ''


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_the_undisturbed_one(
    forks, tmp_path, request, read_events):
  kills = request.config.getoption('--kills')
  chance = random.Random(kills)
  whole = forks.start('faults:run', tmp_path / 'whole.txt',
                      arguments(tmp_path / 'whole', kills), INTERVAL)
  assert whole.wait() == 0, whole.output_text()
  [expected] = (path for path in (tmp_path / 'whole').iterdir() if path.is_dir())
  folder = tmp_path / 'killed' / expected.name
  resumed = []
  for number in range(kills):
    process = forks.start('faults:run', tmp_path / f'{number}.txt',
                          arguments(tmp_path / 'killed', kills), INTERVAL)
    kind = ('writing', 'training', 'writing', 'writing', 'anywhere')[number % 5]
    what = kill(process, folder, kind, chance)
    assert process.wait() == -9, process.output_text()
    assert 'damaged' not in process.output_text()
    left = what_was_left(folder)
    for path in folder.rglob('model-*.index'):   # whatever has an index is whole
      if 'unfinished' not in str(path):
        assert damage(str(path)[:-len('.index')]) is None
    resumed.append(newest(folder))
    print(f'kill {number + 1}: {what}{left}')
  last = forks.start('faults:run', tmp_path / 'last.txt',
                     arguments(tmp_path / 'killed', kills), INTERVAL)
  assert last.wait() == 0, last.output_text()
  assert f'Resumed at iteration {resumed[-1]} of' in last.output_text()
  assert resumed[-1] > 0
  check_equal(folder, expected, read_events)


def check_equal(folder, expected, read_events):
  """Checkpoints with the optimizers' state, the best one, summaries, results, files."""
  def files(top):
    return {str(path.relative_to(top)) for path in top.rglob('*')
            if path.is_file() and 'tfevents' not in path.name}
  assert files(folder) == files(expected)
  for index in (*expected.glob('model-*.index'), *expected.glob('best/model-*.index')):
    path = str(index)[:-len('.index')]
    values = values_of(path)
    others = values_of(str(folder / os.path.relpath(path, expected)))
    assert values.keys() == others.keys() and len(values) > 12
    for name, value in values.items():
      np.testing.assert_array_equal(others[name], value, err_msg=f'{path}: {name}')
  for path in expected.glob('test_*.csv'):
    assert (folder / path.name).read_bytes() == path.read_bytes()
  def by_step(events):
    return {tag: sorted((step, float(value)) for step, value in written)
            for tag, written in events.items()}
  summaries = by_step(read_events(expected))
  assert by_step(read_events(folder)) == summaries   # none twice, none missing
  steps = [step for step, _ in summaries['metatrain_Post-update_loss__step_1']]
  assert steps == list(range(0, steps[-1] + 1, INTERVAL)) and len(steps) > 10


@pytest.mark.slow
def test_a_second_process_in_the_same_folder_is_refused(forks, tmp_path):
  """And a test of what is there is not."""
  first = forks.start('faults:run', tmp_path / 'first.txt',
                      arguments(tmp_path / 'logs', 1000), INTERVAL)
  wait_until(lambda: list(tmp_path.glob('logs/*/model-60.index')), first)
  second = forks.start('faults:run', tmp_path / 'second.txt',
                       arguments(tmp_path / 'logs', 1000), INTERVAL)
  third = forks.start('faults:run', tmp_path / 'third.txt',
                      [*arguments(tmp_path / 'logs', 1000), '--resume=False'], INTERVAL)
  tested = forks.start('faults:run', tmp_path / 'tested.txt',
                       [*arguments(tmp_path / 'logs', 1000), '--train=False'], INTERVAL)
  for refused in (second, third):
    assert refused.wait() == 2
    assert f'main.py: Another process (process {first.pid} on ' in refused.output_text()
  assert tested.wait() == 0, tested.output_text()
  assert 'Test: 4 tasks' in tested.output_text()
  assert first.alive
  first.kill()
  first.wait()
  assert len([path for path in Path(tmp_path / 'logs').iterdir() if path.is_dir()]) == 1
