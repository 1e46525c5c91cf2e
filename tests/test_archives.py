"""Reading sources that may be damaged or hostile."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile

import pytest

from data_scripts import archives
from data_scripts.archives import FolderSource, Limits, TarSource, ZipSource
from maml_tf.sources.image_set import DataError

FILES = {'b/2.txt': b'two', 'a/1.txt': b'one', 'a/3.txt': b'x' * 5000}


def make_zip(path, files=FILES, **options):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, **options) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return ZipSource(path)


def make_tar(path, files=FILES, mode='w'):
  with tarfile.open(path, mode) as archive:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return TarSource(path)


def make_folder(path, files=FILES):
  for name, data in files.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(data)
  return FolderSource(path)


def contents(source, names=None):
  items = list(source.read(source.names() if names is None else names))
  assert all(item.problem is None for item in items)
  return {item.name: item.data for item in items}


@pytest.mark.parametrize('make, name', [
    (make_folder, 'folder'), (make_zip, 'x.zip'), (make_tar, 'x.tar'),
    (lambda path: make_tar(path, mode='w:gz'), 'x.tar.gz'),
    (lambda path: make_tar(path, mode='w:xz'), 'x.tar.xz')])
def test_the_kinds_of_source_are_alike(tmp_path, make, name):
  source = make(tmp_path / name)
  assert sorted(source.names()) == sorted(FILES)
  assert contents(source) == FILES
  assert contents(source, ['b/2.txt']) == {'b/2.txt': b'two'}
  opened = archives.open_source(tmp_path / name)
  assert type(opened) is type(source) and contents(opened) == FILES


def test_what_systems_leave_behind_is_passed_over(tmp_path):
  junk = {'__MACOSX/a/._1.txt': b'', 'a/.DS_Store': b'', 'a/Thumbs.db': b''}
  for source in (make_zip(tmp_path / 'x.zip', {**FILES, **junk}),
                 make_tar(tmp_path / 'x.tar', {**FILES, **junk}),
                 make_folder(tmp_path / 'x', {**FILES, **junk})):
    assert sorted(source.names()) == sorted(FILES)


def test_a_leading_dot_is_no_part_of_a_name(tmp_path):
  source = make_tar(tmp_path / 'x.tar', {'./a/1.txt': b'one'})
  assert contents(source) == {'a/1.txt': b'one'}


@pytest.mark.parametrize('name', ['/etc/passwd', '../up', 'a/../../up', 'C:/x', 'a\\..\\b'])
@pytest.mark.parametrize('make, file', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_unsafe_names_are_refused(tmp_path, make, file, name):
  source = make(tmp_path / file, {**FILES, name: b'bad'})
  with pytest.raises(DataError, match='honest archive.*path'):
    source.names()


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
                                  tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
  with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
    info = tarfile.TarInfo('a/link')
    info.type, info.linkname = kind, '/etc/passwd'
    archive.addfile(info)
  with pytest.raises(DataError, match='a link or a device'):
    TarSource(tmp_path / 'x.tar').names()


def test_links_in_a_zip_are_refused(tmp_path):
  info = zipfile.ZipInfo('a/link')
  info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
  with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
    archive.writestr(info, '/etc/passwd')
  with pytest.raises(DataError, match='a link or a device'):
    ZipSource(tmp_path / 'x.zip').names()


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_member_that_is_there_twice_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
    archive.writestr('a', '1')
    archive.writestr('a', '2')
  with pytest.raises(DataError, match='there twice'):
    ZipSource(tmp_path / 'x.zip').names()


def test_an_encrypted_zip_is_refused(tmp_path):
  make_zip(tmp_path / 'x.zip', {'a': b'1'})
  data = bytearray((tmp_path / 'x.zip').read_bytes())
  data[data.index(b'PK\x01\x02') + 8] |= 1   # the flag in the central directory
  (tmp_path / 'x.zip').write_bytes(data)
  with pytest.raises(DataError, match='encrypted'):
    ZipSource(tmp_path / 'x.zip').names()


@pytest.mark.parametrize('suffix', ['.zip', '.tar', '.tar.gz'])
@pytest.mark.parametrize('content, message', [
    (b'', 'an empty file'), (b'<!DOCTYPE html><html>login</html>', 'a web page'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
    (b'not an archive at all', 'not a whole')])
def test_files_that_are_no_archive_are_named_for_what_they_are(tmp_path, suffix, content,
                                                               message):
  (tmp_path / f'x{suffix}').write_bytes(content)
  with pytest.raises(DataError, match=message):
    archives.open_source(tmp_path / f'x{suffix}').names()


def test_archives_cut_off_are_refused(tmp_path):
  make_zip(tmp_path / 'x.zip')
  make_tar(tmp_path / 'x.tar.gz', {'a': os.urandom(100_000)}, mode='w:gz')
  for name in ('x.zip', 'x.tar.gz'):
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:len(data) // 2])
    with pytest.raises(DataError, match='not a whole .*fetch it again'):
      archives.open_source(tmp_path / name).names()


def test_one_damaged_member_is_a_problem_of_that_member(tmp_path):
  make_zip(tmp_path / 'x.zip', {'a': os.urandom(1000), 'b': b'two'})
  data = bytearray((tmp_path / 'x.zip').read_bytes())
  data[500] ^= 255
  (tmp_path / 'x.zip').write_bytes(data)
  source = ZipSource(tmp_path / 'x.zip')
  items = {item.name: item for item in source.read(source.names())}
  assert items['a'].data is None and 'damaged in the archive' in items['a'].problem
  assert items['b'].data == b'two'


@pytest.mark.parametrize('make, name', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_bombs_are_refused_by_what_they_claim(tmp_path, make, name):
  make(tmp_path / name, {'a': b'0' * 600, 'b': b'0' * 600})
  with pytest.raises(DataError, match='unpacks to more than'):
    archives.open_source(tmp_path / name, Limits(total_bytes=1000)).names()
  with pytest.raises(DataError, match='more than 1 files'):
    archives.open_source(tmp_path / name, Limits(files=1)).names()


def test_a_file_over_the_limit_is_a_problem_of_that_file(tmp_path):
  for source in (make_zip(tmp_path / 'x.zip'), make_tar(tmp_path / 'x.tar'),
                 make_folder(tmp_path / 'x')):
    limited = archives.open_source(source.path, Limits(file_bytes=4000))
    problems = {item.name: item.problem for item in limited.read(limited.names())}
    assert problems['a/1.txt'] is None and 'larger than' in problems['a/3.txt']


def test_a_zip_that_lies_about_sizes_gives_no_more_than_it_claims(tmp_path):
  make_zip(tmp_path / 'x.zip', {'a': b'0' * 100_000})
  data = bytearray((tmp_path / 'x.zip').read_bytes())
  place = data.index(b'PK\x01\x02') + 24   # uncompressed size, central directory
  data[place:place + 4] = (10).to_bytes(4, 'little')
  (tmp_path / 'x.zip').write_bytes(data)
  item, = ZipSource(tmp_path / 'x.zip').read(['a'])
  assert item.data is None or len(item.data) <= 10


def test_links_in_a_users_folder_are_followed_without_end(tmp_path):
  make_folder(tmp_path / 'disk')
  (tmp_path / 'set').mkdir()
  (tmp_path / 'set' / 'images').symlink_to(tmp_path / 'disk' / 'a')
  (tmp_path / 'set' / 'loop').symlink_to(tmp_path / 'set')
  assert FolderSource(tmp_path / 'set').names() == ['images/1.txt', 'images/3.txt']


def test_pipes_and_dead_links_in_a_folder_are_problems(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'dead').symlink_to(tmp_path / 'nowhere')
  source = FolderSource(tmp_path)
  problems = {item.name: item.problem for item in source.read(source.names())}
  assert problems['pipe'] == 'not a regular file'
  assert 'cannot be read' in problems['dead']


def test_a_wrong_path_is_said(tmp_path):
  with pytest.raises(DataError, match='no file or folder'):
    archives.open_source(tmp_path / 'none')
  (tmp_path / 'x.rar').write_bytes(b'Rar!')
  with pytest.raises(DataError, match='neither a folder nor an archive'):
    archives.open_source(tmp_path / 'x.rar')
  with pytest.raises(DataError, match='cannot be listed'):
    FolderSource(tmp_path, below=('none',)).names()
