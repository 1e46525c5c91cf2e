"""Downloads from a server on this machine that misbehaves in known ways."""

from __future__ import annotations

import hashlib
import http.server
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from data_scripts import downloads
from maml_tf.sources.image_set import DataError

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
  """Serves files, and notes the requests.

  Attributes:
    files: {path: content}.
    breaks: for each of the next requests, after how many bytes it breaks off.
    statuses: for each of the next requests, the error it is answered with.
    ranges: whether it knows how to resume.
    requests: (path, Range header) of what was asked.
    redirects: {path: location}.
    lengths: for each of the next requests, the Content-Length it claims.
    pace: None, or (bytes, seconds): so many bytes at a time, and the pause after them.
  """

  def __init__(self):
    self.files, self.breaks, self.statuses, self.requests = {}, [], [], []
    self.ranges, self.redirects, self.lengths, self.pace = True, {}, [], None
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
    asked = request.headers.get('Range')
    self.requests.append((request.path, asked))
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
    start = int(asked[len('bytes='):-1]) if asked and self.ranges else 0
    if start >= len(content):
      request.send_error(416)
      return
    body = content[start:]
    request.send_response(206 if start else 200)
    if start:
      request.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
    length = self.lengths.pop(0) if self.lengths else len(body)
    request.send_header('Content-Length', str(length))
    request.end_headers()
    body = body[:self.breaks.pop(0)] if self.breaks else body
    size, pause = self.pace or (len(body) or 1, 0)
    try:
      for place in range(0, len(body), size):
        request.wfile.write(body[place:place + size])
        self._closing.wait(pause)
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
  downloads.fetch_all(server.url, {'x.zip': md5}, folder, pause=lambda _: None)


def test_a_file_is_fetched_once(server, tmp_path):
  fetch(server, tmp_path / 'new')
  assert (tmp_path / 'new' / 'x.zip').read_bytes() == CONTENT
  fetch(server, tmp_path / 'new')
  assert server.requests == [('/python/x.zip', None)]
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['x.zip']


@pytest.mark.parametrize('ranges', [True, False])
def test_a_transfer_that_breaks_off_goes_on(server, tmp_path, ranges):
  server.ranges, server.breaks = ranges, [100_000, 200_000]
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT
  assert [asked for _, asked in server.requests] == [
      None, 'bytes=100000-', 'bytes=300000-' if ranges else 'bytes=200000-']


def test_a_later_run_goes_on_from_the_part(server, tmp_path):
  (tmp_path / 'x.zip.part').write_bytes(CONTENT[:1234])
  fetch(server, tmp_path)
  assert server.requests == [('/python/x.zip', 'bytes=1234-')]
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('part', [CONTENT, CONTENT + b'more', b'of another file'])
def test_a_part_that_is_whole_or_wrong_ends_well(server, tmp_path, part):
  (tmp_path / 'x.zip.part').write_bytes(part)
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


def test_a_server_in_trouble_is_asked_again(server, tmp_path):
  server.statuses = [503, 500, 429]
  fetch(server, tmp_path)
  assert len(server.requests) == 4


def test_there_is_an_end_to_asking_again(server, tmp_path):
  server.statuses = [503] * 100
  with pytest.raises(DataError, match=f'in {downloads.ATTEMPTS} attempts.*503'):
    fetch(server, tmp_path)
  assert len(server.requests) == downloads.ATTEMPTS


def test_there_is_an_end_even_with_progress(server, tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, 'MOST_ATTEMPTS', 7)
  server.breaks = [1] * 100   # a byte for each attempt
  with pytest.raises(DataError, match='in 7 attempts'):
    fetch(server, tmp_path)
  assert len(server.requests) == 7
  assert (tmp_path / 'x.zip.part').read_bytes() == CONTENT[:7]
  assert not (tmp_path / 'x.zip').exists()


def test_a_server_that_falls_silent_is_asked_again(server, tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, 'TIMEOUT_S', 0.2)
  server.pace = (300_000, 30)
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT
  assert [asked for _, asked in server.requests] == [None, 'bytes=300000-']


def test_a_server_that_trickles_is_given_up(server, tmp_path, monkeypatch):
  """Each byte comes in time, and all of them would take for ever."""
  monkeypatch.setattr(downloads, 'TIMEOUT_S', 0.3)
  monkeypatch.setattr(downloads, 'MOST_ATTEMPTS', 2)
  server.pace = (1, 0.02)
  with pytest.raises(DataError, match=r'in 2 attempts \(only \d+ bytes came in 0 seconds\)'):
    fetch(server, tmp_path)
  assert 0 < (tmp_path / 'x.zip.part').stat().st_size < 100
  assert not (tmp_path / 'x.zip').exists()


def test_a_redirection_is_followed(server, tmp_path):
  server.redirects['/python/x.zip'] = '/elsewhere/y.zip'
  server.files['/elsewhere/y.zip'] = CONTENT
  server.breaks = [100_000]
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT
  assert server.requests[1::2] == [('/elsewhere/y.zip', None),
                                   ('/elsewhere/y.zip', 'bytes=100000-')]


@pytest.mark.parametrize('target', ['/python/x.zip', '/python/other'])
def test_redirections_in_a_circle_end(server, tmp_path, target):
  server.redirects = {'/python/x.zip': target, '/python/other': '/python/x.zip'}
  with pytest.raises(DataError, match='answers 302.*infinite loop.*--base_url'):
    fetch(server, tmp_path)
  assert len(server.requests) <= 12 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['file:///etc/passwd', 'ftp://127.0.0.1:9/x', 'data:,x'])
def test_redirections_to_other_things_are_refused(server, tmp_path, target):
  server.redirects['/python/x.zip'] = target
  with pytest.raises(DataError, match='(followed|is not allowed).*check --base_url'):
    fetch(server, tmp_path)
  assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


def test_too_few_bytes_for_the_length_are_asked_for_again(server, tmp_path):
  server.lengths = [len(CONTENT) + 1000]
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT
  # There is nothing after the whole file: its hash tells that it is whole.
  assert [asked for _, asked in server.requests] == [None, f'bytes={len(CONTENT)}-']


def test_too_many_bytes_for_the_length_are_noticed(server, tmp_path):
  server.lengths = [1000]
  with pytest.raises(DataError, match=f'{MD5} is expected'):
    fetch(server, tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_a_length_above_the_limit_is_refused_at_once(server, tmp_path):
  server.lengths = [downloads.MAX_BYTES + 1]
  with pytest.raises(DataError, match='sends more than 1024 MiB'):
    fetch(server, tmp_path)
  assert list(tmp_path.iterdir()) == []


FETCH = '''
import sys
from data_scripts import downloads
downloads.fetch_all(sys.argv[1], {'x.zip': sys.argv[2]}, sys.argv[3])
'''


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_download_that_is_killed_goes_on(server, tmp_path, number):
  server.pace = (100_000, 60)
  child = subprocess.Popen([sys.executable, '-c', FETCH, server.url, MD5, str(tmp_path)],
                           cwd=REPOSITORY, stderr=subprocess.PIPE)
  part, deadline = tmp_path / 'x.zip.part', time.monotonic() + 30
  while not (part.exists() and part.stat().st_size):
    assert child.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  child.send_signal(number)
  child.communicate(timeout=30)
  assert child.returncode != 0 and os.listdir(tmp_path) == ['x.zip.part']
  have, server.pace = part.stat().st_size, None
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT and os.listdir(tmp_path) == ['x.zip']
  assert server.requests[-1] == ('/python/x.zip', f'bytes={have}-')


def test_a_server_without_progress_is_given_up(server, tmp_path):
  server.breaks = [10] + [0] * 100
  with pytest.raises(DataError, match='attempts'):
    fetch(server, tmp_path)
  assert (tmp_path / 'x.zip.part').read_bytes() == CONTENT[:10]


@pytest.mark.parametrize('status', [404, 403])
def test_a_final_answer_is_not_asked_again(server, tmp_path, status):
  server.statuses = [status] * 10
  with pytest.raises(DataError, match=f'answers {status}.*--base_url'):
    fetch(server, tmp_path)
  assert len(server.requests) == 1


def test_nobody_there_is_a_sentence(tmp_path):
  with pytest.raises(DataError, match='could not be fetched in'):
    downloads.fetch_all('http://127.0.0.1:9', {'x.zip': MD5}, tmp_path, lambda _: None)


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
  with pytest.raises(DataError, match=f'MD5 {MD5}, and 0000.* is expected'):
    fetch(server, tmp_path, md5='0' * 32)
  assert list(tmp_path.iterdir()) == []


def test_a_web_page_is_named(server, tmp_path):
  server.files['/python/x.zip'] = b'<!DOCTYPE html><html>blocked</html>'
  with pytest.raises(DataError, match='it is a web page'):
    fetch(server, tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_replaced(server, tmp_path):
  (tmp_path / 'x.zip').write_bytes(b'damaged')
  fetch(server, tmp_path)
  assert (tmp_path / 'x.zip').read_bytes() == CONTENT


@pytest.mark.parametrize('url', ['file:///etc', 'ftp://x', 'x'])
def test_only_http_is_allowed(tmp_path, url):
  with pytest.raises(DataError, match='must begin with http'):
    downloads.fetch_all(url, {'x.zip': MD5}, tmp_path)


def test_more_than_the_limit_is_refused(server, tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, 'MAX_BYTES', 1000)
  with pytest.raises(DataError, match='not the file'):
    fetch(server, tmp_path)


def test_a_disk_that_cannot_be_written_is_not_the_networks_fault(server, tmp_path):
  (tmp_path / 'x.zip.part').mkdir()
  with pytest.raises(OSError, match='directory'):
    fetch(server, tmp_path)
