"""Downloads from a server on this machine that misbehaves in known ways."""

from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from data_scripts import downloads
from maml_tf.sources.image_set import DataError

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
  """

  def __init__(self):
    self.files, self.breaks, self.statuses, self.requests = {}, [], [], []
    self.ranges = True
    server = self

    class Handler(http.server.BaseHTTPRequestHandler):

      def do_GET(self):
        server.answer(self)

      def log_message(self, *_):
        pass

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
    request.send_header('Content-Length', str(len(body)))
    request.end_headers()
    request.wfile.write(body[:self.breaks.pop(0)] if self.breaks else body)

  def close(self):
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
