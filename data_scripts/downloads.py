"""Fetches files over HTTP, by pooch: checked, and whole or not there."""

from __future__ import annotations

import itertools
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Union

from maml_tf import outputs
from maml_tf.errors import DataError

ATTEMPTS = 3
TIMEOUT_S = 30.0   # of one network operation
_REMEDY = 'or fetch the file in another way and name its folder with --source.'


def fetch_all(base_url: str, md5s: Mapping[str, str], folder: Union[str, Path]) -> None:
  """Fetches files into a folder; those that are there and right are left alone.

  Each attempt is a line on standard error: without a network one lasts for seconds.

  Args:
    base_url: http or https; a file's name is appended to it.
    md5s: {file name: MD5, 32 hexadecimal digits}: the checksum that the archives were
      published with.
    folder: where they go; made where it does not exist.

  Raises:
    DataError: for a file that cannot be fetched or has another MD5.
  """
  if not _is_of_a_host(base_url):
    raise DataError(f'--base_url={base_url} is not allowed: it must begin with http:// or '
                    'https:// and the name of a host, as in http://localhost:8000/omniglot.')
  import pooch  # here: only those who download need it
  pooch.get_logger().setLevel('WARNING')
  store = pooch.create(
      path=folder, base_url=f'{base_url.rstrip("/")}/', retry_if_failed=ATTEMPTS - 1,
      registry={name: f'md5:{md5}' for name, md5 in md5s.items()})
  downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16,
                                    timeout=TIMEOUT_S)
  for name in md5s:
    _fetch(store, name, _announced(downloader))


def _is_of_a_host(url: str) -> bool:
  try:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme in ('http', 'https') and bool(parts.hostname) and parts.port != 0
  except ValueError:   # brackets that do not match, or a port that is none
    return False


def _announced(downloader: Callable) -> Callable:
  """The downloader of one file, which says before each attempt what is fetched."""
  attempts = itertools.count(1)

  def download(url, output_file, store):
    attempt = next(attempts)
    again = f' again: attempt {attempt} of {ATTEMPTS}' if attempt > 1 else ''
    outputs.say(f'Fetching {url}{again}')
    return downloader(url, output_file, store)
  return download


def _fetch(store, name: str, downloader) -> None:
  import requests
  url = store.get_url(name)
  try:
    store.fetch(name, downloader=downloader)
  except requests.HTTPError as error:
    reason = ' '.join(str(error.response.reason).split())
    raise DataError(f'{url} could not be fetched: the server answers '
                    f'{error.response.status_code} ({reason}); check --base_url, '
                    f'{_REMEDY}') from error
  except requests.RequestException as error:
    raise DataError(f'{url} could not be fetched in {ATTEMPTS} attempts '
                    f'({" ".join(str(error).split())}): check the network and --base_url, '
                    f'{_REMEDY}') from error
  except ValueError as error:   # of pooch: another hash
    raise DataError(f'{url} is not the file that is expected '
                    f'({str(error).split(". ")[0]}): check --base_url, {_REMEDY}') from error
