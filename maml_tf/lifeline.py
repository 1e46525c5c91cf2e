"""Worker processes that meet before they compute, and know of each other's end.

TensorFlow waits without end for a worker that never comes, and tells those that are left of
one that is gone by errors that have no names. So worker 0 keeps a connection to each of the
others: who is lost closes it, whatever has happened to it. No TensorFlow here, and no
secrets: like TensorFlow's own connections it belongs into a network of one's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Sequence

from maml_tf.errors import FailedError, UserError
from maml_tf.interruptions import Stopped, exit_code_of

LOST = 75   # EX_TEMPFAIL of sysexits.h: the same command may do
_LONGEST_LINE = 2**16   # bytes
_RETRY = 0.2            # seconds between two attempts to reach a worker
_QUIET = 5              # seconds of waiting before a line says so
GRACE = 5               # seconds for what an end has to say to arrive


class LostError(FailedError):
  """Another worker is gone, or never came: all have to be started again."""
  exit_code = LOST


class Lifeline:
  """The connections of one worker; made by `meet`.

  Args:
    hosts: 'HOST:PORT' of all workers.
    peers: {index: connection}: of worker 0 to all others, of each of them to worker 0.
    program: under whose name an end is reported.
  """

  def __init__(self, hosts: Sequence[str], peers: Dict[int, '_Line'], program: str):
    self._hosts = hosts
    self._peers = peers
    self._program = program
    self._own_end: Optional[int] = None
    self._ending = threading.Lock()   # held by whoever ends this process, for ever
    self._left = {peer: threading.Event() for peer in peers}
    for peer in peers:
      threading.Thread(target=self._watch, args=(peer,), daemon=True).start()

  def leave(self) -> None:
    """Waits until all have come to the same end."""
    self._tell(dict(end='done'))
    for event in self._left.values():
      event.wait()

  def fail(self, error: BaseException) -> None:
    """Tells the others, which end, too. This process has some time to do so by itself."""
    text = _text_of(error)
    if isinstance(error, KeyboardInterrupt):
      self._own_end = exit_code_of(error)
      self._tell(dict(end=text, code=LOST))   # for the others
    else:
      self._own_end = getattr(error, 'exit_code', FailedError.exit_code)
      self._tell(dict(end=text, code=self._own_end))
    threading.Thread(target=self._end_later, daemon=True).start()

  def lost(self, what: str) -> LostError:
    """The error for what TensorFlow says; unless it is known here who was lost, and this
    process ends with that sentence."""
    time.sleep(GRACE)   # the watching thread ends the process meanwhile
    return LostError(f'Another worker does not answer any more ({what}): {_AGAIN}')

  def _end_later(self) -> None:
    time.sleep(GRACE)
    os._exit(self._own_end)

  def _tell(self, message: Dict[str, Any]) -> None:
    for line in self._peers.values():
      with contextlib.suppress(OSError):
        line.send(message)

  def _watch(self, peer: int) -> None:
    """Runs in a thread: the main one may be in TensorFlow, and wait for the lost one."""
    try:
      message = self._peers[peer].receive()
    except (OSError, ValueError):
      message = {}
    if message.get('end') == 'done':
      self._left[peer].set()
      return
    if self._own_end is not None or not self._ending.acquire(blocking=False):
      return   # it ends already, and one sentence says why
    name = f'Worker {peer} ({self._hosts[peer]})'
    if 'end' in message:
      text, code = f'{name} ended: {message["end"]}', int(message.get('code', LOST))
    else:
      text, code = f'{name} was lost: {_AGAIN}', LOST
    self._tell(dict(end=text, code=code))
    _end(self._program, text, code)


def _text_of(error: BaseException) -> str:
  if isinstance(error, (UserError, Stopped)):
    return str(error)
  return 'Ctrl-C' if isinstance(error, KeyboardInterrupt) else type(error).__name__


_AGAIN = 'start all workers again, and they go on from the last checkpoint.'


def meet(hosts: Sequence[str], index: int, what: Dict[str, Any], timeout: float,
         program: str) -> Lifeline:
  """Waits until all workers are there, and agree.

  Args:
    hosts: 'HOST:PORT' of all workers.
    index: of this one.
    what: what all workers must have alike, {name: value}; of worker 0 counts.
    timeout: seconds to wait.
    program: under whose name an end is reported.

  Raises:
    LostError: when a worker does not come in time; it is named.
    UserError: when one was started with something else, or the port is another's.
  """
  deadline = time.monotonic() + timeout
  if index != 0:
    _listening(hosts, index).close()   # as TensorFlow will, whose error is a traceback
  hello = dict(worker=index, workers=list(hosts), what=what)
  peers = (_gather(hosts, hello, deadline, timeout) if index == 0
           else {0: _join(hosts, hello, deadline, timeout)})
  return Lifeline(hosts, peers, program)


@contextlib.contextmanager
def ends_by_itself(seconds: float, program: str, text: str) -> Iterator[None]:
  """Ends the process, with a sentence, when what is inside takes longer: TensorFlow heeds
  no signal while it waits."""
  timer = threading.Timer(seconds, _end, args=(program, text, LOST))
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _end(program: str, text: str, code: int) -> NoReturn:
  sys.stdout.flush()
  print(f'\n{program}: {text}', file=sys.stderr, flush=True)
  os._exit(code)   # what TensorFlow would do at its end waits for the lost one


class _Line:
  """One JSON object a line, over a socket."""

  def __init__(self, connection: socket.socket):
    self._connection = connection
    self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    self._file = connection.makefile('rb')

  def send(self, message: Dict[str, Any]) -> None:
    self._connection.sendall(json.dumps(message).encode() + b'\n')

  def receive(self, timeout: Optional[float] = None) -> Dict[str, Any]:
    """Raises: OSError: after the end; ValueError: for what is not of this program."""
    self._connection.settimeout(timeout)
    line = self._file.readline(_LONGEST_LINE)
    self._connection.settimeout(None)
    if not line.endswith(b'\n'):
      raise ConnectionError('closed')
    try:
      message = json.loads(line)
    except RecursionError as error:
      raise ValueError('nested too deeply') from error
    if not isinstance(message, dict):
      raise ValueError('not an object')
    return message

  def speaks(self) -> bool:
    """Whether something came, be it the end: of who waits to go on it can be nothing else."""
    return bool(select.select([self._connection], [], [], 0)[0])

  def close(self) -> None:
    self._file.close()
    self._connection.close()


def _gather(hosts: Sequence[str], hello: Dict[str, Any], deadline: float, timeout: float
            ) -> Dict[int, _Line]:
  """Of worker 0: the connections, when all are there. The port is free again then."""
  lines: Dict[int, _Line] = {}
  quiet_until = time.monotonic() + _QUIET
  with _listening(hosts, 0) as server:
    while True:
      lines = {worker: line for worker, line in lines.items() if not line.speaks()}
      missing = [worker for worker in range(1, len(hosts)) if worker not in lines]
      if not missing:
        break
      if time.monotonic() > deadline:
        error = LostError(_never_came(hosts, missing, timeout))
        _dismiss(lines, error)
        raise error
      if time.monotonic() > quiet_until:
        print(f'Waiting for {_named(hosts, missing)}', file=sys.stderr, flush=True)
        quiet_until = deadline
      with contextlib.suppress(OSError, ValueError):
        line = _Line(server.accept()[0])
        answer = line.receive(timeout=_QUIET)
        if _is_hello(answer) and answer['worker'] in missing:
          lines[answer['worker']] = line
          _require_same(answer, hello, lines)
  for line in lines.values():
    line.send(dict(go=True))
  return lines


def _is_hello(message: Dict[str, Any]) -> bool:
  """Whether it is of a worker: anything may come in at a port."""
  return (type(message.get('worker')) is int and isinstance(message.get('workers'), list)
          and isinstance(message.get('what'), dict))


def _listening(hosts: Sequence[str], index: int) -> socket.socket:
  """At the port of a worker, which is nobody else's: nor of one that was given its place."""
  port, both = int(hosts[index].rpartition(':')[2]), socket.has_dualstack_ipv6()
  try:
    server = socket.create_server(
        ('', port), family=socket.AF_INET6 if both else socket.AF_INET, backlog=128,
        dualstack_ipv6=both)
  except OSError as error:
    raise UserError(
        f'Port {port} of worker {index} cannot be used ({os.strerror(error.errno)}): choose '
        'another one in --worker_hosts (TF_CONFIG), if no other process was started as this '
        'worker.') from error
  server.settimeout(_RETRY)
  return server


def _join(hosts: Sequence[str], hello: Dict[str, Any], deadline: float, timeout: float
          ) -> _Line:
  """Of the others: the connection to worker 0, when all are there."""
  host, _, port = hosts[0].rpartition(':')
  while time.monotonic() < deadline + GRACE:   # worker 0 says first who is missing
    try:
      line = _Line(socket.create_connection((host.strip('[]'), int(port)), _QUIET))
      line.send(hello)
      answer = line.receive(timeout=timeout + GRACE)   # it may have come just now
      if answer.get('go'):
        return line
      error = LostError(str(answer['end']))
      error.exit_code = int(answer['code'])
      raise error
    except (OSError, ValueError, KeyError, TypeError):
      time.sleep(_RETRY)   # it is not there yet, or it is one that is about to end
  raise LostError(_never_came(hosts, [0], timeout))


def _require_same(answer: Dict[str, Any], hello: Dict[str, Any], lines: Dict[int, _Line]
                  ) -> None:
  """Raises: UserError: when a worker was started for something else."""
  def values(message):
    return {'the list of workers': message['workers'], **message['what']}
  own, others = values(hello), values(answer)
  for name in own:
    if own[name] != others.get(name):
      error = UserError(
          f'Worker {answer["worker"]} was started with {name} {others.get(name)}, worker 0 '
          f'with {own[name]}: start all with the same command.')
      _dismiss(lines, error)
      raise error


def _dismiss(lines: Dict[int, _Line], error: UserError) -> None:
  for line in lines.values():
    with contextlib.suppress(OSError):
      line.send(dict(end=str(error), code=error.exit_code))
    line.close()


def _never_came(hosts: Sequence[str], missing: List[int], timeout: float) -> str:
  name = _named(hosts, missing)
  return (f'{name[0].upper()}{name[1:]} did not come within {timeout:g} s: start all workers, '
          'with the same --worker_hosts (TF_CONFIG), or give them more time by '
          '--worker_timeout.')


def _named(hosts: Sequence[str], workers: List[int]) -> str:
  return ', '.join(f'worker {worker} ({hosts[worker]})' for worker in workers)
