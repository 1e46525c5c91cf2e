"""Fetches files over HTTP: resumed, retried, checked, and whole or not there."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Union

from data_scripts import archives
from data_scripts.progress import ProgressBar
from maml_tf.sources.image_set import DataError

ATTEMPTS = 5              # in a row without any progress
MOST_ATTEMPTS = 30        # of one file, whatever the progress
TIMEOUT_S = 30.0          # of one network operation
LEAST_BYTES = 64 << 10    # that must come in each `TIMEOUT_S`
MAX_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 16
_USER_AGENT = 'maml-data-scripts/1.0'
# Server errors that may pass; any other status will be the same the next time.
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _BrokenOff(Exception):
  """The transfer ended early; another attempt may go on."""


class _RedirectsWithinHttp(urllib.request.HTTPRedirectHandler):
  """urllib follows redirections to FTP, too."""

  def redirect_request(self, request, response, code, message, headers, url):
    if urllib.parse.urlsplit(url).scheme not in ('http', 'https'):
      raise DataError(f'{request.full_url} could not be fetched: the server redirects to '
                      f'{url!r}, and only http and https are followed; check --base_url.')
    return super().redirect_request(request, response, code, message, headers, url)


_OPENER = urllib.request.build_opener(_RedirectsWithinHttp)


def fetch_all(base_url: str, md5s: Mapping[str, str], folder: Union[str, Path],
              pause: Callable[[float], None] = time.sleep) -> None:
  """Fetches files into a folder; those that are there and right are left alone.

  Args:
    base_url: http or https; a file's name is appended to it.
    md5s: {file name: MD5, 32 hexadecimal digits}.
    folder: where they go; made where it does not exist.
    pause: waits for a number of seconds between attempts.

  Raises:
    DataError: for a file that cannot be fetched or has another MD5.
  """
  if urllib.parse.urlsplit(base_url).scheme not in ('http', 'https'):
    raise DataError(f'--base_url={base_url} is not allowed: it must begin with http:// or '
                    'https://.')
  Path(folder).mkdir(parents=True, exist_ok=True)
  for name, md5 in md5s.items():
    fetch(f'{base_url.rstrip("/")}/{name}', Path(folder) / name, md5, pause)


def fetch(url: str, path: Path, md5: str,
          pause: Callable[[float], None] = time.sleep) -> None:
  """Fetches one file. It appears at `path` only when it is whole and right.

  Until then it is `path` + '.part'; a later call goes on from that.

  Args:
    url: http or https.
    path: where it goes. A file with the right MD5 there is left alone, one with
      another MD5 is replaced.
    md5: 32 hexadecimal digits.
    pause: waits for a number of seconds between attempts.

  Raises:
    DataError: for a file that cannot be fetched or has another MD5.
  """
  if path.is_file() and _md5(path) == md5:
    return
  part = path.with_name(path.name + '.part')
  was_resumed = part.exists() and part.stat().st_size > 0
  _fetch_part(url, part, pause)
  if was_resumed and _md5(part) != md5:   # the part may have been of another file
    part.unlink()
    _fetch_part(url, part, pause)
  received = _md5(part)
  if received != md5:
    with open(part, 'rb') as file:
      instead = archives.what_it_is_instead(file.read(512))
    part.unlink()
    detail = f'; it is {instead}' if instead else ''
    raise DataError(f'{url} has the MD5 {received}, and {md5} is expected{detail}: try again, '
                    'or fetch the file in another way and name its folder with --source.')
  os.replace(part, path)


def _fetch_part(url: str, part: Path, pause: Callable[[float], None]) -> None:
  """Fetches until the server has no more, going on wherever a transfer breaks off."""
  failures, most = 0, 0
  for attempt in itertools.count(1):
    try:
      _transfer(url, part)
      return
    except (_BrokenOff, OSError, http.client.HTTPException) as error:
      _raise_if_final(url, error)
      size = part.stat().st_size if part.exists() else 0
      failures = 1 if size > most else failures + 1
      most = max(most, size)
      if failures >= ATTEMPTS or attempt >= MOST_ATTEMPTS:
        raise DataError(f'{url} could not be fetched in {attempt} attempts ({error}): check '
                        'the network; the same command goes on where this one stopped, or '
                        'name files that you have with --source.') from error
      pause(min(2.0 ** failures, 30.0))


def _raise_if_final(url: str, error: Exception) -> None:
  if isinstance(error, urllib.error.HTTPError) and error.code not in _PASSING_STATUS:
    reason = ' '.join(str(error.reason).split())
    raise DataError(f'{url} could not be fetched: the server answers {error.code} '
                    f'({reason}); check --base_url, or fetch the file in another way and '
                    'name its folder with --source.') from error
  # Errors of the network are OSErrors too; those of the local disk have a file name.
  if isinstance(error, OSError) and error.filename is not None and not isinstance(
      error, urllib.error.URLError):
    raise error


def _transfer(url: str, part: Path) -> None:
  """One request, for what is still missing in `part`."""
  have = part.stat().st_size if part.exists() else 0
  headers = {'User-Agent': _USER_AGENT, 'Accept-Encoding': 'identity'}
  if have:
    headers['Range'] = f'bytes={have}-'
  try:
    response = _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
  except urllib.error.HTTPError as error:
    if error.code == 416 and have:   # nothing after `have`: whole, as the MD5 will tell
      error.close()
      return
    raise
  with response:
    is_continued = (response.status == 206 and
                    response.headers.get('Content-Range', '').startswith(f'bytes {have}-'))
    length = response.headers.get('Content-Length')
    _write_body(response, part, have if is_continued else 0,
                int(length) if length and length.isdigit() else None)


def _write_body(response, part: Path, start: int, length) -> None:
  received, pace = 0, _Pace()
  if start + (length or 0) > MAX_BYTES:
    raise _too_large(response.url)
  with open(part, 'ab' if start else 'wb') as file, ProgressBar(
      total=None if length is None else start + length, initial=start, unit='B',
      unit_scale=True, desc=part.stem, disable=None) as progress:
    # `read1` gives what has come; `read` would wait for all of a chunk.
    for chunk in iter(lambda: response.read1(_CHUNK_BYTES), b''):
      file.write(chunk)
      received += len(chunk)
      progress.update(len(chunk))
      if start + received > MAX_BYTES:
        raise _too_large(response.url)
      pace.check(received)
  if length is not None and received < length:
    raise _BrokenOff(f'{received} of {length} bytes came')


def _too_large(url: str) -> DataError:
  return DataError(f'{url} sends more than {MAX_BYTES >> 20} MiB, so it is not the file that '
                   'is expected: check --base_url.')


class _Pace:
  """Ends a transfer that trickles: a byte now and then is no timeout of the network."""

  def __init__(self):
    self._since, self._bytes = time.monotonic(), 0

  def check(self, received: int) -> None:
    """Raises _BrokenOff where too little came for too long."""
    now = time.monotonic()
    if now - self._since < TIMEOUT_S:
      return
    if received - self._bytes < LEAST_BYTES:
      raise _BrokenOff(f'only {received - self._bytes} bytes came in '
                       f'{now - self._since:.0f} seconds')
    self._since, self._bytes = now, received


def _md5(path: Path) -> str:
  # Not for security: it is the checksum that the archives were published with.
  digest = hashlib.md5(usedforsecurity=False)
  with open(path, 'rb') as file:
    for chunk in iter(lambda: file.read(1 << 20), b''):
      digest.update(chunk)
  return digest.hexdigest()
