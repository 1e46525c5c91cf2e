"""Downloads from a server on this machine that misbehaves in known ways."""

from __future__ import annotations

import hashlib
import http.server
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pooch
import pytest

from data_scripts import downloads
from maml_tf.errors import DataError

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
  """Serves files, and notes the requests.

  Attributes:
    files: {path: content}.
    breaks: for each of the next requests, after how many bytes it breaks off.
    silences: for each of the next requests, after how many bytes it says no more.
    statuses: for each of the next requests, the error it is answered with.
    requests: the paths of what was asked.
    redirects: {path: location}.
  """

  def __init__(self):
    self.files, self.breaks, self.statuses, self.requests = {}, [], [], []
    self.silences, self.redirects = [], {}
    server = self

    class Handler(http.server.BaseHTTPRequestHandler):

      def do_GET(self):
        server.answer(self)

      def log_message(self, *_):
        pass

    self._closing = threading.Event()
    self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
    self._thread.start()
    self.url = f'http://127.0.0.1:{self._http.server_port}/python'

  def answer(self, request):
    self.requests.append(request.path)
    if self.statuses:
      request.send_error(self.statuses.pop(0))
      return
    if request.path in self.redirects:
      request.send_response(302)
      request.send_header('Location', self.redirects[request.path])
      request.end_headers()
      return
    content = self.files.get(request.path)
    if content is None:
      request.send_error(404)
      return
    request.send_response(200)
    request.send_header('Content-Length', str(len(content)))
    request.end_headers()
    try:
      if self.silences:
        request.wfile.write(content[:self.silences.pop(0)])
        self._closing.wait(60)
      else:
        request.wfile.write(content[:self.breaks.pop(0)] if self.breaks else content)
    except OSError:   # the client has gone
      pass

  def close(self):
    self._closing.set()
    self._http.shutdown()
    self._http.server_close()
    self._thread.join()


@pytest.fixture
def server():
  server = Server()
  server.files['/python/x.zip'] = CONTENT
  yield server
  server.close()


def fetch(server, folder, md5=MD5):
  downloads.fetch_all(server.url, {'x.zip': md5}, folder)


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
  """The seconds that pooch would have waited between attempts."""
  waited = []
  monkeypatch.setattr(pooch.core.time, 'sleep', waited.append)
  return waited


def test_a_file_is_fetched_once(server, tmp_path):
  fetch(server, tmp_path / 'new')
  assert (tmp_path / 'new' / 'x.zip').read_bytes() == CONTENT
  fetch(server, tmp_path / 'new')
  assert server.requests == ['/python/x.zip']
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['x.zip']


def test_each_attempt_is_said_and_nothing_else(server, tmp_path, capsys):
  """Without a terminal, too: not half a minute of silence."""
  server.statuses = [503]
  fetch(server, tmp_path)
  out, err = capsys.readouterr()
  assert out == '' and err.splitlines() == [
      f'Fetching {server.url}/x.zip',
      f'Fetching {server.url}/x.zip again: attempt 2 of {downloads.ATTEMPTS}']
  fetch(server, tmp_path)
  assert capsys.readouterr() == ('', '')   # it is there


def test_a_transfer_that_breaks_off_is_begun_again(server, tmp_path, pauses):
  server.breaks = [100_000, 200_000]
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT
  assert len(server.requests) == 3 and len(pauses) == 2


def test_a_server_in_trouble_is_asked_again(server, tmp_path):
  server.statuses = [503, 429]
  fetch(server, tmp_path)
  assert len(server.requests) == 3


def test_there_is_an_end_to_asking_again(server, tmp_path):
  server.breaks = [10] * 100
  with pytest.raises(DataError, match=f'in {downloads.ATTEMPTS} attempts.*--source'):
    fetch(server, tmp_path)
  assert len(server.requests) == downloads.ATTEMPTS
  assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent_is_asked_again(server, tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, 'TIMEOUT_S', 0.2)
  server.silences = [300_000]
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT and len(server.requests) == 2


def test_a_redirection_is_followed(server, tmp_path):
  server.redirects['/python/x.zip'] = '/elsewhere/y.zip'
  server.files['/elsewhere/y.zip'] = CONTENT
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('target', [
    '/python/x.zip', 'file:///etc/passwd', 'ftp://127.0.0.1:9/x', 'data:,x'])
def test_redirections_in_a_circle_or_to_other_things_are_refused(server, tmp_path, target):
  server.redirects['/python/x.zip'] = target
  with pytest.raises(DataError, match='could not be fetched.*--base_url'):
    fetch(server, tmp_path)
  assert list(tmp_path.iterdir()) == []


FETCH = '''
import sys
from data_scripts import downloads
downloads.fetch_all(sys.argv[1], {'x.zip': sys.argv[2]}, sys.argv[3])
'''


def _size_of(path) -> int:
  try:
    return path.stat().st_size
  except FileNotFoundError:   # with a file that comes and goes pooch tries the folder
    return 0


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_is_killed_leaves_no_file_of_that_name(server, tmp_path, number):
  server.silences = [100_000]
  with subprocess.Popen([sys.executable, '-c', FETCH, server.url, MD5, str(tmp_path)],
                        cwd=REPOSITORY, stderr=subprocess.PIPE) as child:
    deadline = time.monotonic() + 300
    while not any(map(_size_of, tmp_path.iterdir())):
      assert child.poll() is None and time.monotonic() < deadline
      time.sleep(0.01)
    child.send_signal(number)
    child.communicate(timeout=300)
  assert child.returncode != 0 and not (tmp_path / 'x.zip').exists()
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('status', [404, 403])
def test_the_server_s_answer_is_named(server, tmp_path, status):
  server.statuses = [status] * 10
  with pytest.raises(DataError, match=f'answers {status}.*--base_url'):
    fetch(server, tmp_path)


def test_nobody_there_is_a_sentence(tmp_path):
  with pytest.raises(DataError, match='could not be fetched in') as error:
    downloads.fetch_all('http://127.0.0.1:9', {'x.zip': MD5}, tmp_path)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'<!DOCTYPE html><html>blocked</html>', CONTENT[:-1],
                                     CONTENT + b'x'])
def test_a_wrong_hash_leaves_nothing(server, tmp_path, content):
  server.files['/python/x.zip'] = content
  with pytest.raises(DataError, match=f'is not the file that is expected .*{MD5}') as error:
    fetch(server, tmp_path)
  assert '\n' not in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_replaced(server, tmp_path):
  (tmp_path / 'x.zip').write_bytes(b'damaged')
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('url', ['file:///etc', 'ftp://x', 'x', 'http://', 'http:///x',
                                 'http://[::1', 'http://x:99999', 'http://x:y', 'http://x:0'])
def test_only_http_is_allowed(tmp_path, url):
  with pytest.raises(DataError, match='must begin with http'):
    downloads.fetch_all(url, {'x.zip': MD5}, tmp_path)


def test_a_disk_that_cannot_be_written_is_not_the_networks_fault(server, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError):
    fetch(server, tmp_path / 'file')
