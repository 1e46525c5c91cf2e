"""Preparing Omniglot, from small made-up sources in every form; the real one at the end."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import zipfile

import half_prepared
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_scripts import make_sample_data, prepare_omniglot
from data_scripts.plan import Layout, split_at_random
from maml_tf.errors import DataError
from maml_tf.sources.image_set import SPLITS, load_split

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LAYOUT = Layout(train=8, val=3, test=4, images_per_class=3)
PARTS = prepare_omniglot.PARTS


@pytest.fixture(scope='module')
def zips(tmp_path_factory):
  folder = tmp_path_factory.mktemp('omniglot') / 'zips'
  make_sample_data.write_source('omniglot', folder, LAYOUT, seed=0)
  return folder


@pytest.fixture
def extracted(zips, tmp_path):
  for part in PARTS:
    with zipfile.ZipFile(zips / f'{part}.zip') as archive:
      archive.extractall(tmp_path / 'source')
  return tmp_path / 'source'


def prepare(source, out, *flags, layout=LAYOUT, **options) -> int:
  return prepare_omniglot.main([f'--source={source}', f'--out={out}', *flags], layout,
                               **options)


def failure(capsys, source, out, *flags, **options) -> str:
  """The message of a preparation that must fail and leave nothing."""
  assert prepare(source, out, *flags, **options) == 2
  assert not out.exists() and not list(out.parent.glob(f'.{out.name}*'))
  return capsys.readouterr().err


def whole_set(out):
  return {split: load_split(out, 'omniglot', split) for split in SPLITS}


def hashes(out):
  return [loaded.sha256 for loaded in whole_set(out).values()]


def drawings(folder):
  return sorted(folder.rglob('*.png'))


def test_the_images_are_those_of_the_files(zips, extracted, tmp_path, capsys):
  assert prepare(zips, tmp_path / 'out') == 0
  total = 0
  for split, loaded in whole_set(tmp_path / 'out').items():
    assert len(loaded.class_names) == LAYOUT.classes[split]
    assert set(loaded.class_counts.tolist()) == {LAYOUT.images_per_class}
    for start, name in zip(loaded.class_starts, loaded.class_names):
      files = sorted(extracted.glob(f'*/{name}/*.png'))
      for offset, file in enumerate(files):
        with Image.open(file) as image:
          # As the TF1 code does it: Lanczos asked for, nearest neighbour got.
          resized = image.resize((28, 28), resample=Image.Resampling.LANCZOS)
          expected = 255 - np.asarray(resized).astype(np.uint8) * 255
        np.testing.assert_array_equal(loaded.images[start + offset, :, :, 0], expected)
        total += 1
    assert set(np.unique(loaded.images)) == {0, 255}
    assert loaded.images.mean() < 128   # ink is 255, and there is less ink than paper
  assert total == 15 * 3
  printed = capsys.readouterr().out
  assert f'Next: python main.py --datasource=omniglot --data_dir={tmp_path / "out"}' in printed


def test_all_forms_of_the_source_give_the_same_set(zips, extracted, tmp_path):
  alphabets = tmp_path / 'alphabets'
  alphabets.mkdir()
  for part in PARTS:
    for alphabet in (extracted / part).iterdir():
      shutil.copytree(alphabet, alphabets / alphabet.name)
  sources = [zips, extracted, alphabets,
             ','.join(str(zips / f'{part}.zip') for part in PARTS),
             ','.join(str(extracted / part) for part in reversed(PARTS))]
  hashes = set()
  for number, source in enumerate(sources):
    assert prepare(source, tmp_path / f'out{number}') == 0
    prepared = whole_set(tmp_path / f'out{number}')
    hashes.add(tuple(loaded.sha256 for loaded in prepared.values()))
  assert len(hashes) == 1


def expected_hashes(zips, tmp_path):
  assert prepare(zips, tmp_path / 'expected') == 0
  return hashes(tmp_path / 'expected')


def one_packed(zips, extracted, target):
  shutil.copytree(extracted / PARTS[0], target / PARTS[0])
  shutil.copy(zips / f'{PARTS[1]}.zip', target)


def repository(zips, extracted, target):
  shutil.copytree(zips, target / 'python')
  (target / 'README.md').write_text('text')
  with zipfile.ZipFile(target / 'python' / 'images_background_small1.zip', 'w') as archive:
    archive.writestr('images_background_small1/x.png', b'not read')
  with zipfile.ZipFile(target / 'python' / 'strokes_background.zip', 'w') as archive:
    archive.writestr('strokes_background/x.txt', b'not read')


def fetched_twice(zips, extracted, target):
  target.mkdir()
  shutil.copy(zips / f'{PARTS[0]}.zip', target / f'{PARTS[0]} (1).zip')
  shutil.copy(zips / f'{PARTS[1]}.zip', target / f'{PARTS[1].upper()}.ZIP')


def short_numbers(zips, extracted, target):
  shutil.copytree(extracted, target)
  for folder in target.glob('*/*/character0*'):
    folder.rename(folder.with_name(folder.name.replace('character0', 'Character')))


def in_one_more_folder(zips, extracted, target):
  for part in PARTS:
    shutil.copytree(extracted / part, target / 'omniglot-py' / part / part)


def one_zip_in_a_folder(zips, extracted, target):
  target.mkdir()
  shutil.make_archive(str(target / 'omniglot'), 'zip', extracted)


def with_small_set(zips, extracted, target):
  shutil.copytree(extracted, target)
  shutil.copytree(extracted / PARTS[0], target / 'images_background_small1')


def resized(zips, extracted, target):
  """The TF1 code's omniglot_resized."""
  for file in drawings(extracted):
    path = target.joinpath(*file.relative_to(extracted).parts[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as image:
      image.resize((28, 28), resample=Image.Resampling.LANCZOS).save(path)


@pytest.mark.parametrize('make', [one_packed, repository, fetched_twice, short_numbers,
                                  in_one_more_folder, one_zip_in_a_folder, with_small_set,
                                  resized])
def test_other_shapes_of_a_whole_source_give_the_same_set(zips, extracted, tmp_path, make):
  make(zips, extracted, tmp_path / 'made')
  assert prepare(tmp_path / 'made', tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(zips, tmp_path)


def test_lists_of_paths_with_blanks_commas_and_home(zips, tmp_path, monkeypatch):
  shutil.copytree(zips, tmp_path / 'a,b')
  first, second = (tmp_path / 'a,b' / f'{part}.zip' for part in PARTS)
  monkeypatch.setenv('HOME', str(tmp_path))
  for number, source in enumerate((f'{first}, {second}', f'{first},{second}',
                                   '~/a,b', f'~/a,b/{PARTS[0]}.zip,~/a,b/{PARTS[1]}.zip')):
    assert prepare(source, tmp_path / f'out{number}') == 0
    assert hashes(tmp_path / f'out{number}') == hashes(tmp_path / 'out0')


def test_home_is_the_shells_in_every_path(zips, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path)
  assert prepare(zips, '~/out it') == 0
  assert f"--data_dir='{tmp_path}/home/out it'" in capsys.readouterr().out   # to be pasted
  whole_set(tmp_path / 'home' / 'out it')
  assert make_sample_data.main(['--datasource=omniglot', '--out=~/sample', '--classes=2,2,2',
                                '--images_per_class=2']) == 0
  whole_set(tmp_path / 'home' / 'sample')
  assert os.listdir(tmp_path) == ['home']
  with pytest.raises(SystemExit):
    prepare(zips, '~nobody-of-this-name/out')
  assert "there is no user '~nobody-of-this-name'" in capsys.readouterr().err
  with pytest.raises(SystemExit):
    prepare(zips, '')
  assert 'a path is missing' in capsys.readouterr().err
  assert prepare(zips, './~') == 0 and sorted(os.listdir(tmp_path)) == ['home', '~']


@pytest.mark.parametrize('name', ['[ab]', 'a\\b', '*?{}', os.fsdecode(b'caf\xe9'), 'a\nb',
                                  "it's"])
def test_any_name_of_a_folder_will_do(zips, tmp_path, name):
  shutil.copytree(zips, tmp_path / name)
  done = subprocess.run(
      [sys.executable, '-c', RUN.format(layout=LAYOUT), f'--source={tmp_path / name}',
       f'--out={tmp_path / name}.out'], cwd=REPOSITORY, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr
  whole_set(f'{tmp_path / name}.out')


RUN = '''
import sys
from data_scripts import prepare_omniglot
from data_scripts.plan import Layout, split_at_random
sys.exit(prepare_omniglot.main(sys.argv[1:], {layout!r}))
'''


def test_small_drawings_have_no_other_filter(zips, extracted, tmp_path, capsys):
  resized(zips, extracted, tmp_path / 'small')
  message = failure(capsys, tmp_path / 'small', tmp_path / 'out', '--image_filter=lanczos')
  assert '28 x 28 already' in message and 'leave --image_filter at nearest' in message
  file = drawings(tmp_path / 'small')[7]
  Image.new('1', (105, 105)).save(file)
  message = failure(capsys, tmp_path / 'small', tmp_path / 'out')
  assert '1 problem was' in message and '105 x 105 pixels, expected 28 x 28' in message


def test_what_is_missing_or_packed_too_deep_is_named(zips, extracted, tmp_path, capsys):
  shutil.rmtree(extracted / PARTS[1])
  for source in (extracted, zips / f'{PARTS[0]}.zip'):
    message = failure(capsys, source, tmp_path / 'out')
    assert f'holds {PARTS[0]} alone' in message and f'add {PARTS[1]}, packed or not' in message
    assert len(message.splitlines()) == 1
  shutil.make_archive(str(tmp_path / 'omniglot-master'), 'zip', zips)
  message = failure(capsys, tmp_path / 'omniglot-master.zip', tmp_path / 'out')
  assert '2 .zip' in message and 'archives in an archive are not opened' in message


def test_lanczos_gives_grey_levels_and_is_recorded(zips, tmp_path):
  assert prepare(zips, tmp_path / 'out', '--image_filter=lanczos') == 0
  assert len(np.unique(load_split(tmp_path / 'out', 'omniglot', 'train').images)) > 10
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert manifest['preparation'] == {
      'options': {'image_filter': 'lanczos', 'seed': 1}, 'skipped_files': [],
      'source_form': 'two zips', 'stored_modes': {}}


def test_the_split_is_random_fixed_and_follows_the_seed():
  names = [f'A/character{number:02}' for number in range(100)]
  split = split_at_random(names, 60, 10, 1)
  assert split == split_at_random(names[::-1], 60, 10, 1)
  assert sorted(sum(split.values(), [])) == names
  assert [len(split[part]) for part in SPLITS] == [60, 10, 30]
  assert split != split_at_random(names, 60, 10, 2)
  # These are promised: a prepared set is the same on every machine, for ever.
  assert split['val'] == PROMISED_VALIDATION_CLASSES


PROMISED_VALIDATION_CLASSES = [f'A/character{number:02}' for number in (
    1, 9, 31, 34, 37, 48, 51, 67, 90, 91)]


def test_a_second_run_finds_it_done(zips, tmp_path, capsys):
  assert prepare(zips, tmp_path / 'out') == 0
  stamp = (tmp_path / 'out' / 'train.npy').stat().st_mtime_ns
  assert prepare(tmp_path / 'gone', tmp_path / 'out') == 0
  assert 'already complete' in capsys.readouterr().out
  assert (tmp_path / 'out' / 'train.npy').stat().st_mtime_ns == stamp
  assert prepare(zips, tmp_path / 'out', '--seed=2') == 2
  assert "'seed': 2" in capsys.readouterr().err
  assert prepare(zips, tmp_path / 'out', '--seed=2', '--overwrite') == 0
  assert (tmp_path / 'out' / 'train.npy').stat().st_mtime_ns != stamp


def test_a_damaged_set_is_not_taken_for_done(zips, tmp_path, capsys):
  assert prepare(zips, tmp_path / 'out') == 0
  data = bytearray((tmp_path / 'out' / 'test.npy').read_bytes())
  data[-1] ^= 1
  (tmp_path / 'out' / 'test.npy').write_bytes(data)
  assert prepare(zips, tmp_path / 'out') == 2
  assert '--overwrite' in capsys.readouterr().err
  assert prepare(zips, tmp_path / 'out', '--overwrite') == 0
  whole_set(tmp_path / 'out')


def test_everything_that_is_wrong_is_reported_together(extracted, tmp_path, capsys):
  files = drawings(extracted)
  files[0].write_bytes(b'')
  files[1].write_bytes(b'<html>404</html>')
  files[2].write_bytes(files[2].read_bytes()[:100])
  damaged = bytearray(files[4].read_bytes())
  damaged[damaged.index(b'IDAT') + 20] ^= 1
  files[4].write_bytes(damaged)
  Image.new('1', (28, 28)).save(files[5])
  Image.new('RGB', (105, 105)).save(files[6], 'JPEG')
  files[9].unlink()
  shutil.rmtree(files[12].parent)
  message = failure(capsys, extracted, tmp_path / 'out')
  for expected in ('an empty file', 'a web page', 'cut off', '28 x 28 pixels, expected 105',
                   'not a PNG image', '2 images, expected 3', '14 characters, expected 15',
                   f'{files[12].parent.parent.name}/{files[12].parent.name}: missing'):
    assert expected in message
  for index in (0, 1, 2, 4, 5, 6):
    assert files[index].name in message
  assert '9 problems were found' in message and 'nothing was prepared' in message


def test_of_many_problems_all_are_in_a_list(zips, extracted, tmp_path, capsys):
  for file in drawings(extracted):
    file.write_bytes(b'')
  message = failure(capsys, extracted, tmp_path / 'out')
  complete = tmp_path / 'out-problems.txt'
  assert f'45 problems were found (the first 20 of them below, all of them in {complete})' in (
      message)
  assert message.count('an empty file') == 20
  lines = complete.read_text().splitlines()
  assert len(lines) == 45 and all(line.endswith('.png: an empty file') for line in lines)
  assert prepare(zips, tmp_path / 'out') == 0
  assert not complete.exists()


def test_a_list_that_cannot_be_written_is_shown(extracted, tmp_path, capsys):
  for file in drawings(extracted):
    file.write_bytes(b'')
  (tmp_path / 'out-problems.txt').mkdir()
  message = failure(capsys, extracted, tmp_path / 'out')
  assert message.count('an empty file') == 45


def test_leaving_drawings_out_is_not_offered(extracted, tmp_path, capsys):
  """A character has 20 of them, and the set is public."""
  drawings(extracted)[0].write_bytes(b'')
  assert '--skip_damaged' not in failure(capsys, extracted, tmp_path / 'out')
  with pytest.raises(SystemExit):
    prepare(extracted, tmp_path / 'out', '--skip_damaged')


@pytest.mark.parametrize('mode, form, reason', [
    ('I;16', 'PNG', "pixels of the kind 'I;16', not 8-bit"), ('F', 'TIFF', 'not a PNG image'),
    ('P', 'GIF', 'not a PNG image')])
def test_drawings_of_other_kinds_are_refused(extracted, tmp_path, capsys, mode, form, reason):
  file = drawings(extracted)[0]
  Image.new(mode, (105, 105)).save(file, form)
  message = failure(capsys, extracted, tmp_path / 'out')
  assert '1 problem was found' in message and f'{file.name}: {reason}' in message


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_what_is_transparent_in_a_drawing_is_paper(zips, extracted, tmp_path, mode):
  """All of it was ink: every drawing was the same one."""
  for file in drawings(extracted):
    with Image.open(file) as image:
      ink = ImageOps.invert(image.convert('L'))
    drawn = Image.new(mode, ink.size, 0)
    drawn.putalpha(ink)
    drawn.save(file)
  assert prepare(extracted, tmp_path / 'out') == 0
  assert hashes(tmp_path / 'out') == expected_hashes(zips, tmp_path)


def test_what_is_no_ink_on_paper_is_no_drawing(extracted, tmp_path, capsys):
  white, black, inverted = drawings(extracted)[:3]
  Image.new('1', (105, 105), 1).save(white)
  Image.new('1', (105, 105), 0).save(black)
  with Image.open(inverted) as image:
    image = ImageOps.invert(image.convert('L'))
  image.save(inverted)
  message = failure(capsys, extracted, tmp_path / 'out')
  assert '3 problems were found' in message
  for file, reason in ((white, 'one colour alone'), (black, 'one colour alone'),
                       (inverted, 'more black than white')):
    assert f'{file.name}: {reason}' in message


def test_an_alphabet_that_is_not_utf8_is_refused(extracted, tmp_path, capsys):
  alphabet = next((extracted / PARTS[0]).iterdir())
  alphabet.rename(alphabet.with_name(os.fsdecode(b'Br\xe9ton')))
  message = failure(capsys, extracted, tmp_path / 'out')
  assert 'a name with unprintable characters' in message and r'Br\udce9ton' in message


def test_links_out_of_the_source_are_mentioned(extracted, tmp_path, capsys):
  (extracted / PARTS[1]).rename(tmp_path / 'disk')
  (extracted / PARTS[1]).symlink_to(tmp_path / 'disk')
  assert prepare(extracted, tmp_path / 'out') == 0
  printed = capsys.readouterr().out
  alphabets = len(list((tmp_path / 'disk').iterdir()))
  assert alphabets and 'lead out of it' not in printed   # the part itself was asked for
  first = next((tmp_path / 'disk').iterdir())
  first.rename(tmp_path / 'moved')
  first.symlink_to(tmp_path / 'moved')
  assert prepare(extracted, tmp_path / 'other') == 0
  assert f'-> {tmp_path / "moved"}' in capsys.readouterr().out


def test_a_drawing_that_is_there_twice_is_reported(extracted, tmp_path, capsys):
  first = next((extracted / PARTS[0]).iterdir())
  shutil.copytree(first, extracted / PARTS[1] / first.name)
  assert 'there twice' in failure(capsys, extracted, tmp_path / 'out')


def test_a_drawing_outside_of_a_character_is_mentioned(zips, extracted, tmp_path, capsys):
  shutil.copy(drawings(extracted)[0], extracted / PARTS[0] / 'stray.png')
  assert prepare(extracted, tmp_path / 'out') == 0
  printed = capsys.readouterr().out
  assert f'not in a folder ALPHABET/characterNN: {PARTS[0]}/stray.png' in printed
  assert 'stray.png' in (tmp_path / 'out' / 'manifest.json').read_text()
  assert prepare(zips, tmp_path / 'other') == 0
  assert hashes(tmp_path / 'out') == hashes(tmp_path / 'other')


def test_archives_that_are_none_are_reported_together(tmp_path, capsys):
  (tmp_path / 'source').mkdir()
  (tmp_path / 'source' / f'{PARTS[0]}.zip').write_bytes(b'<html>')
  (tmp_path / 'source' / f'{PARTS[1]}.zip').write_bytes(b'PK\x03\x04 cut off')
  message = failure(capsys, tmp_path / 'source', tmp_path / 'out')
  assert 'a web page' in message and 'not a whole zip' in message


def test_an_unsafe_archive_is_refused(zips, tmp_path, capsys):
  shutil.copytree(zips, tmp_path / 'source')
  with zipfile.ZipFile(tmp_path / 'source' / f'{PARTS[0]}.zip', 'a') as archive:
    archive.writestr('../../A/character01/0001_01.png', b'')
  assert "a path with '..'" in failure(capsys, tmp_path / 'source', tmp_path / 'out')


@pytest.mark.parametrize('content, message', [
    ((), 'holds no drawings'), ((f'{PARTS[0]}.zip',), 'alone')])
def test_a_source_without_the_parts_is_refused(zips, tmp_path, capsys, content, message):
  (tmp_path / 'source').mkdir()
  for name in content:
    shutil.copy(zips / name, tmp_path / 'source')
  assert message in failure(capsys, tmp_path / 'source', tmp_path / 'out')


def test_a_small_set_is_not_omniglot(zips, tmp_path, capsys):
  message = failure(capsys, zips, tmp_path / 'out', layout=prepare_omniglot.LAYOUT)
  assert '15 characters, expected 1623' in message


def test_wrong_flags_exit_with_2(tmp_path, capsys):
  for flags in ([], ['--source=x', '--seed=-1'], ['--source=x', '--image_filter=box'],
                ['--source=x', '--sed=1']):
    with pytest.raises(SystemExit) as error:
      prepare_omniglot.main(flags)
    assert error.value.code == 2
  assert prepare(tmp_path / 'none', tmp_path / 'out') == 2
  assert 'no file or folder' in capsys.readouterr().err


@pytest.fixture
def server(zips):
  """A web server on this machine that offers the zips."""

  class Handler(http.server.SimpleHTTPRequestHandler):

    def __init__(self, *arguments):
      super().__init__(*arguments, directory=str(zips))

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    thread.join()


def md5s(folder):
  return {f'{part}.zip': hashlib.md5((folder / f'{part}.zip').read_bytes()).hexdigest()
          for part in PARTS}


def test_download_and_prepare(zips, server, tmp_path, capsys):
  arguments = [f'--out={tmp_path / "out"}', '--download', f'--base_url={server}']
  assert prepare_omniglot.main(arguments, LAYOUT, md5s(zips)) == 0
  whole_set(tmp_path / 'out')
  assert sorted(os.listdir(tmp_path / 'out-download')) == sorted(md5s(zips))
  arguments[0] = f'--out={tmp_path / "other"}'
  assert prepare_omniglot.main(arguments, LAYOUT, prepare_omniglot.DOWNLOADS) == 2
  assert 'is expected' in capsys.readouterr().err
  assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize('signal_number', [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_preparation_runs_again(zips, tmp_path, signal_number):
  code, message = half_prepared.interrupted('omniglot', LAYOUT, zips, tmp_path / 'out',
                                            signal_number)
  assert not (tmp_path / 'out').exists()
  if signal_number == signal.SIGINT:
    assert code == 130 and 'Interrupted' in message
    assert os.listdir(tmp_path) == []
  with pytest.raises(DataError, match='prepare_omniglot'):   # nothing trains on a half
    load_split(tmp_path / 'out', 'omniglot', 'train')
  assert prepare(zips, tmp_path / 'out') == 0
  whole_set(tmp_path / 'out')
  assert os.listdir(tmp_path) == ['out']


@pytest.mark.parametrize('command', [['data_scripts/prepare_omniglot.py'],
                                     ['-m', 'data_scripts.prepare_omniglot']])
def test_the_script_runs_both_ways(tmp_path, command):
  done = subprocess.run([sys.executable, *command, f'--source={tmp_path / "none"}',
                         f'--out={tmp_path / "out"}'],
                        cwd=REPOSITORY, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert 'no file or folder' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_the_real_omniglot(shared_data, tmp_path):
  assert prepare(shared_data / 'omniglot', tmp_path / 'out',
                 layout=prepare_omniglot.LAYOUT) == 0
  prepared = whole_set(tmp_path / 'out')
  assert {split: loaded.images.shape for split, loaded in prepared.items()} == {
      'train': (22000, 28, 28, 1), 'val': (2000, 28, 28, 1), 'test': (8460, 28, 28, 1)}
  assert {split: loaded.sha256[:16] for split, loaded in prepared.items()} == REAL_HASHES


# Of the set as it is prepared with seed 1 and nearest: its images were compared with
# the TF1 code's, which are among them bit for bit.
REAL_HASHES = {'train': '29b0f04905dd45ff', 'val': 'b9f0334a11cd8236',
               'test': '974a1746bb159bbb'}
