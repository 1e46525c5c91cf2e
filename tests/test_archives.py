"""Reading sources that may be damaged or hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import ntpath
import os
import pathlib
import stat
import subprocess
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from data_scripts import archives
from data_scripts.folder_source import FolderSource
from data_scripts.source_items import Limits
from data_scripts.tar_source import TarSource
from data_scripts.zip_source import ZipSource
from maml_tf.errors import DataError

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
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
    (lambda path: make_tar(path, mode='w:bz2'), 'x.tar.bz2'),
    (lambda path: make_tar(path, mode='w:xz'), 'x.tar.xz')])
def test_the_kinds_of_source_are_alike(tmp_path, make, name):
  source = make(tmp_path / name)
  assert sorted(source.names()) == sorted(FILES)
  assert contents(source) == FILES
  assert contents(source, ['b/2.txt']) == {'b/2.txt': b'two'}
  opened = archives.open_source(tmp_path / name)
  assert type(opened) is type(source) and contents(opened) == FILES


JUNK = ['__MACOSX/a/._1.txt', 'a/.DS_Store', 'a/Thumbs.db', 'a/THUMBS.DB', 'Icon\r',
        'a/Icon\r', 'a/.ipynb_checkpoints/1-checkpoint.txt', '.git/HEAD', '.git/a/logo.png',
        'a/.AppleDouble/1.txt', '.Trash-0/files/1.txt', 'a/@eaDir/1.txt/SYNOFILE_THUMB_M.jpg',
        '#recycle/1.txt', '@Recycle/1.txt', '$RECYCLE.BIN/1.txt', '$Recycle.Bin/S-1-5/1.txt',
        'System Volume Information/x', 'lost+found/1.txt', 'Desktop.ini',
        'a/__pycache__/1.pyc']


def test_what_systems_leave_behind_is_passed_over(tmp_path):
  junk = {name: b'junk' for name in JUNK}
  for source in (make_zip(tmp_path / 'x.zip', {**FILES, **junk}),
                 make_tar(tmp_path / 'x.tar', {**FILES, **junk}),
                 make_folder(tmp_path / 'x', {**FILES, **junk})):
    assert sorted(source.names()) == sorted(FILES)


def test_a_class_may_be_called_recycled(tmp_path):
  names = ['Recycled/1.txt', 'recycler/1.txt']
  assert make_folder(tmp_path / 'x', {name: b'' for name in names}).names() == names


def test_a_leading_dot_is_no_part_of_a_name(tmp_path):
  source = make_tar(tmp_path / 'x.tar', {'./a/1.txt': b'one'})
  assert contents(source) == {'a/1.txt': b'one'}


@pytest.mark.parametrize('name', ['/etc/passwd', '../up', 'a/../../up', 'C:/x', 'a\\..\\b',
                                  'a\x1b[2J', 'a\nb', f'{"a" * 501}'])
@pytest.mark.parametrize('make, file', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_unsafe_names_are_refused(tmp_path, make, file, name):
  source = make(tmp_path / file, {**FILES, name: b'bad'})
  with pytest.raises(DataError, match='honest archive.*path'):
    source.names()


@pytest.mark.parametrize('name', ['__MACOSX/../../up', '/.git/HEAD', '.git/../../up', '..',
                                  '.git\\..\\..\\up'])
@pytest.mark.parametrize('make, file', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_unsafe_names_are_refused_in_junk_as_well(tmp_path, make, file, name):
  with pytest.raises(DataError, match='honest archive.*path'):
    make(tmp_path / file, {**FILES, name: b'bad'}).names()


@pytest.mark.parametrize('make, file', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_separators_of_windows_are_taken_as_such(tmp_path, make, file):
  source = make(tmp_path / file,
                {name.replace('/', '\\'): data for name, data in FILES.items()})
  assert sorted(source.names()) == sorted(FILES) and contents(source) == FILES
  source = make(tmp_path / f'twice.{file}', {**FILES, 'a\\1.txt': b'another'})
  with pytest.raises(DataError, match='there twice'):
    source.names()


def test_one_file_is_read_bit_by_bit(tmp_path):
  for source in (make_zip(tmp_path / 'x.zip'), make_folder(tmp_path / 'x')):
    with source.opened('a/3.txt') as (file, size):
      assert size == 5000 and file.read(10) == b'x' * 10
      file.seek(0)
      assert file.read() == FILES['a/3.txt']
  with pytest.raises(DataError, match='unpack the archive, and name the folder'):
    make_tar(tmp_path / 'x.tar').opened('a/3.txt')
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(DataError, match='not a regular file'):
    with FolderSource(tmp_path).opened('pipe'):
      pass


def test_other_class_folders_of_imagenet_are_passed_over(tmp_path):
  make_folder(tmp_path / 'x', {f'train/{name}/1.txt': b'' for name in (
      'n00000001', 'n00000002', 'n00000003', 'other')})
  source = FolderSource(tmp_path / 'x', known=['n00000002', 'n00000009'])
  assert source.names() == ['train/n00000002/1.txt', 'train/other/1.txt']
  assert source.passed_over == ['train/n00000001', 'train/n00000003']
  assert len(FolderSource(tmp_path / 'x', known=['n00000009']).names()) == 4


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


def test_names_that_are_not_utf8_are_refused(tmp_path):
  """As bytes they pass; as text they end in an error where they are first used."""
  with tarfile.open(tmp_path / 'x.tar', 'w', format=tarfile.GNU_FORMAT) as archive:
    archive.addfile(tarfile.TarInfo(os.fsdecode(b'caf\xe9/1.png')))
  with pytest.raises(DataError, match=r"'caf\\udce9/1.png' \(a path with .*unprintable"):
    TarSource(tmp_path / 'x.tar').names()
  os.mkdir(tmp_path / os.fsdecode(b'caf\xe9'))
  (tmp_path / os.fsdecode(b'\xff.png')).write_bytes(b'')
  with pytest.raises(DataError, match=r"'caf\\udce9' \(a name with .*'\\udcff.png' \(a name"):
    FolderSource(tmp_path).names()


def test_names_may_have_other_spaces_and_joiners(tmp_path):
  """As macOS names screenshots, and as words of Persian are written."""
  names = ['Bild\xa01.png', 'Screenshot 7.35.14\u202fPM.png', 'مي\u200cخواهم.png']
  make_folder(tmp_path / 'set', dict.fromkeys(names, b'1'))
  make_zip(tmp_path / 'x.zip', dict.fromkeys(names, b'1'))
  assert set(names) <= set(FolderSource(tmp_path / 'set').names())
  assert ZipSource(tmp_path / 'x.zip').names() == names
  make_folder(tmp_path / 'bad', {'a\u202e.png': b'1'})   # turns what follows around
  with pytest.raises(DataError, match='unprintable'):
    FolderSource(tmp_path / 'bad').names()


def test_a_zip_need_not_say_that_its_names_are_utf8(tmp_path):
  for name in ('\xe9', '\u0414'):
    make_zip(tmp_path / 'x.zip', {'XX/1.png': b'1', 'said \xe9.png': b'2'})
    data = (tmp_path / 'x.zip').read_bytes()
    (tmp_path / 'x.zip').write_bytes(data.replace(b'XX', name.encode()))
    assert contents(ZipSource(tmp_path / 'x.zip')) == {
        f'{name}/1.png': b'1', 'said \xe9.png': b'2'}
  (tmp_path / 'x.zip').write_bytes(data.replace(b'XX', b'X\x82'))   # DOS's e with an accent
  assert 'X\xe9/1.png' in ZipSource(tmp_path / 'x.zip').names()


@pytest.mark.parametrize('make, file', [(make_zip, 'x.zip'), (make_tar, 'x.tar')])
def test_members_in_a_maze_are_refused(tmp_path, make, file):
  make(tmp_path / file, {'a/' * 32 + '1.png': b'1'})
  archives.open_source(tmp_path / file).names()
  make(tmp_path / file, {'a/' * 33 + '1.png': b'1'})
  with pytest.raises(DataError, match='more than 32 folders deep'):
    archives.open_source(tmp_path / file).names()


def test_members_without_a_name_are_refused(tmp_path):
  make_zip(tmp_path / 'x.zip', {'a': b'1'})
  data = (tmp_path / 'x.zip').read_bytes()
  (tmp_path / 'x.zip').write_bytes(data.replace(b'a', b'\0'))   # cut off at the null
  make_tar(tmp_path / 'x.tar', {'.': b'1'})
  for source in (ZipSource(tmp_path / 'x.zip'), TarSource(tmp_path / 'x.tar')):
    with pytest.raises(DataError, match=r'\(no name\)'):
      source.names()


def test_a_tar_with_holes_is_refused(tmp_path):
  info = tarfile.TarInfo('a')
  info.type = tarfile.GNUTYPE_SPARSE
  with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
    archive.addfile(info)
  with pytest.raises(DataError, match='a file with holes'):
    TarSource(tmp_path / 'x.tar').names()


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


def test_a_tar_that_ends_too_early_is_refused(tmp_path):
  """Between two members, where `tarfile` takes it for the end."""
  make_tar(tmp_path / 'x.tar')
  data = (tmp_path / 'x.tar').read_bytes()
  second = 2 * tarfile.BLOCKSIZE   # a member has a header and, here, one block
  damaged = bytearray(data)
  damaged[second + 150] ^= 1       # its checksum
  for content in (data[:second], bytes(damaged), data[:second + 100]):
    (tmp_path / 'x.tar').write_bytes(content)
    for read in (lambda source: source.names(), lambda source: list(source.read(['a/3.txt']))):
      with pytest.raises(DataError, match='breaks off, or is damaged, at byte'):
        read(TarSource(tmp_path / 'x.tar'))


def test_every_tar_cut_off_is_refused(tmp_path):
  make_tar(tmp_path / 'whole.tar')
  data = (tmp_path / 'whole.tar').read_bytes()
  end = data.rindex(b'x') // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE + tarfile.BLOCKSIZE
  packed = {'tar': data[:end], 'tar.gz': gzip.compress(data), 'tar.xz': lzma.compress(data),
            'tar.bz2': bz2.compress(data)}
  for suffix, content in packed.items():
    path = tmp_path / f'x.{suffix}'
    path.write_bytes(content if suffix != 'tar' else data)
    assert contents(TarSource(path)) == FILES
    for length in range(0, len(content), max(1, len(content) // 25)):
      path.write_bytes(content[:length])
      with pytest.raises(DataError, match='not a whole tar|an empty file'):
        source = TarSource(path)
        list(source.read(source.names()))


@pytest.mark.parametrize('suffix, compress', [('gz', gzip.compress), ('bz2', bz2.compress),
                                              ('xz', lzma.compress)])
def test_a_wrong_checksum_is_noticed(tmp_path, suffix, compress):
  make_tar(tmp_path / 'whole.tar')
  data = bytearray(compress((tmp_path / 'whole.tar').read_bytes()))
  data[{'gz': -8, 'bz2': -2, 'xz': -40}[suffix]] ^= 1
  (tmp_path / f'x.tar.{suffix}').write_bytes(data)
  with pytest.raises(DataError, match='not a whole tar'):
    TarSource(tmp_path / f'x.tar.{suffix}').names()


def test_an_xz_file_of_several_streams_is_read(tmp_path):
  make_tar(tmp_path / 'x.tar')
  data = (tmp_path / 'x.tar').read_bytes()
  packed = lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]) + bytes(4)
  (tmp_path / 'x.tar.xz').write_bytes(packed)
  assert contents(TarSource(tmp_path / 'x.tar.xz')) == FILES


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
  with pytest.raises(DataError, match='more than 1 files.* or unpack what belongs'):
    archives.open_source(tmp_path / name, Limits(files=1)).names()


@pytest.mark.parametrize('name', ['x.zip', 'x.tar.gz'])
def test_folders_in_an_archive_are_counted(tmp_path, name):
  """They unpack to nothing, but each of them takes memory."""
  if name == 'x.zip':
    make_zip(tmp_path / name, {f'{number}/': b'' for number in range(20)})
  else:
    with tarfile.open(tmp_path / name, 'w:gz') as archive:
      for number in range(20):
        info = tarfile.TarInfo(f'{number}')
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
  assert archives.open_source(tmp_path / name, Limits(files=20)).names() == []
  with pytest.raises(DataError, match='more than 19 files'):
    archives.open_source(tmp_path / name, Limits(files=19)).names()


def test_what_unpacks_without_end_is_ended(tmp_path):
  """A member that is passed over is unpacked, too."""
  info = tarfile.TarInfo('a')
  info.size = 3 << 20
  with tarfile.open(tmp_path / 'x.tar.gz', 'w:gz') as archive:
    archive.addfile(info, io.BytesIO(bytes(info.size)))
  source = TarSource(tmp_path / 'x.tar.gz', Limits(total_bytes=1 << 20))
  with pytest.raises(DataError, match='unpacks to more than 2 MiB'):
    list(source.read([]))


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


def test_links_out_of_a_folder_are_named(tmp_path):
  make_folder(tmp_path / 'disk')
  make_folder(tmp_path / 'set', {'4.txt': b'four'})
  (tmp_path / 'set' / 'images').symlink_to(tmp_path / 'disk' / 'a')
  (tmp_path / 'set' / 'more.txt').symlink_to(tmp_path / 'disk' / 'b' / '2.txt')
  (tmp_path / 'set' / 'again.txt').symlink_to('4.txt')   # not out of it
  source = FolderSource(tmp_path / 'set')
  assert contents(source)['more.txt'] == b'two' and contents(source)['again.txt'] == b'four'
  assert source.links_out == [f'images -> {tmp_path / "disk" / "a"}',
                              f'more.txt -> {tmp_path / "disk" / "b" / "2.txt"}']


def test_a_link_to_another_disk_of_windows_leads_out(monkeypatch):
  source = FolderSource('C:\\set')
  with monkeypatch.context() as patch:
    patch.setattr(os, 'path', ntpath)
    patch.setattr(os, 'sep', ntpath.sep)
    source._home = 'C:\\set'
    for target in ('D:\\more', 'C:\\set\\1', 'C:\\sets'):
      source._note_if_outside(SimpleNamespace(path=target), 'link')
  assert source.links_out == ['link -> D:\\more', 'link -> C:\\sets']


def test_a_maze_of_folders_is_refused(tmp_path):
  """Deeper than Python calls; and 25 folders with 2**24 paths through them."""
  folder = tmp_path / 'deep'
  for _ in range(40):
    folder = folder / 'a'
  folder.mkdir(parents=True)
  with pytest.raises(DataError, match='more than 32 folders deep'):
    FolderSource(tmp_path / 'deep').names()
  for number in range(25):
    (tmp_path / 'maze' / f'{number}').mkdir(parents=True)
    for link in 'ab':
      (tmp_path / 'maze' / f'{number}' / link).symlink_to(tmp_path / 'maze' / f'{number + 1}')
  with pytest.raises(DataError, match='more than 200 files and folders'):
    FolderSource(tmp_path / 'maze', below=['0'], limits=Limits(files=200)).names()


AS_NOBODY = '''
import os, sys
from data_scripts.folder_source import FolderSource
from maml_tf.errors import DataError
os.chdir(sys.argv[1])
if os.geteuid() == 0:   # root may read everything
  os.seteuid(65534)
source = FolderSource('.')
if len(sys.argv) > 2:
  print([item.problem for item in source.read(source.names())])
else:
  try:
    source.names()
  except DataError as error:
    print(error)
'''


def as_nobody(folder, *more) -> str:
  folder.chmod(0o755)
  return subprocess.run([sys.executable, '-c', AS_NOBODY, str(folder), *more], check=True,
                        cwd=REPOSITORY, capture_output=True, text=True).stdout


def test_all_unreadable_folders_are_named(tmp_path):
  names = 'acdefghi'
  make_folder(tmp_path / 'set', {f'{name}/1.txt': b'' for name in f'{names}b'})
  for name in names:
    (tmp_path / 'set' / name).chmod(0)
  try:
    message = as_nobody(tmp_path / 'set')
  finally:
    for name in names:
      (tmp_path / 'set' / name).chmod(0o700)
  listed = ', '.join(f"'{name}/' (Permission denied)" for name in names)
  assert f'{listed} cannot be used: make these readable' in message and "'b/'" not in message


def test_unreadable_files_are_problems_of_those_files(tmp_path):
  make_folder(tmp_path / 'set', {name: b'' for name in 'abc'})
  (tmp_path / 'set' / 'b').chmod(0)
  printed = as_nobody(tmp_path / 'set', 'read')
  assert printed.strip() == "[None, 'cannot be read: Permission denied', None]"


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
  with pytest.raises(DataError, match='No such file.*cannot be used'):
    FolderSource(tmp_path, below=('none',)).names()
