"""Workers that meet, and know of each other's end. In processes without TensorFlow."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from maml_tf.lifeline import LOST

LONGEST = 300   # seconds until a process has ended, on a busy machine
# argv: hosts, index, what, timeout, and what to do then.
PROGRAM = '''
import json, sys, time
from maml_tf import lifeline
from maml_tf.command_line import exit_code
from maml_tf.errors import WriteError
hosts, index, what, timeout, then = json.loads(sys.argv[1])
def act():
  line = lifeline.meet(hosts, index, what, timeout, 'worker')
  print('met', flush=True)
  if then == 'fail':
    error = WriteError('The disk is full.')
    line.fail(error)
    raise error
  if then == 'interrupted':
    error = KeyboardInterrupt()
    line.fail(error)
    raise error
  if then == 'wait':
    time.sleep(600)
  line.leave()
sys.exit(exit_code('worker', act))
'''


def hosts_of(number):
  """On ports that nobody has."""
  sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(number)]
  hosts = [f'127.0.0.1:{one.getsockname()[1]}' for one in sockets]
  for one in sockets:
    one.close()
  return hosts


@pytest.fixture
def start():
  processes = []

  def start(hosts, index, then='leave', what=(), timeout=60):
    argument = json.dumps([hosts, index, dict(what), timeout, then])
    processes.append(subprocess.Popen(
        [sys.executable, '-c', PROGRAM, argument], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE))
    return processes[-1]
  yield start
  for process in processes:
    process.kill()
    process.communicate()


def met(process):
  assert process.stdout.readline() == 'met\n'


def wait_until_it_listens(host):
  """A connection that says nothing is not one of the others."""
  deadline = time.monotonic() + LONGEST
  while True:
    try:
      socket.create_connection(('127.0.0.1', int(host.rpartition(':')[2]))).close()
      return
    except ConnectionRefusedError:
      assert time.monotonic() < deadline
      time.sleep(0.05)


def ended(process):
  """(exit code, the sentence on stderr)."""
  _, error = process.communicate(timeout=LONGEST)
  lines = [line for line in error.splitlines() if line.startswith('worker: ')]
  assert len(lines) <= 1, error
  return process.returncode, ''.join(lines)


def test_all_end_together(start):
  hosts = hosts_of(3)
  for process in [start(hosts, index) for index in (2, 0, 1)]:
    assert ended(process) == (0, '')


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason='no IPv6 here')
def test_addresses_may_be_of_ipv6(start):
  hosts = [host.replace('127.0.0.1', '[::1]') for host in hosts_of(2)]
  for process in [start(hosts, index) for index in (1, 0)]:
    assert ended(process) == (0, '')


@pytest.mark.parametrize('killed', [0, 1])
def test_the_others_end_when_one_is_killed(start, killed):
  hosts = hosts_of(3)
  processes = [start(hosts, index, 'wait') for index in range(3)]
  for process in processes:
    met(process)
  processes[killed].send_signal(signal.SIGKILL)
  for index, process in enumerate(processes):
    if index != killed:
      code, sentence = ended(process)
      assert code == LOST
      assert f'Worker {killed} ({hosts[killed]}) was lost: start all' in sentence


def test_one_that_fails_says_why(start):
  hosts = hosts_of(3)
  processes = [start(hosts, index, 'fail' if index == 1 else 'wait') for index in range(3)]
  assert ended(processes[1]) == (1, 'worker: The disk is full.')
  for index in (0, 2):
    code, sentence = ended(processes[index])
    assert code == 1 and sentence.endswith(f'Worker 1 ({hosts[1]}) ended: The disk is full.')


def test_ctrl_c_in_one_is_no_failure_of_the_others(start):
  """A job that starts again on the exit code of a lost worker does so."""
  hosts = hosts_of(2)
  processes = [start(hosts, index, 'interrupted' if index == 1 else 'wait')
               for index in range(2)]
  assert ended(processes[1])[0] == 128 + signal.SIGINT
  code, sentence = ended(processes[0])
  assert code == LOST and sentence.endswith(f'Worker 1 ({hosts[1]}) ended: Ctrl-C')


def test_one_that_never_comes_is_named(start):
  hosts = hosts_of(3)
  first = start(hosts, 0, timeout=10)
  wait_until_it_listens(hosts[0])
  for process in [first, start(hosts, 2, timeout=10)]:
    code, sentence = ended(process)
    assert code == LOST
    assert f'Worker 1 ({hosts[1]}) did not come within 10 s' in sentence


def test_one_that_is_started_again_while_others_are_missing_is_taken(start):
  hosts = hosts_of(3)
  first = start(hosts, 0)
  wait_until_it_listens(hosts[0])
  with socket.create_connection(('127.0.0.1', int(hosts[0].rpartition(':')[2]))) as killed:
    killed.sendall(json.dumps(dict(worker=1, workers=hosts, what={})).encode() + b'\n')
  for process in [start(hosts, 1), start(hosts, 2), first]:
    assert ended(process) == (0, '')


def test_who_came_before_worker_0_hears_from_it_who_is_missing():
  """Its own time is over before that of worker 0, which is there."""
  def answer():
    with server.accept()[0] as connection:
      time.sleep(3)
      connection.sendall(b'{"end": "Worker 2 did not come.", "code": 75}\n')
  with socket.create_server(('127.0.0.1', 0)) as server:
    threading.Thread(target=answer, daemon=True).start()
    host = f'127.0.0.1:{server.getsockname()[1]}'
    done = subprocess.run([sys.executable, '-c', (
        'import time; from maml_tf import lifeline; lifeline._join('
        f'["{host}", "b:1", "c:1"], {{}}, time.monotonic() + 2 - lifeline.GRACE, 60)')],
        capture_output=True, text=True, check=False, timeout=LONGEST)
  assert done.stderr.splitlines()[-1] == 'maml_tf.lifeline.LostError: Worker 2 did not come.'


def test_without_worker_0_the_others_name_it(start):
  hosts = hosts_of(2)
  code, sentence = ended(start(hosts, 1, timeout=0.5))
  assert code == LOST and f'Worker 0 ({hosts[0]}) did not come' in sentence


def test_who_waits_can_be_interrupted(start):
  hosts = hosts_of(2)
  process = start(hosts, 0, timeout=600)
  wait_until_it_listens(hosts[0])
  process.send_signal(signal.SIGTERM)
  assert ended(process)[0] == 128 + signal.SIGTERM


def test_workers_of_different_runs_do_not_train_together(start):
  hosts = hosts_of(2)
  processes = [start(hosts, index, what={'--seed': index}) for index in (0, 1)]
  for process in processes:
    code, sentence = ended(process)
    assert code == 2
    assert 'Worker 1 was started with --seed 1, worker 0 with 0' in sentence


def test_what_is_not_of_this_program_is_not_taken_for_a_worker(start):
  hosts = hosts_of(2)
  first = start(hosts, 0)
  wait_until_it_listens(hosts[0])
  for content in (b'GET / HTTP/1.1\r\n\r\n', b'[]\n', b'{"worker": 7}\n', b'',
                  b'{"id": 1}\n', b'{"worker": 1}\n', b'{"worker": [1]}\n',
                  b'{"worker": true, "workers": [], "what": {}}\n',
                  b'{"worker": 1, "workers": [], "what": 7}\n', b'[' * 9000 + b'\n'):
    with socket.create_connection(('127.0.0.1', int(hosts[0].split(':')[1]))) as stranger:
      stranger.sendall(content)
  assert ended(start(hosts, 1)) == (0, '')
  assert ended(first) == (0, '')


@pytest.mark.parametrize('index', [0, 1])
def test_a_port_that_is_taken_is_named(start, index):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    hosts = ['127.0.0.1:1', '127.0.0.1:2']
    hosts[index] = f'127.0.0.1:{port}'
    code, sentence = ended(start(hosts, index))
  assert code == 2 and f'Port {port} of worker {index} cannot be used (Address' in sentence


def test_two_that_were_started_as_worker_0_do_not_both_wait(start):
  hosts = hosts_of(2)
  first = start(hosts, 0)
  wait_until_it_listens(hosts[0])
  code, sentence = ended(start(hosts, 0))
  assert code == 2 and 'if no other process was started as this worker' in sentence
  assert [ended(process) for process in (start(hosts, 1), first)] == [(0, ''), (0, '')]
