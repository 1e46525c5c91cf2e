"""Pickles: plain arrays are read, and nothing in a pickle is ever executed."""

from __future__ import annotations

import datetime
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from data_scripts import npy_pickle
from maml_tf.errors import DataError

IMAGES = np.random.RandomState(0).randint(0, 256, (6, 4, 4, 3)).astype(np.uint8)


def load(folder, data):
  path = folder / 'x.pkl'
  path.write_bytes(data)
  return npy_pickle.load(path)


@pytest.mark.parametrize('protocol', range(6))
def test_arrays_of_every_protocol(tmp_path, protocol):
  content = {'image_data': IMAGES, 'class_dict': {'n1': [0, 1], 'n2': np.array([2, 3])},
             'fortran': np.asfortranarray(IMAGES), 'part': IMAGES[::2, 1:],
             'big-endian': np.arange(3, dtype='>i4'), 'float': np.array([0.5, -1]),
             'bool': np.array([True, False]), 'number': np.float64(2.5),
             'bytes': b'\x00\xff', 'tuple': (1, 'x', None, 1.5), 'empty': np.zeros((0, 2))}
  loaded = load(tmp_path, pickle.dumps(content, protocol))
  assert set(loaded) == set(content)
  for name in ('image_data', 'fortran', 'part', 'big-endian', 'float', 'bool', 'empty'):
    np.testing.assert_array_equal(loaded[name], content[name])
    assert loaded[name].dtype == content[name].dtype
  assert loaded['class_dict']['n1'] == [0, 1]
  assert loaded['class_dict']['n2'].tolist() == [2, 3]
  assert (loaded['number'], loaded['bytes'], loaded['tuple']) == (
      2.5, b'\x00\xff', (1, 'x', None, 1.5))


@pytest.mark.parametrize('protocol', range(6))
def test_arrays_beyond_a_short_text(tmp_path, protocol):
  """Long texts are looked through: they must be Latin-1. Every byte value occurs in them."""
  array = np.random.RandomState(1).randint(0, 256, 3 << 20).astype(np.uint8)
  loaded = load(tmp_path, pickle.dumps({'image_data': array, 'text': 'x' * 100_000}, protocol))
  np.testing.assert_array_equal(loaded['image_data'], array)
  assert loaded['text'] == 'x' * 100_000


def test_a_long_text_of_python_2(tmp_path):
  text = bytes(range(32, 127)) * 2000
  escaped = text.replace(b'\\', b'\\\\').replace(b"'", b"\\'")
  assert load(tmp_path, b"S'" + escaped + b"'\n.") == text.decode()


def python_2_pickle() -> bytes:
  """{'image_data': IMAGES} as Python 2 writes it, protocol 2: the bytes as a str."""
  text = IMAGES.tobytes()
  return (b'\x80\x02}U\x0aimage_datacnumpy.core.multiarray\n_reconstruct\n'
          b'cnumpy\nndarray\nK\x00\x85U\x01b\x87R'
          b'(K\x01(K\x06K\x04K\x04K\x03tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R'
          b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89'
          b'T' + struct.pack('<i', len(text)) + text + b'tbs.')


def test_a_pickle_of_python_2(tmp_path):
  np.testing.assert_array_equal(load(tmp_path, python_2_pickle())['image_data'], IMAGES)


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_pickle_of_numpy_2(tmp_path, protocol):
  data = pickle.dumps({'image_data': IMAGES}, protocol)
  # Protocol 4 and 5 give names a length byte.
  for module in (b'multiarray', b'numeric'):
    old, new = b'numpy.core.' + module, b'numpy._core.' + module
    data = data.replace(bytes([len(old)]) + old, bytes([len(new)]) + new).replace(old, new)
  if protocol >= 4:   # the frame has another length now
    place = data.index(b'\x95')
    data = data[:place] + data[place + 9:]
  assert b'numpy._core' in data
  np.testing.assert_array_equal(load(tmp_path, data)['image_data'], IMAGES)


class Hostile:

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def hostile_pickles(marker):
  command = f'touch {marker}'
  yield from (pickle.dumps({'image_data': Hostile(function, *arguments)}, protocol)
              for protocol in (0, 2, 5)
              for function, arguments in [
                  (os.system, (command,)), (eval, (f'open({str(marker)!r}, "w")',)),
                  (exec, (f'open({str(marker)!r}, "w")',)), (os.mkdir, (str(marker),)),
                  (np.fromfile, ('/etc/passwd',)), (np.load, ('x.npy',)),
                  (getattr, ('x', 'join')), (datetime.date, (2020, 1, 1))])
  yield b"cnumpy\nsave\n(V" + str(marker).encode() + b"\nI1\ntR."
  yield b'cnumpy.core.multiarray\n_reconstruct.__globals__\n.'
  yield b'\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.'
  yield b'Pmarker\n.'                                                # persistent id
  yield b'(inumpy.testing\nrundocs\n.'                               # old-style instance
  yield pickle.dumps(np.array([Hostile(os.system, command)], dtype=object))


def test_nothing_hostile_is_executed(tmp_path):
  marker = tmp_path / 'executed'
  for data in hostile_pickles(marker):
    with pytest.raises(DataError, match='nothing in it was executed'):
      load(tmp_path, data)
    assert not marker.exists()


DTYPE_STATE = b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'


def array_pickle(dtype=b'u1', state=DTYPE_STATE, shape=b'K\x02\x85',
                 content=b'U\x02ab'):
  """A pickle of one array, to be falsified part by part."""
  return (b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b'
          b'\x87R(K\x01' + shape + b'cnumpy\ndtype\nU' + bytes([len(dtype)]) + dtype +
          b'K\x00K\x01\x87R' + state + b'\x89' + content + b'tb.')


def test_the_array_that_is_falsified_below_is_good(tmp_path):
  assert load(tmp_path, array_pickle()).tolist() == [97, 98]


@pytest.mark.parametrize('falsified', [
    dict(dtype=b'O8'), dict(dtype=b'V2'), dict(dtype=b'M8'), dict(dtype=b'u1,O'),
    dict(state=b'(K\x03U\x01|NU\x01aNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb'),
    dict(state=b'(K\x03U\x01|K\x01NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb'),
    dict(state=b'(K\x03U\x01XNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'),
    dict(state=b'Nb'), dict(shape=b'K\x03\x85'), dict(shape=b'J\xff\xff\xff\xff\x85'),
    dict(shape=b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86'), dict(shape=b'U\x02ab'),
    dict(content=b'K\x02'), dict(content=b'N'), dict(content=b']K\x01a')])
def test_falsified_arrays_are_refused(tmp_path, falsified):
  with pytest.raises(DataError):
    load(tmp_path, array_pickle(**falsified))


@pytest.mark.parametrize('data', [
    b'cnumpy\ndtype\n}U\x04textU\x01xsb.',             # alters a stand-in
    b'cnumpy\ndtype\nN}U\x09_functionU\x01xs\x86b.',
    b'cnumpy\nndarray\n(tR.', b'cnumpy\nndarray\n.',
    b'cnumpy.core.multiarray\n_reconstruct\n)R.',        # never filled
    b'\x80\x02]q\x00h\x00a.',                           # a list that holds itself
    b'\x80\x02' + b']' * 50 + b'a' * 49 + b'.',           # deeply nested
    b'\x80\x04\x8f.',                                  # a set
    b'\x80\x04\x8e' + struct.pack('<Q', 2**60) + b'x.',     # more bytes than exist
    b'', b'.', b'garbage', b'\x80\x07N.', b'\x80\x02}'])
def test_strange_pickles_are_refused(tmp_path, data):
  with pytest.raises(DataError, match='fetch it again'):
    load(tmp_path, data)


def test_a_small_pickle_cannot_become_a_huge_structure(tmp_path):
  data, layers = b'\x80\x02]q\x00', 6
  for layer in range(layers):   # each list holds the one before it 200 times
    data += b'](' + b'h' + bytes([layer]) + (b'h' + bytes([layer])) * 199
    data += b'eq' + bytes([layer + 1])
  loaded = load(tmp_path, data + b'.')
  assert len(loaded) == 200 and loaded[0] is loaded[199]


def test_every_truncation_is_refused(tmp_path):
  data = pickletools.optimize(pickle.dumps({'image_data': IMAGES[:1], 'class_dict': {}}, 4))
  for length in range(1, len(data), 7):
    with pytest.raises(DataError):
      load(tmp_path, data[:length])


def test_a_web_page_is_named(tmp_path):
  with pytest.raises(DataError, match='a web page'):
    load(tmp_path, b'<html>Quota exceeded</html>')
