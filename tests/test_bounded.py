"""Bounds on what reading a file may take; see also `test_hostile_files.py`."""

from __future__ import annotations

import pytest

from maml_tf import bounded


def test_json_within_the_bounds_is_read(tmp_path):
  path = tmp_path / 'x.json'
  path.write_bytes(b'{"a": [1, -2.5, null, "caf\xc3\xa9"]}')
  assert bounded.read_json(path) == {'a': [1, -2.5, None, 'caf\u00e9']}
  assert bounded.read_json(path, most=path.stat().st_size) == bounded.read_json(path)
  assert bounded.parse_json('1' * 1000) == int('1' * 1000)


@pytest.mark.parametrize('text, most, message', [
    ('[1, 2]', 5, 'larger than 5 bytes'), (b'[1, 2]', 5, 'larger than 5 bytes'),
    (' ' * (3 << 20), 2 << 20, 'larger than 2 MiB'), ('1' * 1001, 5000, '1001 digits'),
    ('[' * 100_000, 1 << 20, 'nested too deeply'), ('{', 10, 'line 1'),
    (b'\xff', 10, 'decode')])
def test_other_json_is_refused(text, most, message):
  with pytest.raises(ValueError, match=message):
    bounded.parse_json(text, most)


def test_no_read_of_a_file_is_larger_than_the_bound(tmp_path):
  (tmp_path / 'x').write_bytes(b'0123456789')
  with bounded.BoundedReads(tmp_path / 'x', most=10) as file:
    assert file.read() == b'0123456789'
    file.seek(4)
    assert file.read(3) == b'456'
    file.most = 5
    assert file.read() == b'789'
    file.seek(0)
    for size in (6, -1, None):
      with pytest.raises(bounded.TooLargeError, match='larger than 5 bytes'):
        file.read(size)
      file.seek(0)
    file.most = None
    assert file.read() == b'0123456789'
