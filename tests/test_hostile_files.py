"""Files made to take memory: each is refused, in a process that may take 1 GiB more.

All of them are read by one process. It prints what became of each file. A file that
got its way would end in a MemoryError, and not in the sentence that is expected.
"""

from __future__ import annotations

import binascii
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

import flags
from data_scripts import archives, images, npy_pickle, prepare_miniimagenet
from data_scripts.problems import Problems
from maml_tf import config
from maml_tf.errors import DataError
from maml_tf.legacy import golden
from maml_tf.sources import image_set

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BOUND = 1 << 30

READER = '''
import pathlib, resource, sys
from data_scripts import archives, images, npy_pickle
from maml_tf import config
from maml_tf.errors import DataError
from maml_tf.legacy import golden
from maml_tf.sources import image_set

def read_archive(path):
  source = archives.open_source(path)
  problems = [item.problem for item in source.read(source.names())]
  raise DataError(f'not refused; {problems}')

READERS = {
    '.zip': read_archive, '.tar': read_archive, '.gz': read_archive, '.xz': read_archive,
    '.png': lambda path: images.omniglot_pixels(path.read_bytes(), 28, 'nearest'),
    '.jpg': lambda path: images.miniimagenet_pixels(path.read_bytes(), 84),
    '.own': lambda path: images.own_pixels(path.read_bytes(), 84, 3),
    '.pkl': npy_pickle.load,
    '.set': lambda path: image_set.load_split(path, 'omniglot', 'train'),
    '.json': lambda path: config.Config.from_json(path.read_text()),
    '.npz': lambda path: golden.read(str(path))}
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
  try:
    READERS[path.suffix](path)
    outcome = 'was read'
  except (image_set.DataError, images.ImageError, config.ConfigError,
          golden.GoldenError) as error:
    outcome = ascii(str(error))
  print(path.name, outcome, sep='\\t', flush=True)
'''


def sparse(path, start: bytes, size: int, end: bytes = b''):
  """A file of `size` bytes, zeros between start and end, that takes no place."""
  with open(path, 'wb') as file:
    file.write(start)
    file.truncate(size)
    file.seek(0, os.SEEK_END)
    file.write(end)


def tar_header(kind: bytes, size: int, name='a') -> bytes:
  info = tarfile.TarInfo(name)
  info.type, info.size = kind, size
  return info.tobuf(tarfile.GNU_FORMAT)


def with_sparse_map(entries: int) -> bytes:
  """The old GNU form of a file with holes, whose map goes on and on."""
  header = bytearray(tar_header(tarfile.GNUTYPE_SPARSE, 0))
  header[482] = 1   # the map goes on in the next block
  header[148:156] = b' ' * 8
  header[148:156] = b'%06o\0 ' % sum(header)
  block = bytearray(512)
  block[504] = 1
  return bytes(header) + bytes(block) * entries


def xz_of_large_dictionary() -> bytes:
  data = bytearray(lzma.compress(bytes(10240), preset=0))
  place, size = 12, (data[12] + 1) * 4   # the block header
  properties = data.index(b'\x21\x01', place) + 2
  data[properties] = 40                   # 4 GiB
  data[place + size - 4:place + size] = struct.pack(
      '<I', binascii.crc32(data[place:place + size - 4]))
  return bytes(data)


def zip_of(files, method=zipfile.ZIP_DEFLATED) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', method) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return buffer.getvalue()


def image_file(width, height, form) -> bytes:
  """A small file whose header promises width x height pixels."""
  buffer = io.BytesIO()
  Image.new('L', (1, 1)).save(buffer, form, **({'lossless': True} if form == 'WEBP' else {}))
  data = bytearray(buffer.getvalue())
  if form == 'PNG':
    data[16:24] = struct.pack('>II', width, height)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
  elif form == 'WEBP':
    place = data.index(b'VP8L') + 9
    data[place:place + 4] = struct.pack('<I', (width - 1) | (height - 1) << 14)
  else:
    place = data.index(b'\xff\xc0') + 5
    data[place:place + 4] = struct.pack('>HH', height, width)
  return bytes(data)


def large_tiff() -> bytes:
  buffer = io.BytesIO()
  Image.new('I', (8000, 8000)).save(buffer, 'TIFF', compression='tiff_adobe_deflate')
  return buffer.getvalue()


def npz_of(shape, size) -> bytes:
  """A golden file with one array, whose header promises `shape`."""
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      header, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
  return zip_of({'flags.npy': header.getvalue() + bytes(size)})


def zip_end(directory_bytes: int) -> bytes:
  return struct.pack('<4s4H2LH', b'PK\5\6', 0, 0, 1, 1, directory_bytes, 4, 0)


LONG_TEXT = b'\x80\x02X' + struct.pack('<I', 1 << 20) + b'a' * (1 << 20) + b'q\x00'
ENCODE = b'c_codecs\nencode\nq\x01'
PICKLES = {
    # A table of 2**31 places; the same in the text form.
    'place': (b'\x80\x02Nr\xff\xff\xff\x7f.', 'before it can have one'),
    'place as text': (b'Np2000000000\n.', 'before it can have one'),
    'negative place': (b'Np-1\n.', 'before it can have one'),
    'bytes': (b'\x80\x04\x8e' + struct.pack('<Q', 1 << 40) + b'x.', 'should follow'),
    'bytearray': (b'\x80\x05\x96' + struct.pack('<Q', 1 << 40) + b'x.', 'should follow'),
    'string': (b'\x80\x02T' + struct.pack('<i', -1) + b'x.', 'should follow'),
    'frame': (b'\x80\x04\x95' + struct.pack('<Q', 1 << 40) + b'N.', 'should follow'),
    'lists': (b'\x80\x02' + b']' * 2_000_000 + b'.', 'more than 1000000 instructions'),
    'sets': (b'\x80\x04' + b'\x8f' * 2_000_000 + b'.', 'instruction EMPTY_SET'),
    'long number': (b'\x80\x02\x8b' + struct.pack('<i', 5000) + bytes(5000) + b'.',
                    'number of 5000 bytes'),
    'long digits': (b'L' + b'1' * 100_000 + b'L\n.', 'very long number'),
    # A character beyond Latin-1 makes all the others four bytes long.
    'wide text': (b'\x80\x02X' + struct.pack('<I', 70_004) + b'a' * 70_000 +
                  '\U0001f600'.encode() + b'.', 'no Latin-1'),
    'wide text line': (b'V' + b'a' * 100_000 + b'\\U0001f600\n.', 'no Latin-1'),
    'texts': (b'\x80\x02' + (b'X' + struct.pack('<I', 60_000) + b'a' * 60_000 + b'0') * 300
              + b'N.', 'made of texts'),
    # 1 MiB of text, made into bytes 3,000 times; and into arrays.
    'copies': (LONG_TEXT + b'0' + ENCODE + b'0]' + b'h\x01h\x00X\x06\x00\x00\x00latin1\x86Ra' *
               3000 + b'.', 'same bytes many times'),
    'array copies': (
        LONG_TEXT + b'0](' +
        (b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
         b'(K\x01J\x00\x00\x10\x00\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R'
         b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89h\x00tb') * 3000 +
        b'e.', 'same bytes many times'),
}


def hostile_files(folder) -> dict[str, str]:
  """Writes them; {file name: what must be said of it}."""
  expected = {}

  def file(name, content, message):
    expected[name] = message
    if content is not None:
      (folder / name).write_bytes(content)

  sparse(folder / 'directory.zip', b'PK\3\4', 2 << 30, zip_end((2 << 30) - 4))
  file('directory.zip', None, 'table of contents is larger than 16 MiB')
  file('lzma.zip', zip_of({'a.png': b'1'}, zipfile.ZIP_LZMA), 'compressed by method 14')
  file('bomb.zip', zip_of({'a.png': bytes(100 << 20)}), 'larger than 64 MiB')
  for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
               tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
    name = f'header {kind.decode()}.tar'
    sparse(folder / name, tar_header(kind, 3 << 30), (3 << 30) + 1024)
    file(name, None, 'more attributes than any file')
  file('holes.tar.gz', gzip.compress(with_sparse_map(4000)), 'more attributes than any file')
  file('claim.tar.gz', gzip.compress(tar_header(tarfile.REGTYPE, 1 << 37)),
       'unpacks to more than')
  file('bomb.tar.gz', gzip.compress(
      tar_header(tarfile.REGTYPE, 100 << 20) + bytes((100 << 20) + 1024), 1),
       'larger than 64 MiB')
  file('dictionary.tar.xz', xz_of_large_dictionary(), 'asks for more than 128 MiB')
  file('huge.png', image_file(2**31 - 1, 2**31 - 1, 'PNG'), 'pixels')
  file('large.png', image_file(60_000, 1000, 'PNG'), '60000 x 1000 pixels, expected 105')
  file('huge.jpg', image_file(65_000, 65_000, 'JPEG'), 'more pixels than any image')
  file('large.jpg', image_file(9000, 9000, 'JPEG'), '9000 x 9000 pixels, more than any')
  file('huge.own', image_file(65_000, 65_000, 'JPEG'), 'more pixels than any image')
  file('large.own', image_file(9000, 9000, 'PNG'), '9000 x 9000 pixels, more than any')
  file('webp.own', image_file(8000, 8000, 'WEBP'), '8000 x 8000 pixels, more than any')
  file('as large as may be.own', large_tiff(), 'was read')
  for name, (content, message) in PICKLES.items():
    file(f'{name}.pkl', content, message)
  sparse(folder / 'size.pkl', b'\x80\x02', (2 << 30) + 1)
  file('size.pkl', None, 'no pickle of the data set has more than 2048 MiB')
  for name, start, size, message in (
      ('large', b'{', 4 << 30, 'larger than 8 MiB'),
      ('nested', b'[' * 1_000_000, 1_000_000, 'nested too deeply'),
      ('objects', b'{"a":' * 1_000_000, 5_000_000, 'nested too deeply'),
      ('digits', b'1' * 5_000_000, 5_000_000, 'a number of 5000000 digits')):
    (folder / f'{name}.set').mkdir()
    sparse(folder / f'{name}.set' / 'manifest.json', start, size)
    file(f'{name}.set', None, message)
  file('nested.json', b'[' * 1_000_000, 'nested too deeply')
  file('digits.json', b'1' * 1_000_000, 'a number of 1000000 digits')
  file('large.json', b' ' * (2 << 20), 'larger than 1 MiB')
  file('claim.npz', zip_of({'flags.npy': bytes(257 << 20)}), 'unpacks to more than 256 MiB')
  file('small_numbers.npz', npz_of((40 << 20,), 40 << 20), 'in float64 it has more than 256')
  file('shape.npz', npz_of((1 << 40,), 10), 'cannot be read as an npz file')
  file('lzma.npz', zip_of({'flags.npy': b'1'}, zipfile.ZIP_LZMA), 'compressed in another way')
  sparse(folder / 'directory.npz', b'PK\3\4', 2 << 30, zip_end((2 << 30) - 4))
  file('directory.npz', None, 'table of contents is larger than 4 MiB')
  return expected


@pytest.mark.skipif(not os.path.exists('/proc/self/statm'), reason='RLIMIT_AS is for Linux')
def test_hostile_files_are_refused_within_1_gib(tmp_path):
  files = tmp_path / 'files'
  files.mkdir()
  expected = hostile_files(files)
  before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob('*'))
  done = subprocess.run(
      [sys.executable, '-c', READER, str(BOUND), str(files)], cwd=REPOSITORY, text=True,
      capture_output=True, check=False, env={**os.environ, 'OPENBLAS_NUM_THREADS': '1'})
  assert done.returncode == 0, done.stdout + done.stderr
  outcomes = dict(line.split('\t') for line in done.stdout.splitlines())
  assert set(outcomes) == set(expected)
  wrong = {name: (outcomes[name], message) for name, message in expected.items()
           if message not in outcomes[name]}
  assert not wrong
  assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob('*')) == before


def honest_files() -> dict[str, bytes]:
  """A whole file of every kind that is read."""
  tar = io.BytesIO()
  with tarfile.open(fileobj=tar, mode='w') as archive:
    for name in ('a/1.png', 'a/2.png'):
      info = tarfile.TarInfo(name)
      info.size = 5
      archive.addfile(info, io.BytesIO(b'image'))
  pictures = {}
  for form in ('PNG', 'JPEG'):
    buffer = io.BytesIO()
    Image.effect_noise((105, 105), 80).save(buffer, form)
    pictures[form] = buffer.getvalue()
  golden = io.BytesIO()
  np.savez_compressed(golden, flags='{}', inputa=np.zeros((1, 1, 2, 1)))
  return {
      'x.zip': zip_of({'a/1.png': b'image' * 20, 'a/2.png': b'image'}),
      'x.tar': tar.getvalue()[:4096], 'x.tar.gz': gzip.compress(tar.getvalue()),
      'x.tar.xz': lzma.compress(tar.getvalue()), 'x.png': pictures['PNG'],
      'x.jpg': pictures['JPEG'], 'x.npz': golden.getvalue(),
      'x2.pkl': pickle.dumps({'a': np.zeros((3, 2)), 'b': [1, 2, 'c']}, 2),
      'x5.pkl': pickle.dumps({'a': np.zeros((3, 2)), 'b': [1, 2, 'c']}, 5),
      'x.json': config.resolve({}).to_json().encode(),
      'x.flags': b'# comment\n--seed=3\n--logdir=x\n--max_pool=False\n'}


HONEST = honest_files()


def read_any(path):
  """Reads a file as the project does. Raises: what the user is told in a sentence."""
  if path.suffix in ('.zip', '.tar', '.gz', '.xz'):
    source = archives.open_source(path)
    assert all((item.data is None) != (item.problem is None)
               for item in source.read(source.names()))
  elif path.suffix == '.png':
    images.omniglot_pixels(path.read_bytes(), 28, 'nearest')
  elif path.suffix == '.jpg':
    images.miniimagenet_pixels(path.read_bytes(), 84)
  elif path.suffix == '.pkl':
    npy_pickle.load(path)
  elif path.suffix == '.npz':
    golden.read(str(path))
  elif path.suffix == '.json':
    config.Config.from_json(path.read_text(encoding='utf-8', errors='replace'))
  else:
    flags.parse(['main.py', f'--flagfile={path}'])


@hypothesis.given(
    st.sampled_from(sorted(HONEST)), st.lists(st.tuples(st.integers(0, 1 << 13),
                                                        st.integers(0, 255)), max_size=4),
    st.none() | st.integers(0, 1 << 13), st.binary(max_size=8))
@hypothesis.settings(max_examples=3 * hypothesis.settings.default.max_examples)
@pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::RuntimeWarning')
def test_whatever_is_damaged_ends_in_a_sentence(tmp_path_factory, name, changes, length,
                                                appended):
  """Bytes changed, cut off, appended: it is read, or refused as an error of the user's."""
  data = bytearray(HONEST[name])
  for place, value in changes:
    data[place % len(data)] = value
  path = tmp_path_factory.mktemp('damaged') / name
  path.write_bytes(bytes(data[:length]) + appended)
  try:
    read_any(path)
  except (DataError, images.ImageError, config.ConfigError, golden.GoldenError) as error:
    assert str(error)


def test_a_large_class_dict_is_not_made_into_numbers(tmp_path):
  """30 MB of indices in a pickle would be a gigabyte as Python's numbers."""
  path = tmp_path / 'mini-imagenet-cache-train.pkl'
  path.write_bytes(pickle.dumps({'image_data': np.zeros((1, 84, 84, 3), np.uint8),
                                 'class_dict': {'n1': np.zeros(30_000_000, np.int8)}}))
  content = npy_pickle.load(path)

  class Counted(np.ndarray):
    def __iter__(self):
      raise AssertionError('it goes through the indices')
  content['class_dict']['n1'] = content['class_dict']['n1'].view(Counted)
  with pytest.raises(prepare_miniimagenet._FormError, match='belong to no class'):
    prepare_miniimagenet._images_and_classes(content, 'train')


def test_a_prepared_array_with_another_kind_of_header_is_refused(sample_data, tmp_path):
  folder = tmp_path / 'set'
  shutil.copytree(sample_data('omniglot'), folder)
  sparse(folder / 'train.npy', b'\x93NUMPY\2\0' + struct.pack('<I', 3 << 30), 4 << 30)
  with pytest.raises(image_set.DataError, match='not of version 1.0'):
    image_set.load_split(folder, 'omniglot', 'train')


def test_what_is_read_is_what_is_shown(tmp_path):
  """A name in an archive, or in a folder, does not move the terminal's cursor."""
  problems = Problems()
  problems.add('a\x1b[2J\n\udcff.png', 'an empty file')
  with pytest.raises(DataError) as caught:
    problems.raise_if_any('It', 'look')
  last = str(caught.value).splitlines()[-1]
  assert last == r'  a\x1b[2J\n\udcff.png: an empty file'
  assert json.loads(json.dumps(last)) == last
