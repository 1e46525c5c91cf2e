"""`--train-all`: turns in their order, runs that are killed, stopped, and ended early.

Most tests look at the process that hands out the turns: what it starts is a script in place
of the package, which trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from maml_tf import interruptions
from maml_tf.config import ConfigError
from maml_tf.errors import FailedError
from maml_tf.paper import records
from maml_tf.paper.rows import Row
from maml_tf.task_groups import available_cores
from maml_tf.training.run_lock import run_lock
from maml_tf.verification import plan, train_all, turn_process
from maml_tf.verification.plan import Job
from maml_tf.verification.train_all import Settings

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300   # seconds until a process does something
A, B, C = (Row(name, 'table 1', name, {'datasource': 'omniglot'}, {1: '90.0 +- 1.0'}, 1)
           for name in 'abc')

# Each turn of a row does what the row's list in `does.json` says next.
IN_PLACE_OF_A_TURN = '''
import json, os, pathlib, shutil, signal, sys, time
task = json.loads(sys.argv[1])
results, name = pathlib.Path(task['results']), task['row']['name']
(results / name).mkdir(exist_ok=True, parents=True)
turns = results.parent / 'turns.jsonl'
before = turns.read_text().splitlines() if turns.exists() else []
with turns.open('a') as file:
  file.write(json.dumps(task) + '\\n')
number = sum(json.loads(line)['row']['name'] == name for line in before)
does = json.loads((results.parent / 'does.json').read_text())[name]
does = does[min(number, len(does) - 1)]
if does in ('train', 'slowly'):
  while os.read(0, 100):
    pass
  time.sleep(4 * (does == 'slowly'))
  kept = results / name / f'seed{task["seed"]}.run'
  kept.mkdir(exist_ok=True)
  (kept / f'model-{number + 1}.index').touch()
elif does.startswith('finish'):
  shutil.copyfile(results.parent / f'{name}.json',
                  results / name / f'seed{task["seed"]}.json')
  sys.exit(2 * does.endswith('2'))
elif does == 'hang':
  time.sleep(600)
elif does == 'die':
  os.kill(os.getpid(), signal.SIGKILL)
else:
  sys.exit(int(does))
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """With a package whose turns are those of the script."""
  package = tmp_path / 'repository' / 'maml_tf' / 'verification'
  package.mkdir(parents=True)
  for path in (package, package.parent):
    (path / '__init__.py').touch()
  (package / 'turn_process.py').write_text(IN_PLACE_OF_A_TURN)
  monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
  return tmp_path


@pytest.fixture
def train(folder, make_record):
  """A function that trains jobs, whose turns do what is said: (exit code, rows in order).

  A turn that is not over by itself lasts 0.3 s.
  """
  def run(jobs, does, **given):
    for job in jobs:   # the result of a run that is finished
      path = make_record(job.row, job.seed, trained=100)
      shutil.move(records.file_of(job.row, job.seed, '.json', path),
                  folder / f'{job.row.name}.json')
    (folder / 'does.json').write_text(json.dumps(does))
    settings = Settings(**{**dict(
        logdir=str(folder / 'logs'), data_dir=str(folder / 'data'), turn=0.005,
        results=str(folder / 'results'), repository=str(folder / 'repository')), **given})
    return train_all.run(jobs, settings), [task['row']['name'] for task in tasks(folder)]
  return run


def tasks(folder):
  return [json.loads(line) for line in (folder / 'turns.jsonl').read_text().splitlines()]


def job(row, priority=1, iterations=100, seed=0):
  return Job(row, seed, iterations, priority)


@pytest.fixture
def usual_signals():
  """SIGHUP and SIGUSR1 as a command has them, which `exit_code` makes `Stopped`."""
  with interruptions.raised():
    yield


def send_in_the_first_turn(folder, *numbers):
  def send():
    wait_until((folder / 'turns.jsonl').exists)
    for number in numbers:
      signal.raise_signal(number)
      time.sleep(0.5)
  threading.Thread(target=send).start()


def wait_until(condition, what=str):
  deadline = time.monotonic() + LONGEST
  while not condition():
    assert time.monotonic() < deadline, what()
    time.sleep(0.05)


def test_the_turns_are_those_of_the_plan(train, capsys):
  """Rows of the same priority take turns; what is finished has none."""
  code, order = train([job(A), job(B, 2), job(C, 2)],
                      {'a': ['train', 'finish'], 'b': ['train', 'train', 'finish'],
                       'c': ['train', 'finish']})
  assert code == 0 and order == ['a', 'a', 'b', 'c', 'b', 'c', 'b']
  out = capsys.readouterr().out
  assert 'git has no commit of them' in out and 'b: turn 3, 0.005 min at most' in out
  assert out.endswith('All runs of the plan are finished.\n')


def test_who_has_the_next_turn():
  share = {'a': 0.5, 'b': 0.2, 'c': 0.2}
  def next_of(jobs, **turns):
    found = train_all.next_job(jobs, turns, lambda job: share[job.row.name])
    return found and found.name
  jobs = [job(A, 2), job(B, 2), job(C, 2)]
  assert next_of(jobs) == 'b'                 # the smallest share, and the first of two
  assert next_of(jobs, b=1) == 'c'
  assert next_of(jobs, b=1, c=1) == 'a'
  assert next_of(jobs, a=1, b=1, c=1) == 'b'
  assert next_of([*jobs, job(A, 1, seed=4)]) == 'a (seed 4)'
  assert next_of([]) is None


def test_what_a_turn_is_given(train, folder, monkeypatch):
  monkeypatch.chdir(folder)
  sinusoid = Row('sinusoid', 'table 2', 'S', {'datasource': 'sinusoid'}, {10: '0.4'}, 10)
  assert train([job(A, seed=3), job(sinusoid)], {'a': ['finish'], 'sinusoid': ['finish']},
               logdir='logs', data_dir='data', results='results', cores=1)[0] == 0
  image, sine = tasks(folder)
  assert (image['seed'], image['cores'], image['iterations']) == (3, 1, 100)
  assert image['logdir'] == str(folder / 'logs' / 'omniglot')
  assert image['data_dir'] == str(folder / 'data' / 'omniglot')
  assert image['results'] == str(folder / 'results')
  assert sine['logdir'] == str(folder / 'logs' / 'sinusoid')
  assert turn_process._job(sine) == job(sinusoid)


def test_the_time_is_over(train, capsys):
  """After a turn: what is left would not be worth starting."""
  code, order = train([job(A)], {'a': ['train']}, hours=0.0001)
  assert code == 0 and order == ['a']
  assert 'Not finished: 1 of 1 runs of the plan.' in capsys.readouterr().out


@pytest.mark.parametrize('number', [
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_lets_the_turn_keep_its_run(number, train, folder, capsys, usual_signals):
  send_in_the_first_turn(folder, number)
  code, order = train([job(A), job(B)], {'a': ['train'], 'b': ['train']}, turn=10)
  assert code == 0 and order == ['a']
  assert f'{number.name}: the run is saved and kept' in capsys.readouterr().out
  assert (folder / 'results' / 'a' / 'seed0.run' / 'model-1.index').exists()
  assert records.kept_iteration(A, 0, str(folder / 'results')) == 1
  # And the same command goes on.
  code, order = train([job(A)], {'a': ['train', 'finish']})
  assert code == 0 and order == ['a', 'a']


def test_a_second_signal_ends_it_at_once(train, folder, capsys):
  send_in_the_first_turn(folder, signal.SIGTERM, signal.SIGTERM)
  code, _ = train([job(A)], {'a': ['hang']}, turn=10)
  assert code == 130 and 'Ended at once' in capsys.readouterr().out


def test_what_batch_systems_send_one_after_the_other_ends_nothing_at_once(
    train, folder, capsys, usual_signals):
  send_in_the_first_turn(folder, signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)
  code, order = train([job(A)], {'a': ['slowly']}, turn=10)
  assert code == 0 and order == ['a']
  assert 'SIGUSR1: the run is saved and kept' in capsys.readouterr().out
  assert records.kept_iteration(A, 0, str(folder / 'results')) == 1


def test_what_goes_wrong_beside_it_lets_the_turn_keep_its_run(train, folder, monkeypatch):
  def fail(_):
    raise OSError('the terminal is gone')
  monkeypatch.setattr(train_all._Turns, '_tell_why', fail)
  with pytest.raises(OSError, match='is gone'):
    train([job(A)], {'a': ['train']})
  assert records.kept_iteration(A, 0, str(folder / 'results')) == 1


def test_sighup_stays_ignored_under_nohup():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with train_all.Stop() as stop:
      signal.raise_signal(signal.SIGHUP)
      assert stop.received is None
      signal.raise_signal(signal.SIGUSR1)
      assert stop.received == signal.SIGUSR1
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'])
def test_a_turn_that_is_sent_a_signal_itself_notes_it(name):
  """As batch systems do, which send to all processes."""
  script = ('import signal\nfrom maml_tf import interruptions\n'
            'from maml_tf.verification import turn_process\n'
            'stop = turn_process.Stop()\nwith interruptions.raised():\n'
            f'  signal.raise_signal(signal.{name})\nprint(stop.received)\n')
  with subprocess.Popen([sys.executable, '-c', script], cwd=ROOT, text=True,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    assert process.stdout.read() == 'True\n'


def test_a_run_that_a_turn_left_behind_has_finished_meanwhile_is_done(train, capsys):
  code, order = train([job(A), job(B, 2)], {'a': ['finish, 2'], 'b': ['finish']})
  assert code == 0 and order == ['a', 'b']
  assert 'All runs of the plan are finished.' in capsys.readouterr().out


def test_a_turn_of_a_finished_run_is_over(tmp_path, make_record, capsys):
  from maml_tf.verification import turn
  turn.take(job(A), None, make_record(A, trained=100), lambda: False)
  assert capsys.readouterr().out == 'a: finished meanwhile\n'


def test_a_run_that_fails_is_left_out_and_the_others_go_on(train, capsys):
  code, order = train([job(A), job(B, 2), job(C, 3)],
                      {'a': ['2'], 'b': ['1'], 'c': ['finish']})
  assert code == 1 and order == ['a', 'b', 'c']
  out = capsys.readouterr().out
  assert 'b: left out from here on' in out
  names = f'{job(A).name}, {job(B).name}'
  assert f'Not finished: 2 of 3 runs of the plan (failed: {names}). The same' in out


def test_a_process_that_was_killed_gets_one_more_turn(train, capsys):
  code, order = train([job(A), job(B, 2)], {'a': ['die', 'finish'], 'b': ['die']})
  assert code == 1 and order == ['a', 'a', 'b', 'b']
  assert 'a: its process was killed by signal 9.' in capsys.readouterr().out


def test_a_turn_that_does_nothing_is_not_repeated_for_ever(train):
  assert train([job(A)], {'a': ['0']}) == (1, ['a'])


@pytest.mark.parametrize('fields, iterations, finished', [
    ({'trained': 100}, 100, True), ({'trained': 90}, 100, False),
    ({'trained': 90}, 90, True),   # all that the plan wants
    ({'trained': 30, 'ended_early': {}}, 100, True)])
def test_what_is_finished(fields, iterations, finished, make_record):
  results = make_record(A, **fields)
  assert plan.is_finished(job(A, iterations=iterations), results) is finished
  assert not plan.is_finished(job(A, seed=1), results)


def test_a_second_command_is_refused(train, folder):
  with run_lock(str(folder / 'logs' / train_all.FOLDER)):
    with pytest.raises(ConfigError, match='Another process'):
      train([job(A)], {'a': ['finish']})


def test_a_folder_that_turns_cannot_be_started_in_is_one_sentence(train, folder):
  """As one that was moved since the last turn."""
  with pytest.raises(FailedError, match='No turn can be started in .* put it back'):
    train([job(A)], {'a': ['finish']}, repository=str(folder / 'nowhere'))


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='this system pins nothing')
def test_the_training_has_so_many_cores():
  script = ('from maml_tf.verification import turn_process\n'
            'from maml_tf.task_groups import available_cores\n'
            'turn_process.pin(0)\nbefore = available_cores()\n'
            'turn_process.pin(1)\nprint(before, available_cores())\n')
  done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, text=True, check=True,
                        capture_output=True)
  assert done.stdout.split() == [str(available_cores()), '1']


def test_without_affinity_tensorflow_gets_so_many_threads(monkeypatch):
  monkeypatch.delattr(os, 'sched_setaffinity', raising=False)
  for name in turn_process._THREADS:
    monkeypatch.setenv(name, '')   # to be put back, or taken away again
    monkeypatch.delenv(name)
  turn_process.pin(3)
  assert [os.environ[name] for name in turn_process._THREADS] == ['3', '3', '3']


def test_a_turn_waits_for_one_that_was_left_behind(tmp_path, capsys):
  class Stopped:
    received = False
  path = str(tmp_path / 'a.seed0')
  held = run_lock(path)
  held.__enter__()
  slept = []

  def sleep(seconds):
    slept.append(seconds)
    if len(slept) == 2:
      held.__exit__(None, None, None)
  with turn_process._lock_when_free(path, Stopped, sleep):
    assert len(slept) == 2
  assert capsys.readouterr().out == 'Waiting for the turn before, which saves its run.\n'
  # Not where it would wait for ever, nor after a signal.
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigError, match='cannot be written'):
    with turn_process._lock_when_free(str(tmp_path / 'file' / 'x'), Stopped, sleep):
      pass
  Stopped.received = True
  with run_lock(path), pytest.raises(ConfigError, match='Another process'):
    with turn_process._lock_when_free(path, Stopped, sleep):
      pass


# With TensorFlow.

FLAGS = """--datasource=sinusoid
--meta_batch_size=2
--validation_interval=100
--num_validation_tasks=2
--num_test_tasks=6
--test_num_updates=2
--xla=off
--log=False
"""
# As `verify` calls it, from a repository of its own.
COMMAND = """
import sys
from maml_tf.verification import train_all
from maml_tf.verification.plan import Job
from maml_tf.paper.rows import Row
row = Row('tiny', 'table 2', 'Tiny', {'datasource': 'sinusoid'}, {1: '3.0', 2: '2.0'}, 2,
          'FLAGFILE')
sys.exit(train_all.run([Job(row, 0, int(sys.argv[1]), 1)], train_all.Settings(
    'logs', 'data', 'results', turn=10, cores=1, seconds_between_lines=0.3)))
"""


def tiny(tmp_path, *more):
  path = tmp_path / 'tiny.flags'
  path.write_text(FLAGS + '\n'.join(more) + '\n')
  return Row('tiny', 'table 2', 'Tiny', {'datasource': 'sinusoid'}, {1: '3.0', 2: '2.0'}, 2,
             str(path))


@pytest.fixture
def repository(git, tmp_path):
  """With this package, committed."""
  folder = tmp_path / 'repository'
  for name in ('maml_tf', 'flags'):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
  (folder / '.gitignore').write_text('__pycache__/\n')
  for command in (['init', '-q'], ['add', '.'], ['commit', '-q', '-m', 'first']):
    git(folder, *command)
  return folder


@pytest.mark.slow
def test_a_command_that_is_killed_and_stopped_goes_on_and_edits_do_not_reach_it(
    git, repository, tmp_path):
  row = tiny(tmp_path, '--metatrain_iterations=1000000')
  script = COMMAND.replace('FLAGFILE', row.flagfile_path)
  output, results = tmp_path / 'output.txt', repository / 'results'
  kept = results / 'tiny' / 'seed0.run'

  def start(iterations=1000000):
    with output.open('w') as file:
      environment = {**os.environ, 'PYTHONPATH': str(repository), 'PYTHONUNBUFFERED': '1'}
      return subprocess.Popen([sys.executable, '-c', script, str(iterations)],
                              cwd=repository, env=environment, stdout=file, stderr=file)

  def iteration():
    return records.kept_iteration(row, 0, str(results))

  def has_progress():
    return ' iterations/s, validation ' in output.read_text()
  process = start()
  wait_until(has_progress, output.read_text)
  process.kill()
  process.wait()
  # What trained ends by itself, and keeps what it has.
  wait_until(lambda: iteration() > 0, output.read_text)
  reached = iteration()
  line = [line for line in output.read_text().splitlines() if 'iterations/s' in line][0]
  assert ' tiny: ' in line and ' of 1,000,000, ' in line and line.endswith(' h to go')
  # Edits, which are not committed.
  (repository / 'maml_tf' / 'verification' / 'turn.py').write_text('1 / 0')
  process = start()
  wait_until(has_progress, output.read_text)
  process.terminate()
  assert process.wait(LONGEST) == 0, output.read_text()
  assert 'SIGTERM: the run is saved and kept' in output.read_text()
  assert f'Resumed at iteration {reached} of' in output.read_text()
  assert iteration() > reached
  assert not list((results / 'tiny').glob('*.json'))   # no look at the test tasks
  assert sorted(path.name for path in (repository / 'logs' / 'train_all').iterdir()) == []

  # And to its end, from the kept run alone.
  shutil.rmtree(repository / 'logs')
  goal = iteration() + 100
  process = start(goal)
  assert process.wait(LONGEST) == 0, output.read_text()
  assert 'All runs of the plan are finished.' in output.read_text()
  record = records.read(row, 0, str(results))
  commit = git(repository, 'rev-parse', 'HEAD')
  assert record.trained == goal and record.fields['times_tested'] == 1
  assert record.fields['training']['by_commit'] == [[commit, 0, goal]]
  assert record.fields['training']['validation_tasks'] == [[600, 0, goal]]
  assert record.fields['commit'] == commit
  assert record.fields['machine']['cores'] == 1
  assert kept.exists()   # the row's flagfile plans more


def test_a_line_a_minute_and_a_signal_that_came_early(tmp_path, capsys, monkeypatch):
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import turn
  stopped, received = [], []
  config = row_config(tiny(tmp_path, '--metatrain_iterations=10000'))
  watch = turn.Watch('tiny', config, str(tmp_path), 10000, lambda: bool(stopped))
  monkeypatch.setattr(time, 'strftime', lambda _: '17:05')
  for second, iteration in ((0, 100), (30, 200), (61, 710), (100, 800), (122, 1320)):
    monkeypatch.setattr(time, 'monotonic', lambda second=second: 1000.0 + second)
    watch(iteration - 1, iteration)
  assert capsys.readouterr().out.splitlines() == [
      '17:05 tiny: 710 of 10,000, 10 iterations/s, validation not yet, 0.3 h to go',
      '17:05 tiny: 1,320 of 10,000, 10 iterations/s, validation not yet, 0.2 h to go']
  before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
  try:
    watch(1320, 1321)
    stopped.append(True)
    watch(1321, 1322)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert received == [True]


@pytest.mark.parametrize('datasource, tasks', [('sinusoid', 600), ('point_navigation', 40)])
def test_a_turn_validates_on_as_many_tasks_as_the_kind_of_problem_says(datasource, tasks):
  # Policies act in each of them: 600 took longer than the iterations between them.
  from maml_tf.config import resolve
  from maml_tf.verification import turn
  given = resolve({'datasource': datasource, 'num_validation_tasks': 2})
  assert turn.validated_on_enough(given).training.num_validation_tasks == tasks
  more = resolve({'datasource': datasource, 'num_validation_tasks': 700})
  assert turn.validated_on_enough(more) == more


def test_a_run_ends_early_by_the_rule_and_is_tested_once(tmp_path, capsys):
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import turn
  # Steps too small to change anything: the score is the same for ever.
  row = tiny(tmp_path, '--metatrain_iterations=2000', '--meta_lr=1e-30')
  config = row_config(row, logdir=str(tmp_path / 'logs'))
  results = str(tmp_path / 'results')
  turn.take(Job(row, 0, 2000, 1), config, results, lambda: False)
  record = records.read(row, 0, results)
  out = capsys.readouterr().out
  assert 'tiny: ended early, no better score on 600 validation tasks' in out
  # The first validation of the second quarter: nothing better after iteration 333.
  assert (record.trained, record.planned) == (500, 2000)
  assert record.ended_early and record.is_finished and record.fields['times_tested'] == 1
  assert record.fields['config']['training']['num_validation_tasks'] == 2   # the flagfile's
  assert record.fields['training']['validation_tasks'] == [[600, 0, 500]]
  assert not os.path.exists(records.file_of(row, 0, records.KEPT_RUN, results))


def test_the_validations_of_another_row_in_the_folder_do_not_end_a_run(tmp_path):
  """Rows that differ in the ways of a test alone share a folder."""
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import runs, turn
  row = tiny(tmp_path, '--metatrain_iterations=800')
  config = turn.validated_on_enough(row_config(row, logdir=str(tmp_path)))
  (tmp_path / 'history.csv').write_text(
      'iteration,iterations,seconds,executions,loss,val_loss_0\n'
      + ''.join(f'{number}00,100,1,1,1,0.5\n' for number in range(1, 5)))
  due = []
  for validated_on in ('others', runs.validated_on(config), None):
    (tmp_path / 'trained_by.json').write_text(json.dumps([
        {'commit': 'a', 'first': 0, 'last': 400, 'validation_tasks': 600,
         'tensorflow': '2.15.1', 'validated_on': validated_on}]))
    due.append(turn.Watch('tiny', config, str(tmp_path), 800, lambda: False).ends_early(400))
  assert due == [False, True, True]


def test_a_run_whose_step_size_falls_to_zero_does_not_end_early(tmp_path):
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import turn
  row = tiny(tmp_path, '--metatrain_iterations=800', '--meta_lr=1e-30')
  config = row_config(row, logdir=str(tmp_path))
  due = {}
  for schedule in ('constant', 'halving', 'linear'):
    folder = tmp_path / schedule
    folder.mkdir()
    (folder / 'history.csv').write_text(
        'iteration,iterations,seconds,executions,loss,accuracy,val_support_loss,val_loss_0\n'
        + ''.join(f'{number}00,100,1,1,1,,1,{loss}\n' for number, loss in
                  enumerate((0.5, 0.5, 0.5, 0.5), start=1)))
    (folder / 'trained_by.json').write_text(json.dumps([
        {'commit': 'a', 'first': 0, 'last': None, 'validation_tasks': 600,
         'tensorflow': '2.15.1'}]))
    scheduled = dataclasses.replace(config, training=dataclasses.replace(
        config.training, meta_lr_schedule=schedule))
    watch = turn.Watch('tiny', scheduled, str(folder), 800, lambda: False)
    due[schedule] = watch.ends_early(400)
  assert due == {'constant': True, 'halving': True, 'linear': False}


def test_with_its_last_iteration_a_run_is_complete_and_not_ended_early(tmp_path):
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import turn
  lines = ''.join(f'{number}00,100,1,1,1,0.5\n' for number in range(1, 5))
  (tmp_path / 'history.csv').write_text(
      'iteration,iterations,seconds,executions,loss,val_loss_0\n' + lines)
  (tmp_path / 'trained_by.json').write_text(json.dumps([
      {'commit': 'a', 'first': 0, 'last': 400, 'validation_tasks': 600,
       'tensorflow': '2.15.1'}]))
  for planned, due in ((401, True), (400, False)):
    config = row_config(tiny(tmp_path, f'--metatrain_iterations={planned}'))
    watch = turn.Watch('tiny', config, str(tmp_path), planned, lambda: False)
    assert watch.ends_early(400) == due


def test_what_was_tested_as_a_part_ends_early_at_the_next_validation(tmp_path):
  """It was due already: to test it again at the same iteration is refused, for ever."""
  from maml_tf.paper.flagfiles import row_config
  from maml_tf.verification import runs, turn
  row = tiny(tmp_path, '--metatrain_iterations=2000', '--meta_lr=1e-30')
  config = row_config(row, logdir=str(tmp_path / 'logs'))
  results = str(tmp_path / 'results')
  runs.train_row(row, turn.validated_on_enough(config), until=600, results=results)
  assert records.read(row, 0, results).trained == 600
  turn.take(Job(row, 0, 2000, 1), config, results, lambda: False)
  record = records.read(row, 0, results)
  assert record.trained == 700 and record.ended_early
