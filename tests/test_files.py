"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import signal

import pytest

from maml_tf import files
from maml_tf.files import WriteError, as_json, reported


@pytest.mark.parametrize('content', ['text, \u00e4\n', b'\x00bytes'])
def test_what_was_there_is_replaced(content, tmp_path):
  path = tmp_path / 'file'
  path.write_text('before')
  files.write_whole(str(path), content)
  assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
  assert os.listdir(tmp_path) == ['file']


def test_an_error_on_the_way_leaves_what_was_there(tmp_path):
  path = tmp_path / 'file'
  path.write_text('before')
  with pytest.raises(ZeroDivisionError):
    with files.whole_file(str(path)) as file:
      file.write('half')
      raise ZeroDivisionError
  assert path.read_text() == 'before'
  assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('before', [None, 'before'])
def test_a_full_disk_leaves_what_was_there(before, tmp_path, disk_limit):
  path = tmp_path / 'file'
  if before is not None:
    path.write_text(before)
  with disk_limit(1000), pytest.raises(WriteError) as error:
    with files.reported(str(path)):
      files.write_whole(str(path), 'x' * 100000)
  assert str(error.value).startswith(f'{path} cannot be written (File too large). Free')
  assert os.listdir(tmp_path) == ([] if before is None else ['file'])
  assert before is None or path.read_text() == before


def test_a_killed_process_leaves_what_was_there(tmp_path, forks):
  path = tmp_path / 'file'
  path.write_text('before')
  process = forks.start('faults:write_file_and_be_killed', tmp_path / 'output', str(path),
                        'after')
  assert process.wait() == -signal.SIGKILL
  assert path.read_text() == 'before'
  assert (tmp_path / f'file.{process.pid}.tmp').read_text() == 'after'


@pytest.mark.parametrize('number, advice', [
    (errno.EACCES, 'Take its write protection away'), (errno.EROFS, 'write protection'),
    (errno.ENOENT, 'Put its folder back'), (errno.ENOSPC, 'Free some space')])
def test_the_advice_is_for_what_happened(number, advice):
  with pytest.raises(WriteError, match=advice):
    with reported('x'):
      raise OSError(number, os.strerror(number))


def test_json_has_null_for_what_is_not_finite():
  """NaN and Infinity are no JSON: jq and JavaScript refuse them."""
  value = {'a': [1.5, math.nan, (math.inf,)], 2: -math.inf, 'text': 'nan', 'whole': 3}
  assert json.loads(as_json(value, 1), parse_constant=pytest.fail) == {
      'a': [1.5, None, [None]], '2': None, 'text': 'nan', 'whole': 3}


@pytest.mark.parametrize('size', [0, 10, 1 << 20, (5 << 19) + 1])
def test_a_file_is_hashed_piece_by_piece(size, tmp_path):
  content = bytes(range(256)) * (size // 256) + bytes(size % 256)
  (tmp_path / 'file').write_bytes(content)
  assert files.sha256_of_file(tmp_path / 'file') == hashlib.sha256(content).hexdigest()

  def few_at_a_time(chunk, place):   # as a descriptor may give them
    part = content[place:place + 100_000]
    chunk[:len(part)] = part
    return len(part)
  assert files.sha256_of(few_at_a_time) == hashlib.sha256(content).hexdigest()
